//! E-mail addresses as account names.

use std::fmt;

/// A trimmed, lower-cased address; two spellings of one account compare equal.
///
/// Only the shape is checked (one `@`, something on both sides, nothing blank or invisible, at most
/// [`EmailAddress::MAX_BYTES`]): whether the address exists can only be learned by sending mail.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct NotAnEmail;

impl EmailAddress {
    /// RFC 5321 §4.5.3.1.3 bounds a path to 256 octets with its brackets.
    pub const MAX_BYTES: usize = 254;

    /// # Errors
    ///
    /// [`NotAnEmail`]: tell the caller that the field is malformed.
    pub fn parse(text: &str) -> Result<Self, NotAnEmail> {
        let text = text.trim().to_lowercase();
        let (local, host) = text.split_once('@').ok_or(NotAnEmail)?;
        let plain = |part: &str| {
            !part.is_empty()
                && !part.chars().any(|c| c.is_whitespace() || c.is_control() || is_invisible(c) || c == '@')
        };
        if text.len() > Self::MAX_BYTES
            || !plain(local)
            || !plain(host)
            || host.starts_with('.')
            || host.ends_with('.')
        {
            return Err(NotAnEmail);
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`, which a password must not be built from.
    pub fn local_part(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }
}

/// Characters that show nothing or turn the text around: with them two accounts, and two lines of an audit log, look the
/// same.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' // soft hyphen
            | '\u{34f}' // grapheme joiner
            | '\u{61c}' // Arabic letter mark
            | '\u{115f}'..='\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
            | '\u{180b}'..='\u{180f}' // Mongolian selectors
            | '\u{200b}'..='\u{200f}' // zero widths and direction marks
            | '\u{202a}'..='\u{202e}' // embeddings and overrides of direction
            | '\u{2060}'..='\u{206f}' // joiners, isolates of direction and shaping
            | '\u{fe00}'..='\u{fe0f}' // variation selectors
            | '\u{feff}' // byte order mark
            | '\u{fff9}'..='\u{fffb}' // annotations
            | '\u{e0000}'..='\u{e0fff}' // tags and more variation selectors
    )
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[email]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_compare_equal() {
        assert_eq!(EmailAddress::parse(" Ada@Example.ORG "), EmailAddress::parse("ada@example.org"));
    }

    #[test]
    fn shapes_that_cannot_be_addresses_are_refused() {
        for text in ["", "ada", "@x.org", "ada@", "a b@x.org", "a@b@c", "a@.org", "a@org.", "a@x\u{0}.org"] {
            assert_eq!(EmailAddress::parse(text), Err(NotAnEmail), "{text:?}");
        }
        assert!(EmailAddress::parse(&format!("{}@x.org", "a".repeat(250))).is_err());
    }

    #[test]
    fn characters_that_nobody_sees_are_refused_on_both_sides() {
        for hidden in [
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2064}',
            '\u{2066}',
            '\u{2069}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            for text in [format!("ad{hidden}a@example.org"), format!("ada@exam{hidden}ple.org")] {
                assert_eq!(EmailAddress::parse(&text), Err(NotAnEmail), "{text:?}");
            }
        }
        assert!(EmailAddress::parse("jürgen@bücher.example").is_ok());
    }

    #[test]
    fn an_address_does_not_print_itself() {
        assert_eq!(format!("{:?}", EmailAddress::parse("ada@example.org").unwrap()), "[email]");
    }
}
