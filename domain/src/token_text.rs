//! Secrets that people paste, API keys and invite codes: `dsk_` or `dsi_`, 30 random characters, `_`, 6 of checksum.
//!
//! ```text
//! dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1
//! ╰──────────╯ to recognise it by    ╰────╯ CRC-32 of all before the underscore
//! ```
//!
//! The checksum is no secret and proves nothing. It tells a slip of the hand, or somebody's guess at the shape, from a
//! secret worth looking up, and lets scanners of leaked text know ours with certainty (A15).

use crate::secret::Secret;

/// Letters and digits only: a double click selects a whole secret.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const PREFIX_CHARS: usize = 4;
const BODY_CHARS: usize = 30;
const CHECKED_CHARS: usize = PREFIX_CHARS + BODY_CHARS;
const CHECKSUM_CHARS: usize = 6;

/// Characters of a whole secret; all are ASCII.
pub const CHARS: usize = CHECKED_CHARS + 1 + CHECKSUM_CHARS;

/// Characters of [`recognisable`].
pub const RECOGNISABLE_CHARS: usize = PREFIX_CHARS + 8;

/// Bytes of randomness that one secret is made of.
pub const RANDOM_BYTES: usize = 32;

/// What a secret is for; it can be read off its first characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    ApiKey,
    Invite,
}

impl TokenKind {
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "dsk_",
            Self::Invite => "dsi_",
        }
    }
}

/// The secret that these random bytes stand for; equal bytes give equal secrets.
///
/// The bytes are one number, of which the body is the last 30 digits in base 62: 178 bits, and no secret is likelier
/// than another by more than one part in 2^77.
pub fn compose(kind: TokenKind, random: &[u8; RANDOM_BYTES]) -> Secret<String> {
    let mut text = String::with_capacity(CHARS);
    text.push_str(kind.prefix());
    let mut number = *random;
    text.extend((0..BODY_CHARS).map(|_| char::from(next_digit(&mut number))));
    let checksum = checksum(text.as_bytes());
    text.push('_');
    text.extend(checksum.map(char::from));
    Secret::new(text)
}

/// Whether `text` has the shape of such a secret and its checksum is right; costs as much for every text of its length
/// and allocates nothing. That it was ever given out is not said.
pub fn is_well_formed(kind: TokenKind, text: &str) -> bool {
    let Ok(text) = <&[u8; CHARS]>::try_from(text.as_bytes()) else {
        return false;
    };
    let (checked, rest) = text.split_at(CHECKED_CHARS);
    let (prefix, body) = checked.split_at(PREFIX_CHARS);
    let (separator, end) = rest.split_at(1);
    prefix == kind.prefix().as_bytes()
        && body.iter().all(u8::is_ascii_alphanumeric)
        && separator == b"_"
        && end == checksum(checked)
}

/// The first characters of a secret that we made, for people to tell it by; they give away 48 of its 178 bits.
pub fn recognisable(secret: &Secret<String>) -> &str {
    secret.reveal().get(..RECOGNISABLE_CHARS).unwrap_or_default()
}

fn checksum(of: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut number = crc32fast::hash(of).to_be_bytes();
    let mut digits = [0; CHECKSUM_CHARS];
    digits.fill_with(|| next_digit(&mut number));
    digits
}

/// Divides a number, its highest byte first, by 62 and returns the digit of the remainder.
fn next_digit(number: &mut [u8]) -> u8 {
    let mut remainder = 0;
    for byte in number {
        let dividend = (remainder << 8) | u16::from(*byte);
        // Below 256, since what is carried is below 62.
        *byte = (dividend / 62) as u8;
        remainder = dividend % 62;
    }
    ALPHABET[usize::from(remainder)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changed(text: &str, at: usize, to: u8) -> String {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = to;
        String::from_utf8(bytes).unwrap()
    }

    fn swapped(text: &str, a: usize, b: usize) -> String {
        let mut bytes = text.as_bytes().to_vec();
        bytes.swap(a, b);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a15_the_format_never_changes() {
        let key = compose(TokenKind::ApiKey, &std::array::from_fn(|n| n as u8));
        assert_eq!(key.reveal(), "dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1");
        assert_eq!(recognisable(&key), "dsk_flDIBkGw");
    }

    proptest! {
        #[test]
        fn a15_what_is_composed_has_the_shape_and_checks(random in any::<[u8; RANDOM_BYTES]>()) {
            for (kind, other) in [
                (TokenKind::ApiKey, TokenKind::Invite),
                (TokenKind::Invite, TokenKind::ApiKey),
            ] {
                let secret = compose(kind, &random);
                let text = secret.reveal();
                prop_assert_eq!(text.len(), CHARS);
                prop_assert!(text.starts_with(kind.prefix()));
                let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
                prop_assert!(plain(&text[4..34]) && &text[34..35] == "_" && plain(&text[35..]));
                prop_assert_eq!(recognisable(&secret), &text[..12]);
                prop_assert!(is_well_formed(kind, text));
                prop_assert!(!is_well_formed(other, text));
            }
        }

        #[test]
        fn a15_no_changed_swapped_or_cut_character_goes_unnoticed(random in any::<[u8; RANDOM_BYTES]>()) {
            let kind = TokenKind::ApiKey;
            let secret = compose(kind, &random);
            let text = secret.reveal();
            for at in 0..CHARS {
                for to in 0..128 {
                    let forged = changed(text, at, to);
                    prop_assert_eq!(is_well_formed(kind, &forged), forged == *text, "{} at {}", to, at);
                }
                for other in 0..at {
                    let forged = swapped(text, at, other);
                    prop_assert_eq!(is_well_formed(kind, &forged), forged == *text, "{} and {}", at, other);
                }
                prop_assert!(!is_well_formed(kind, &text[..at]));
                prop_assert!(!is_well_formed(kind, &text[at + 1..]));
                prop_assert!(!is_well_formed(kind, &[&text[..at], &text[at + 1..]].concat()));
                prop_assert!(!is_well_formed(kind, &[&text[..at], "0", &text[at..]].concat()));
            }
        }

        #[test]
        fn a15_arbitrary_text_is_no_secret(text in ".{0,60}", body in "[0-9A-Za-z]{30}_[0-9A-Za-z]{6}") {
            prop_assert!(!is_well_formed(TokenKind::ApiKey, &text));
            let forged = format!("dsk_{body}");
            prop_assert!(!is_well_formed(TokenKind::ApiKey, &forged));
        }

        #[test]
        fn a15_different_randomness_gives_different_secrets(
            a in any::<[u8; RANDOM_BYTES]>(),
            b in any::<[u8; RANDOM_BYTES]>(),
        ) {
            prop_assume!(a != b);
            prop_assert_ne!(compose(TokenKind::ApiKey, &a), compose(TokenKind::ApiKey, &b));
        }
    }

    #[test]
    fn a15_every_place_takes_every_digit() {
        let mut seen = vec![std::collections::HashSet::new(); BODY_CHARS];
        let mut random = [0_u8; RANDOM_BYTES];
        for round in 0..2_000_u64 {
            // Any spread will do.
            for (n, chunk) in random.chunks_exact_mut(8).enumerate() {
                let word = (round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.rotate_left(n as u32 * 13));
                chunk.copy_from_slice(&(word ^ (word >> 29)).to_le_bytes());
            }
            let secret = compose(TokenKind::ApiKey, &random);
            for (place, digit) in secret.reveal()[4..34].bytes().enumerate() {
                seen[place].insert(digit);
            }
        }
        assert!(seen.iter().all(|digits| digits.len() == 62), "{seen:?}");
    }
}
