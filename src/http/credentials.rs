//! Where a request says who is asking: one path for every way to say it.

use domain::secret::Secret;
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use super::error::ApiError;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The token a request carries in `Authorization: Bearer` or `X-Api-Key`; both are judged by the same authority.
///
/// # Errors
///
/// 401 when there is none or it is not a bearer token; 400 when the request carries two that differ, since two readers
/// could then disagree about who is asking.
pub(crate) fn token(headers: &HeaderMap) -> Result<Secret<String>, ApiError> {
    let mut found: Option<&str> = None;
    let bearers = headers.get_all(AUTHORIZATION).iter().map(|value| bearer(value.to_str().ok()?));
    let keys = headers.get_all(API_KEY).iter().map(|value| Some(value.to_str().ok()?.trim()));
    for presented in bearers.chain(keys) {
        let presented = presented.filter(|token| !token.is_empty()).ok_or_else(ApiError::unauthenticated)?;
        match found {
            Some(first) if first != presented => return Err(ApiError::two_credentials()),
            _ => found = Some(presented),
        }
    }
    found.map(|token| Secret::new(token.to_owned())).ok_or_else(ApiError::unauthenticated)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        token(&headers).map(Secret::into_inner).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn a16_both_headers_lead_to_the_same_token() {
        assert_eq!(read(&[("authorization", "Bearer abc")]), Ok("abc".to_owned()));
        assert_eq!(read(&[("authorization", "bearer  abc ")]), Ok("abc".to_owned()));
        assert_eq!(read(&[("x-api-key", "abc")]), Ok("abc".to_owned()));
        assert_eq!(read(&[("x-api-key", "abc"), ("authorization", "Bearer abc")]), Ok("abc".to_owned()));
    }

    #[test]
    fn a16_two_different_credentials_are_refused_as_a_malformed_request() {
        assert_eq!(read(&[("x-api-key", "abc"), ("authorization", "Bearer abd")]), Err(400));
        assert_eq!(read(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]), Err(400));
    }

    #[test]
    fn no_credentials_or_another_scheme_is_unauthenticated() {
        for lines in [
            &[][..],
            &[("authorization", "Basic YTpi")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(read(lines), Err(401), "{lines:?}");
        }
    }
}
