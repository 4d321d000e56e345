//! Where a request says who is asking: one path for every way to say it.

use domain::secret::Secret;
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use super::{browser, error::ApiError, path_key::PathKey};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A token, and how it came.
pub(crate) struct Presented {
    pub(crate) token: Secret<String>,
    /// The browser added it by itself: no script of a page needed to know it.
    pub(crate) is_by_cookie: bool,
}

/// The token a request carries in `Authorization: Bearer`, in `X-Api-Key`, in front of its path or, if those are read, in a
/// browser's cookie; all are judged by the same authority.
///
/// # Errors
///
/// 401 when there is none or it is not a bearer token; 400 when the request carries two that differ, since two readers
/// could then disagree about who is asking.
pub(super) fn presented(
    headers: &HeaderMap,
    in_path: Option<&PathKey>,
    reads_cookies: bool,
) -> Result<Presented, ApiError> {
    let mut found: Option<(&str, bool)> = None;
    let bearers = headers.get_all(AUTHORIZATION).iter().map(|value| bearer(value.to_str().ok()?));
    let keys = headers.get_all(API_KEY).iter().map(|value| Some(value.to_str().ok()?.trim()));
    let cookies = reads_cookies.then(|| browser::cookies(headers, browser::ACCESS)).into_iter().flatten();
    let shown = bearers.chain(keys).chain(in_path.map(|key| Some(key.reveal())));
    let shown = shown.map(|token| (token, false));
    for (token, is_by_cookie) in shown.chain(cookies.map(|token| (Some(token), true))) {
        let token = token.filter(|token| !token.is_empty()).ok_or_else(ApiError::unauthenticated)?;
        match found {
            Some((first, _)) if first != token => return Err(ApiError::two_credentials()),
            Some(_) => {}
            None => found = Some((token, is_by_cookie)),
        }
    }
    let (token, is_by_cookie) = found.ok_or_else(ApiError::unauthenticated)?;
    if in_path.is_some_and(|key| !key.is_well_formed()) {
        return Err(ApiError::unauthenticated());
    }
    Ok(Presented { token: Secret::new(token.to_owned()), is_by_cookie })
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
        let presented = presented(&headers, None, true).map_err(|error| error.status().as_u16())?;
        Ok(presented.token.into_inner())
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
    fn a14_a_cookie_counts_only_where_cookies_are_read_and_must_not_differ() {
        let cookie = ("cookie", "__Host-deepersensor=abc");
        assert_eq!(read(&[cookie]), Ok("abc".to_owned()));
        assert_eq!(read(&[cookie, ("authorization", "Bearer abd")]), Err(400));
        assert_eq!(read(&[cookie, ("cookie", "__Host-deepersensor=abd")]), Err(400));

        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.1.parse().unwrap());
        assert!(presented(&headers, None, true).unwrap_or_else(|_| panic!()).is_by_cookie);
        assert_eq!(presented(&headers, None, false).err().unwrap().status(), 401);
        headers.insert("x-api-key", "abc".parse().unwrap());
        assert!(!presented(&headers, None, true).unwrap_or_else(|_| panic!()).is_by_cookie);
    }

    #[test]
    fn a16_a_key_in_front_of_the_path_counts_like_any_other_and_only_a_key() {
        const KEY: &str = "dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1";
        let read = |key: &str, header: Option<&str>| {
            let mut uri = format!("/k/{key}/api/tags").parse().unwrap();
            let key = PathKey::take_off(&mut uri);
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert(API_KEY, value.parse().unwrap());
            }
            let presented = presented(&headers, key.as_ref(), true).map_err(|error| error.status().as_u16());
            presented.map(|presented| (presented.token.into_inner(), presented.is_by_cookie))
        };
        for header in [None, Some(KEY)] {
            assert_eq!(read(KEY, header), Ok((KEY.to_owned(), false)));
        }
        assert_eq!(read(KEY, Some("abc")), Err(400));
        for no_key in ["", "abc", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMTIzNDU2Nzg5In0.c2lnbmF0dXJl", &KEY[..40]]
        {
            assert_eq!(read(no_key, None), Err(401), "{no_key}");
        }
        assert_eq!(read("abc", Some("abc")), Err(401));
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
