//! Refusals that no request leads to, said as we say everything else (B12), as bytes for a connection that then ends.
//!
//! A connection above a cap never gets as far as hyper. What cannot be read as a request hyper refuses by itself, with a
//! bare status: the socket sends these words in place of that.

use http::HeaderMap;

use super::{
    error::{ApiError, Wire},
    headers::{close, dress, error_reply},
    request_id::RequestId,
};

/// Our words for hyper's refusal that begins with `head`; `None` if it is none that we know.
pub(crate) fn in_place_of(head: &[u8]) -> Option<Vec<u8>> {
    let error = match head.strip_prefix(b"HTTP/1.")?.get(2..5)? {
        b"400" => ApiError::unreadable(),
        b"414" => ApiError::uri_too_long(),
        b"431" => ApiError::head_too_large(),
        _ => return None,
    };
    Some(words(&error))
}

/// The whole reply for `error`; nobody had a chance to name the request.
pub(crate) fn words(error: &ApiError) -> Vec<u8> {
    let id = RequestId::choose(&HeaderMap::new(), false);
    let mut reply = error_reply(error, &id, Wire::OpenAi);
    dress(reply.headers_mut(), &id);
    close(reply.headers_mut());
    let (parts, body) = reply.into_parts();
    let body = body.into_whole();
    let mut words = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", parts.status, body.len()).into_bytes();
    for (name, value) in &parts.headers {
        words.extend_from_slice(name.as_str().as_bytes());
        words.extend_from_slice(b": ");
        words.extend_from_slice(value.as_bytes());
        words.extend_from_slice(b"\r\n");
    }
    words.extend_from_slice(b"\r\n");
    words.extend_from_slice(&body);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b12_a_refusal_of_hypers_becomes_one_of_ours_with_its_status() {
        for status in ["400 Bad Request", "414 URI Too Long", "431 Request Header Fields Too Large"] {
            let words =
                in_place_of(format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
            let words = String::from_utf8(words).unwrap();
            let (head, body) = words.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len())),
                "{head}"
            );
            assert!(head.contains("connection: close") && head.contains("x-request-id: "), "{head}");
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], "invalid_request");
        }
    }

    #[test]
    fn other_bytes_are_left_alone() {
        for head in
            ["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 500 Internal", "HTTP/1.", "data: HTTP/1.1 400"]
        {
            assert_eq!(in_place_of(head.as_bytes()), None, "{head:?}");
        }
    }
}
