//! Where a server is: its base URL, parsed once.

use http::{HeaderValue, Uri};
use reqwest::Url;

use crate::model::provider::ProviderConfigError;

/// The base URL of a model server, with an optional path before its endpoints.
#[derive(Debug, Clone)]
pub(in crate::model::provider) struct Address {
    /// Ends in a slash, so that joining appends.
    base: Url,
    host: String,
    port: u16,
    host_header: HeaderValue,
    is_encrypted: bool,
}

impl Address {
    /// # Errors
    ///
    /// [`ProviderConfigError`] with what to change.
    pub(in crate::model::provider) fn parse(text: &str) -> Result<Self, ProviderConfigError> {
        let refuse = |problem: &'static str| ProviderConfigError { base_url: redacted(text), problem };
        let mut base =
            Url::parse(text).map_err(|_| refuse("is no URL; write it like http://127.0.0.1:11434"))?;
        let is_encrypted = match base.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(refuse("must start with http:// or https://")),
        };
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
        if base.path().parse::<Uri>().is_err() {
            return Err(refuse("has an unusable path"));
        }
        let host = base.host_str().ok_or_else(|| refuse("has no host"))?;
        let port = base.port_or_known_default().ok_or_else(|| refuse("has no port"))?;
        // The server's own authority: Ollama refuses others when it listens on loopback.
        let authority = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let host_header = HeaderValue::from_str(&authority).map_err(|_| refuse("has an unusable host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { base, host, port, host_header, is_encrypted })
    }

    /// The URL of an endpoint such as `api/tags`.
    pub(in crate::model::provider) fn endpoint(&self, path: &'static str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    /// The same as a request's first line has it.
    pub(in crate::model::provider) fn target(&self, path: &'static str) -> Result<Uri, ProviderConfigError> {
        let target = format!("{}{path}", self.base.path());
        target.parse().map_err(|_| self.refuse("has an unusable path"))
    }

    /// Says to the operator what is wrong with a server at this address.
    pub(in crate::model::provider) fn refuse(&self, problem: &'static str) -> ProviderConfigError {
        ProviderConfigError { base_url: self.base.to_string(), problem }
    }

    pub(in crate::model::provider) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn host_header(&self) -> HeaderValue {
        self.host_header.clone()
    }

    /// Whether it is spoken to over TLS.
    pub(super) const fn is_encrypted(&self) -> bool {
        self.is_encrypted
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
        assert_eq!(address.target("api/chat").unwrap(), "/gpu/api/chat");
        assert_eq!(address.host_header(), "models.internal");
        assert_eq!((address.host(), address.port(), address.is_encrypted()), ("models.internal", 80, false));
        let address = Address::parse("http://[::1]:11434/").unwrap();
        assert_eq!(address.target("api/chat").unwrap(), "/api/chat");
        assert_eq!(address.host_header(), "[::1]:11434");
        assert_eq!((address.host(), address.port()), ("::1", 11434));
        let address = Address::parse("https://llm.example/v1").unwrap();
        assert_eq!((address.host_header(), address.port()), (HeaderValue::from_static("llm.example"), 443));
        assert!(address.is_encrypted());
    }

    #[test]
    fn an_unusable_base_url_says_what_to_change_and_keeps_its_password() {
        for (text, words) in [
            ("127.0.0.1:11434", "no URL"),
            ("", "no URL"),
            ("ftp://x", "http://"),
            ("http://u:secret@x", "credentials"),
            ("http://x/?a", "path"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
