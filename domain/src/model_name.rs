//! Model names, and when two spellings mean one model (ollama-wire §4).

use std::fmt;

/// A well-formed model name in the caller's spelling.
///
/// At most [`ModelName::MAX_BYTES`] of letters, digits, `.`, `_`, `-`, with `/` between path parts and one optional
/// `:tag`; never `..`, so that it is harmless in paths and logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelName(String);

/// The one name of all spellings of a model: lower case, without the default host, namespace and `:local`, with its tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalName(String);

/// What canonical names leave out at their beginning.
pub(crate) const DEFAULT_HOST: &str = "registry.ollama.ai/";
pub(crate) const DEFAULT_NAMESPACE: &str = "library/";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a model name")]
pub struct NotAModelName;

impl ModelName {
    pub const MAX_BYTES: usize = 128;

    /// # Errors
    ///
    /// [`NotAModelName`]: tell the caller that the field is malformed.
    pub fn parse(text: &str) -> Result<Self, NotAModelName> {
        let text = text.trim();
        let (path, tag) = text.split_once(':').map_or((text, None), |(path, tag)| (path, Some(tag)));
        let plain = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
                && !part.contains("..")
        };
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if text.len() <= Self::MAX_BYTES && starts_well && path.split('/').all(plain) && tag.is_none_or(plain)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAModelName)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn canonical(&self) -> CanonicalName {
        let lower = self.0.to_ascii_lowercase();
        let (path, tag) = lower.split_once(':').map_or((&*lower, None), |(path, tag)| (path, Some(tag)));
        let path = path.strip_prefix(DEFAULT_HOST).unwrap_or(path);
        let path = path.strip_prefix(DEFAULT_NAMESPACE).unwrap_or(path);
        CanonicalName(format!("{path}:{}", canonical_tag(tag)))
    }
}

/// The tag of a lower-case name that has this one, or none.
pub(crate) fn canonical_tag(tag: Option<&str>) -> &str {
    tag.filter(|tag| *tag != "local").unwrap_or("latest")
}

impl CanonicalName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name sends the prompt to somebody else's machine (`…:cloud`, `…-cloud`).
    pub fn is_cloud(&self) -> bool {
        self.0.ends_with(":cloud") || self.0.ends_with("-cloud")
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for CanonicalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_model_have_one_canonical_name() {
        for text in [
            "llama3.2",
            "LLAMA3.2:latest",
            "library/llama3.2",
            "registry.ollama.ai/library/llama3.2:latest",
            "llama3.2:local",
            " llama3.2 ",
        ] {
            assert_eq!(ModelName::parse(text).unwrap().canonical().as_str(), "llama3.2:latest", "{text}");
        }
        assert_eq!(ModelName::parse("me/x:Q4").unwrap().canonical().as_str(), "me/x:q4");
    }

    #[test]
    fn g09_names_that_could_be_paths_or_worse_are_refused() {
        for text in ["", "/etc/passwd", "a/../b", "..", "a b", "a:b:c", "a:", ":b", "a//b", "é", "-a"] {
            assert_eq!(ModelName::parse(text), Err(NotAModelName), "{text:?}");
        }
        assert!(ModelName::parse(&"a".repeat(129)).is_err());
    }

    #[test]
    fn names_that_leave_the_machine_are_recognised() {
        assert!(ModelName::parse("gpt-oss:20b-cloud").unwrap().canonical().is_cloud());
        assert!(ModelName::parse("x:cloud").unwrap().canonical().is_cloud());
        assert!(!ModelName::parse("cloudy:8b").unwrap().canonical().is_cloud());
    }
}
