//! Pictures and sounds, which a request carries itself. An address is never followed: whoever could have us fetch it would see
//! what only we can reach.

use domain::chat::{ChatMessage, limits};

use super::{bounded, is_base64};
use crate::http::ApiError;

/// The base64 of a `data:` URI whose type is of this `family` (`image`).
///
/// # Errors
///
/// 400 naming `param` for any other address, type or encoding.
pub(crate) fn of_data_uri(
    mut uri: String,
    family: &str,
    param: impl FnOnce() -> String,
) -> Result<String, ApiError> {
    let data_at = uri.split_once(',').and_then(|(head, _)| {
        let (scheme, kind) = head.split_once(':')?;
        let (kind, encoding) = kind.rsplit_once(';')?;
        let is_ours = scheme.eq_ignore_ascii_case("data")
            && encoding.trim().eq_ignore_ascii_case("base64")
            && kind.split('/').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(family));
        is_ours.then_some(head.len() + 1)
    });
    let Some(data_at) = data_at else {
        let wanted =
            format!("this must be a `data:{family}/…;base64,…` URI; nothing is fetched from elsewhere");
        return Err(ApiError::invalid(wanted).at(param()));
    };
    of_base64(uri.split_off(data_at), param)
}

/// What is base64 already.
///
/// # Errors
///
/// 400 naming `param` when it is not.
pub(crate) fn of_base64(text: String, param: impl FnOnce() -> String) -> Result<String, ApiError> {
    if is_base64(&text) {
        Ok(text)
    } else {
        Err(ApiError::invalid("this is not standard base64").at(param()))
    }
}

/// # Errors
///
/// 400 when all `messages` together carry too many of them.
pub(crate) fn check_count(messages: &[ChatMessage]) -> Result<(), ApiError> {
    bounded("messages", messages.iter().map(|message| message.images.len()).sum(), 0, limits::IMAGES)
}

#[cfg(test)]
mod tests {
    use domain::chat::Role;

    use super::*;

    fn read(uri: &str) -> Option<String> {
        of_data_uri(uri.to_owned(), "image", || "at".to_owned()).ok()
    }

    #[test]
    fn g11_only_a_pictures_own_bytes_are_taken_and_no_address_is() {
        for uri in
            ["data:image/png;base64,AAAA", "DATA:Image/PNG;charset=x;Base64,AAAA", "data:image/*;base64,AAAA"]
        {
            assert_eq!(read(uri).as_deref(), Some("AAAA"), "{uri}");
        }
        for uri in [
            "http://169.254.169.254/latest/meta-data",
            "https://example.org/a.png",
            "https://example.org/data:image/png;base64,AAAA",
            "file:///etc/passwd",
            "data:image/png,AAAA",
            "data:image/png;base64,",
            "data:image/png;base64,not base64",
            "data:text/html;base64,AAAA",
            "data:;base64,AAAA",
            "AAAA",
            "",
        ] {
            let refused = of_data_uri(uri.to_owned(), "image", || "at".to_owned()).unwrap_err();
            assert_eq!(refused.status(), 400, "{uri}");
            assert_eq!(refused.object("r").param, Some("at"), "{uri}");
        }
    }

    #[test]
    fn pictures_are_counted_over_all_messages() {
        let message =
            ChatMessage { images: vec!["AAAA".to_owned()], ..ChatMessage::text(Role::User, "look") };
        let mut messages = vec![message.clone(); limits::IMAGES];
        assert!(check_count(&messages).is_ok());
        messages.push(message);
        assert_eq!(check_count(&messages).unwrap_err().status(), 400);
    }
}
