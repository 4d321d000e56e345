//! Which passwords we accept (NIST SP 800-63B-4 §3.1.1.2, ASVS 5.0 §6.2).
//!
//! Length and guessability are all that counts: no rules about kinds of characters, no expiry, no hints. A password is
//! refused when it is too short or too long to hash, when it is among the commonest ones, or when what anybody knows
//! about the account (its e-mail address, the name of this service) makes up nearly all of it.
//!
//! `password/common.txt` holds the entries of at least [`MIN_CHARS`] characters of the `passwords` frequency list of
//! zxcvbn (MIT licence, © 2012–2016 Dan Wheeler and Dropbox, Inc.), lower case, sorted, one on each line.

use std::{collections::HashSet, sync::LazyLock};

use crate::{email::EmailAddress, secret::Secret};

/// A password in clear; it never prints itself.
pub type Password = Secret<String>;

/// Fewest Unicode code points of a password, unless an operator wants more.
pub const MIN_CHARS: usize = 8;

/// The most that an operator may ask for (A1): whoever chooses 64 has chosen enough.
pub const MIN_CHARS_MAX: usize = 64;

/// Most Unicode code points of a password; longer ones are refused, never cut.
pub const MAX_CHARS: usize = 256;

/// Words that every guesser tries here first.
const SERVICE_WORDS: [&str; 2] = ["deepersensor", "ollama"];

/// A shorter part of an e-mail address says nothing: `al` is in half of all words.
const MIN_CONTEXT_CHARS: usize = 3;

/// Letters and digits a password must keep when the words anybody can guess are taken out of it.
const MIN_OWN_CHARS: usize = 6;

static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("password/common.txt").lines().collect());

/// Why a password was refused; the text is for the person who chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    #[error("a password needs at least {least} characters")]
    TooShort { least: usize },
    #[error("a password may have at most {MAX_CHARS} characters")]
    TooLong,
    #[error("this is one of the most common passwords")]
    Common,
    #[error("the password is built from the e-mail address or the name of this service")]
    BuiltFromContext,
    #[error("this is the password that is to be replaced")]
    Unchanged,
}

/// Decides whether `password`, of `least` characters or more, may guard the account of `email`.
///
/// # Errors
///
/// [`WeakPassword`]: show it and ask for another password.
pub fn check(password: &Password, least: usize, email: &EmailAddress) -> Result<(), WeakPassword> {
    let chars = password.reveal().chars().take(MAX_CHARS + 1).count();
    if chars < least {
        return Err(WeakPassword::TooShort { least });
    }
    if chars > MAX_CHARS {
        return Err(WeakPassword::TooLong);
    }
    let lower = password.reveal().to_lowercase();
    if COMMON.contains(lower.as_str()) {
        return Err(WeakPassword::Common);
    }
    if is_built_from_context(&lower, email) {
        return Err(WeakPassword::BuiltFromContext);
    }
    Ok(())
}

/// Takes every context word out of the password and judges what is left: a few characters, or a mere number, is no
/// secret ("ollama2024!").
fn is_built_from_context(lower: &str, email: &EmailAddress) -> bool {
    let mut words: Vec<&str> = email
        .local_part()
        .split(|c: char| !c.is_alphanumeric())
        .chain([email.as_str(), email.local_part()])
        .filter(|word| word.chars().count() >= MIN_CONTEXT_CHARS)
        .chain(SERVICE_WORDS)
        .collect();
    // The longest first, or a part would break up the whole that contains it.
    words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
    // A blank in its place keeps the two sides from growing together into another word.
    let rest = words.iter().fold(lower.to_owned(), |rest, word| rest.replace(word, " "));
    if rest == lower {
        return false;
    }
    let own = || rest.chars().filter(|c| c.is_alphanumeric());
    own().count() < MIN_OWN_CHARS || own().all(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(password: &str) -> Result<(), WeakPassword> {
        judge_by(MIN_CHARS, password)
    }

    fn judge_by(least: usize, password: &str) -> Result<(), WeakPassword> {
        let email = EmailAddress::parse("ada.lovelace@engines.example").unwrap();
        check(&Secret::new(password.to_owned()), least, &email)
    }

    #[test]
    fn a1_length_is_counted_in_code_points_from_8_to_256() {
        let of = |chars: usize| "äöü€zßxq".chars().cycle().take(chars).collect::<String>();
        assert_eq!(judge(&of(7)), Err(WeakPassword::TooShort { least: 8 }));
        assert_eq!(judge(&of(8)), Ok(()));
        assert_eq!(judge(&of(64)), Ok(()));
        assert_eq!(judge(&of(256)), Ok(()));
        assert_eq!(judge(&of(257)), Err(WeakPassword::TooLong));
    }

    #[test]
    fn a1_an_operator_may_ask_for_more() {
        assert_eq!(judge_by(15, "green tea at 6"), Err(WeakPassword::TooShort { least: 15 }));
        assert_eq!(judge_by(15, "green tea at six"), Ok(()));
        assert!(judge_by(15, "mossy banks").unwrap_err().to_string().contains("at least 15"));
    }

    #[test]
    fn a2_fifteen_lower_case_letters_and_spaces_are_enough() {
        assert_eq!(judge("green tea at six"), Ok(()));
        assert_eq!(judge("mossyriverbanks"), Ok(()));
    }

    #[test]
    fn a2_the_list_holds_three_thousand_passwords_that_satisfy_the_length_rule() {
        assert!(COMMON.len() >= 3_000, "{}", COMMON.len());
        for entry in COMMON.iter() {
            assert!((MIN_CHARS..=MAX_CHARS).contains(&entry.chars().count()), "{entry:?}");
            assert_eq!(entry.trim().to_lowercase(), *entry, "an entry that could never match");
        }
    }

    #[test]
    fn a2_every_listed_password_is_refused_in_any_case() {
        for entry in COMMON.iter() {
            assert_eq!(judge(entry), Err(WeakPassword::Common), "{entry:?}");
            assert_eq!(judge(&entry.to_uppercase()), Err(WeakPassword::Common), "{entry:?}");
        }
    }

    #[test]
    fn a2_passwords_built_from_the_account_or_the_service_are_refused() {
        for text in [
            "ada.lovelace@engines.example",
            "Ada.Lovelace",
            "adalovelace",
            "Lovelace1815",
            "ada-ada-ada",
            "lovelace!x9",
            "deepersensor",
            "DeeperSensor2026",
            "ollama2024!",
            "OllamaOllama1",
            "ollama deepersensor 42",
            "ada 19841984198",
        ] {
            assert_eq!(judge(text), Err(WeakPassword::BuiltFromContext), "{text:?}");
        }
    }

    #[test]
    fn a2_a_context_word_beside_a_secret_of_its_own_is_accepted() {
        for text in ["ollama-kq7wzt", "ada likes cold soup", "adamant pelicans", "x lovelace turbine"] {
            assert_eq!(judge(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn a2_each_refusal_says_why() {
        assert!(judge("short").unwrap_err().to_string().contains("at least 8"));
        assert!(judge(&"x".repeat(300)).unwrap_err().to_string().contains("at most 256"));
        assert!(judge("password").unwrap_err().to_string().contains("common"));
        assert!(judge("ollama12345").unwrap_err().to_string().contains("built from"));
    }
}
