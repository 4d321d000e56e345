//! Refresh tokens: `dsr_` + base64url(version, session, counter, HMAC).
//!
//! Nothing is stored: the live token of a session is a function of its id and its counter, so whoever has lost the
//! answer to a refresh can be told it again (A10, A11). Which counter is live is the store's to say.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{id::SessionId, secret::Secret};
use uuid::Uuid;

const PREFIX: &str = "dsr_";
const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Version, session, counter.
const BODY_BYTES: usize = 1 + 16 + 4;

/// The token of `session` at `counter`.
pub(super) fn encode(key: &hmac::Key, session: SessionId, counter: u32) -> Secret<String> {
    let mut bytes = Vec::with_capacity(BODY_BYTES + MAC_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(session.as_uuid().as_bytes());
    bytes.extend_from_slice(&counter.to_be_bytes());
    let mac = hmac::sign(key, &bytes);
    bytes.extend_from_slice(mac.as_ref());
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What a token that we made says; `None` for anything else.
pub(super) fn decode(key: &hmac::Key, token: &Secret<String>) -> Option<(SessionId, u32)> {
    let text = token.reveal().strip_prefix(PREFIX)?;
    let mut bytes = [0; BODY_BYTES + MAC_BYTES];
    // A longer text does not fit and is refused before any of it is kept.
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    let (body, mac) = bytes.get(..length)?.split_at_checked(BODY_BYTES)?;
    hmac::verify(key, body, mac).ok()?;
    let (&version, body) = body.split_first()?;
    let (session, counter) = body.split_at_checked(16)?;
    let session = Uuid::from_slice(session).ok()?.into();
    let counter = u32::from_be_bytes(counter.try_into().ok()?);
    (version == VERSION).then_some((session, counter))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::fresh_id;

    fn key(of: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[of; 32])
    }

    #[test]
    fn a10_a_token_says_which_session_and_counter_it_is_of() {
        let session = fresh_id();
        for counter in [0, 1, 77, u32::MAX] {
            let token = encode(&key(1), session, counter);
            assert!(token.reveal().starts_with("dsr_"));
            assert_eq!(decode(&key(1), &token), Some((session, counter)));
            assert_eq!(encode(&key(1), session, counter), token, "the successor must be recomputable");
        }
    }

    #[test]
    fn a10_no_changed_character_of_a_token_goes_unnoticed() {
        let token = encode(&key(1), fresh_id(), 3);
        for at in 0..token.reveal().len() {
            for replacement in ["A", "B", "_", "=", "%"] {
                let mut forged = token.reveal().clone();
                forged.replace_range(at..=at, replacement);
                if &forged != token.reveal() {
                    assert_eq!(decode(&key(1), &Secret::new(forged)), None, "at {at}");
                }
            }
        }
    }

    #[test]
    fn a10_tokens_of_another_key_length_or_version_are_refused() {
        let session = fresh_id();
        let token = encode(&key(1), session, 3);
        assert_eq!(decode(&key(2), &token), None);
        for cut in 0..token.reveal().len() {
            assert_eq!(decode(&key(1), &Secret::new(token.reveal()[..cut].to_owned())), None);
        }
        assert_eq!(decode(&key(1), &Secret::new(format!("{}AAAA", token.reveal()))), None);

        let mut other = vec![VERSION + 1];
        other.extend_from_slice(session.as_uuid().as_bytes());
        other.extend_from_slice(&3_u32.to_be_bytes());
        let mac = hmac::sign(&key(1), &other);
        other.extend_from_slice(mac.as_ref());
        let other = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(other)));
        assert_eq!(decode(&key(1), &other), None);
    }

    proptest! {
        #[test]
        fn a10_arbitrary_text_is_refused_without_a_panic(text in ".{0,120}") {
            prop_assert_eq!(decode(&key(1), &Secret::new(text.clone())), None);
            prop_assert_eq!(decode(&key(1), &Secret::new(format!("dsr_{text}"))), None);
        }
    }
}
