//! An API key in front of a path, for clients that can send no header: `/k/<key>/api/chat`. Ollama's own command line is one; it
//! keeps a path in `OLLAMA_HOST`.
//!
//! Addresses are written down in many places where headers are not, so this is off unless `API_KEY_IN_PATH` says otherwise. The key
//! is taken off before anything else sees the request: to the route table, the logs, the metrics and the traces it has never been
//! there. It opens no more than those clients ask for, and it is an API key or nothing: a session's token in an address would be
//! everybody's who reads it.

use domain::{
    secret::Secret,
    token_text::{TokenKind, is_well_formed},
};
use http::{Uri, uri::PathAndQuery};

const PREFIX: &str = "/k/";

/// What a path says to prove who is asking.
pub(super) struct PathKey(Secret<String>);

impl PathKey {
    /// Takes the key off the path of `uri`. A path without one, or that goes on to somewhere else than Ollama's own paths, stays as
    /// it is.
    pub(super) fn take_off(uri: &mut Uri) -> Option<Self> {
        let (key, _) = uri.path().strip_prefix(PREFIX)?.split_once('/')?;
        let key = key.to_owned();
        let rest: PathAndQuery =
            uri.path_and_query()?.as_str().get(PREFIX.len() + key.len()..)?.parse().ok()?;
        if rest.path() != "/" && !rest.path().starts_with("/api/") {
            return None;
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(rest);
        *uri = Uri::from_parts(parts).ok()?;
        Some(Self(Secret::new(key)))
    }

    pub(super) fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// Whether it could be a key at all.
    pub(super) fn is_well_formed(&self) -> bool {
        is_well_formed(TokenKind::ApiKey, self.reveal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken off, and what is left.
    fn parted(uri: &str) -> (Option<String>, String) {
        let mut uri: Uri = uri.parse().unwrap();
        let key = PathKey::take_off(&mut uri).map(|key| key.reveal().to_owned());
        (key, uri.to_string())
    }

    #[test]
    fn a16_a_key_is_taken_off_the_paths_of_ollama_and_nothing_of_it_is_left() {
        for (uri, left) in [
            ("/k/dsk_x/", "/"),
            ("/k/dsk_x/api/tags", "/api/tags"),
            ("/k/dsk_x/api/chat?a=/k/b/", "/api/chat?a=/k/b/"),
            ("/k/dsk_x/?a", "/?a"),
            ("http://localhost:80/k/dsk_x/api/ps", "http://localhost:80/api/ps"),
        ] {
            assert_eq!(parted(uri), (Some("dsk_x".to_owned()), left.to_owned()), "{uri}");
        }
        assert_eq!(parted("/k//api/tags"), (Some(String::new()), "/api/tags".to_owned()));
        assert_eq!(parted("/k/a/api/k/b/api/x"), (Some("a".to_owned()), "/api/k/b/api/x".to_owned()));
    }

    #[test]
    fn a16_no_other_path_is_reached_through_a_key() {
        for uri in [
            "/",
            "*",
            "/api/tags",
            "/k",
            "/k/",
            "/k/dsk_x",
            "/k/dsk_x?/api/tags",
            "/k/dsk_x/api",
            "/k/dsk_x/apis/x",
            "/k/dsk_x//api/tags",
            "/k/dsk_x/v1/models",
            "/k/dsk_x/v1/admin/users",
            "/k/dsk_x/healthz",
            "/K/dsk_x/api/tags",
            "/%6b/dsk_x/api/tags",
            "//k/dsk_x/api/tags",
            "/v1/k/dsk_x/api/tags",
        ] {
            assert_eq!(parted(uri), (None, uri.to_owned()));
        }
    }
}
