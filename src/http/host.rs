//! The `Host` a request names.

use std::net::IpAddr;

use http::{header::HOST, request::Parts, uri::Authority};

use super::error::ApiError;

/// The one host a request names.
///
/// # Errors
///
/// 400 when it names none or several, in its URI too: two readers could disagree about which one counts (B6).
pub(crate) fn only(head: &Parts) -> Result<&str, ApiError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(ApiError::host()) };
    let host = host.to_str().map_err(|_| ApiError::host())?;
    match head.uri.authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(host) => Err(ApiError::host()),
        _ => Ok(host),
    }
}

/// Whether `host` names this machine to itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_only_loopback_names_count_as_ours() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:9464", "127.9.9.9", "[::1]:80", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[2001:db8::1]",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
