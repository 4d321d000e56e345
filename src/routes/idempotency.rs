//! `Idempotency-Key`: a caller's own name for a request, so that the same request sent twice is one.

use http::{HeaderMap, HeaderName, HeaderValue};
use utoipa::IntoParams;

use super::shapes;
use crate::http::ApiError;

/// What [`key_of`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it documents what is read")]
pub(crate) struct KeyParam {
    /// The caller's own name for the request; the same again stands for the same turn.
    #[param(rename = "Idempotency-Key", schema_with = shapes::idempotency_key)]
    key: Option<String>,
}

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

const KEY_BYTES_MAX: usize = 255;

/// # Errors
///
/// 400 when it is empty, too long, given twice, or has anything but visible ASCII in it.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<&HeaderValue>, ApiError> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let is_plain =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    if is_plain && keys.next().is_none() { Ok(Some(key)) } else { Err(ApiError::malformed_key()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(values: &[&str]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let key = key_of(&headers).map_err(|_| ())?;
        Ok(key.map(|key| key.to_str().unwrap().to_owned()))
    }

    #[test]
    fn b14_a_key_is_up_to_255_visible_characters_and_given_once() {
        assert_eq!(keys(&[]), Ok(None));
        let longest = "k".repeat(KEY_BYTES_MAX);
        for key in ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", &longest] {
            assert_eq!(keys(&[key]), Ok(Some(key.to_owned())));
        }
        for bad in ["", " ", "a b", "k\u{e9}", &format!("{longest}k")] {
            assert_eq!(keys(&[bad]), Err(()), "{bad:?}");
        }
        assert_eq!(keys(&["k", "k"]), Err(()));
    }
}
