//! Where a server is: its base URL, parsed once.

use http::{HeaderValue, Uri};
use reqwest::Url;

use crate::model::provider::ProviderConfigError;

/// The base URL of an Ollama server: `http`, with an optional path before `/api`.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Ends in a slash, so that joining appends.
    base: Url,
    host: String,
    port: u16,
    chat: Uri,
    generate: Uri,
    host_header: HeaderValue,
}

impl Address {
    /// # Errors
    ///
    /// [`ProviderConfigError`] with what to change.
    pub(super) fn parse(text: &str) -> Result<Self, ProviderConfigError> {
        let refuse = |problem: &'static str| ProviderConfigError { base_url: redacted(text), problem };
        let mut base =
            Url::parse(text).map_err(|_| refuse("is no URL; write it like http://127.0.0.1:11434"))?;
        if base.scheme() != "http" {
            return Err(refuse("must start with http://; put a local TLS proxy in front of a remote server"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(refuse("must not hold credentials"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(refuse("must end with its path"));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let host = base.host_str().ok_or_else(|| refuse("has no host"))?;
        let port = base.port_or_known_default().unwrap_or(80);
        // The server's own authority: it refuses others when it listens on loopback.
        let authority = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let host_header = HeaderValue::from_str(&authority).map_err(|_| refuse("has an unusable host"))?;
        let uri = |path: &str| {
            format!("{}{path}", base.path()).parse::<Uri>().map_err(|_| refuse("has an unusable path"))
        };
        let (chat, generate) = (uri("api/chat")?, uri("api/generate")?);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { base, host, port, chat, generate, host_header })
    }

    /// The URL of an endpoint such as `api/tags`.
    pub(super) fn endpoint(&self, path: &'static str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    pub(super) fn chat_uri(&self) -> Uri {
        self.chat.clone()
    }

    pub(super) fn generate_uri(&self) -> Uri {
        self.generate.clone()
    }

    pub(super) fn host_header(&self) -> HeaderValue {
        self.host_header.clone()
    }

    pub(super) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

/// The URL without what may be a password: everything before an `@`.
fn redacted(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_path_and_needs_no_port() {
        let address = Address::parse("http://models.internal/gpu").unwrap();
        assert_eq!(address.endpoint("api/tags").as_str(), "http://models.internal/gpu/api/tags");
        assert_eq!(address.chat_uri(), "/gpu/api/chat");
        assert_eq!(address.host_header(), "models.internal");
        assert_eq!(address.host_and_port(), ("models.internal", 80));
        let address = Address::parse("http://[::1]:11434/").unwrap();
        assert_eq!(address.chat_uri(), "/api/chat");
        assert_eq!(address.host_header(), "[::1]:11434");
        assert_eq!(address.host_and_port(), ("::1", 11434));
    }

    #[test]
    fn an_unusable_base_url_says_what_to_change_and_keeps_its_password() {
        for (text, words) in [
            ("127.0.0.1:11434", "no URL"),
            ("", "no URL"),
            ("ftp://x", "http://"),
            ("https://x", "http://"),
            ("http://u:secret@x", "credentials"),
            ("http://x/?a", "path"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
