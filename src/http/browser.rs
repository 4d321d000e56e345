//! Sessions of browsers (A14): tokens in cookies that no script can read, spent only by pages that may.
//!
//! `SameSite=Strict` keeps other sites from sending the cookies at all; the check of `Origin` also keeps out pages of our
//! own site that are not ours, such as those of a neighbouring subdomain.

use std::time::Duration;

use domain::secret::Secret;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, ORIGIN, SET_COOKIE},
    request::Parts,
};

use super::{connection::Peer, cors::PageOrigin, error::ApiError, host};

pub(crate) const ACCESS: &str = "__Host-deepersensor";
pub(crate) const REFRESH: &str = "__Host-deepersensor-refresh";

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The values of all cookies of this name; whatever else the header holds may be anything.
pub(crate) fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    })
}

/// The refresh token that a browser keeps.
///
/// # Errors
///
/// 400 when the request carries two that differ.
pub(crate) fn refresh_cookie(headers: &HeaderMap) -> Result<Option<Secret<String>>, ApiError> {
    let mut values = cookies(headers, REFRESH);
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) {
        return Err(ApiError::two_credentials());
    }
    Ok(Some(Secret::new(first.to_owned())))
}

/// Has the browser keep a token for so long. Our tokens need no quoting.
pub(crate) fn set_cookie(headers: &mut HeaderMap, name: &str, token: &Secret<String>, max_age: Duration) {
    let (token, seconds) = (token.reveal(), max_age.as_secs());
    let text = format!("{name}={token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict");
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        headers.append(SET_COOKIE, value);
    }
}

/// Has the browser forget both tokens.
pub(crate) fn clear_cookies(headers: &mut HeaderMap) {
    for name in [ACCESS, REFRESH] {
        set_cookie(headers, name, &Secret::new(String::new()), Duration::ZERO);
    }
}

/// Whether the page that sent the request may spend a browser's session: one of our own origin, or one that is listed.
///
/// # Errors
///
/// 403 for any other page, and for whatever does not say where it comes from.
pub(crate) fn check_page(head: &Parts, peer: Peer, allowed: &[PageOrigin]) -> Result<(), ApiError> {
    let mut origins = head.headers.get_all(ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return Err(ApiError::foreign_page()) };
    if allowed.iter().any(|page| page.is(origin)) || origin.as_bytes() == own_origin(head, peer)?.as_bytes() {
        return Ok(());
    }
    Err(ApiError::foreign_page())
}

/// Our origin as the browser knows it: the cookies need TLS, so it is `https` unless a proxy of ours says otherwise.
fn own_origin(head: &Parts, peer: Peer) -> Result<String, ApiError> {
    let said = head.headers.get(FORWARDED_PROTO).filter(|_| peer.is_trusted);
    let (scheme, usual_port) = match said.map(HeaderValue::as_bytes) {
        Some(b"http") => ("http", ":80"),
        _ => ("https", ":443"),
    };
    let host = host::only(head)?.to_ascii_lowercase();
    Ok(format!("{scheme}://{}", host.strip_suffix(usual_port).unwrap_or(&host)))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(lines: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/v1/auth/logout");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn may(is_trusted: bool, lines: &[(&'static str, &str)]) -> bool {
        let peer = Peer { ip: "192.0.2.1".parse().unwrap(), is_trusted };
        check_page(&head(lines), peer, &["https://app.example.org".parse().unwrap()]).is_ok()
    }

    #[test]
    fn a14_only_our_own_pages_and_those_listed_may_spend_a_browsers_session() {
        let from = |origin| may(false, &[("host", "api.example.org"), ("origin", origin)]);
        assert!(from("https://api.example.org"));
        assert!(from("https://app.example.org"));
        for origin in [
            "http://api.example.org",
            "https://api.example.org:8443",
            "https://api.example.org.evil.example",
            "https://evil.example.org",
            "https://API.example.org",
            "null",
            "",
        ] {
            assert!(!from(origin), "{origin:?}");
        }
        assert!(!may(false, &[("host", "api.example.org")]));
        let twice = [("host", "a.example"), ("origin", "https://a.example"), ("origin", "https://a.example")];
        assert!(!may(false, &twice));
    }

    #[test]
    fn a14_our_origin_is_what_the_browser_knows_it_by() {
        assert!(may(false, &[("host", "API.example:443"), ("origin", "https://api.example")]));
        assert!(may(false, &[("host", "api.example:8443"), ("origin", "https://api.example:8443")]));
        let plain = [("host", "localhost:80"), ("origin", "http://localhost"), ("x-forwarded-proto", "http")];
        assert!(may(true, &plain));
        assert!(!may(false, &plain), "a stranger does not choose our scheme");
    }

    #[test]
    fn a14_cookies_are_found_by_their_exact_name_among_any_others() {
        let head = head(&[
            ("cookie", "a=b; __Host-deepersensor=one;x"),
            ("cookie", "x__Host-deepersensor=two; __Host-deepersensor-refresh=three; __Host-deepersensor"),
        ]);
        assert_eq!(cookies(&head.headers, ACCESS).collect::<Vec<_>>(), ["one"]);
        let refresh = refresh_cookie(&head.headers).ok().flatten();
        assert_eq!(refresh.map(Secret::into_inner).as_deref(), Some("three"));
    }

    #[test]
    fn a14_a_cookie_is_for_this_host_over_tls_without_scripts_and_other_sites() {
        let mut headers = HeaderMap::new();
        set_cookie(&mut headers, ACCESS, &Secret::new("abc".to_owned()), Duration::from_secs(900));
        assert_eq!(
            headers[SET_COOKIE],
            "__Host-deepersensor=abc; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Strict"
        );
        assert!(!format!("{headers:?}").contains("abc"));
    }
}
