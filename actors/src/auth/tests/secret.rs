//! A8: where the master secret comes from, and which ones are none.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    sync::Barrier,
    thread,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::{email::EmailAddress, id::InstanceId, secret::Secret, signing_key::SigningAlgorithm::EdDsa};
use proptest::{
    prop_assert_eq,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    auth::{
        AuthConfig,
        keys::Keys,
        secret::{load, weakness},
    },
    clock::fresh_id,
    digest::hex,
    system::StartError,
};

/// A directory of its own that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("deepersensor-secret-{}", fresh_id::<InstanceId>());
        Self(std::env::temp_dir().join(name).join("data"))
    }

    fn file(&self) -> PathBuf {
        self.0.join("secret")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

#[test]
fn a8_empty_short_and_sample_secrets_are_refused_with_a_reason() {
    let scratch = Scratch::new();
    for (text, reason) in [
        ("", "empty"),
        ("   \n", "empty"),
        ("k7Yq2nVwXz0pLr8sTf4hJd6gBc1mQe9", "31 bytes"),
        ("dev_insecure_change_me", "22 bytes"),
        ("dev_insecure_change_me_dev_insecure_change_me", "sample"),
        ("replace_with_secure_random_64_bytes", "sample"),
        ("CHANGE-ME-to-at-least-32-random-bytes-please", "sample"),
        ("your-256-bit-secret-your-256-bit-secret-your_secret", "sample"),
        ("super-secret-jwt-token-with-at-least-32-characters-long", "sample"),
        ("t0p-s3cr3t-t0p-secret-key-for-signing-all-tokens", "sample"),
        ("a-string-secret-at-least-256-bits-long", "sample"),
        ("a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long", "sample"),
        ("your-256-bit-secretyour-256-bit-secret", "sample"),
        ("passwordpasswordpasswordpassword1234", "sample"),
        ("qwertyuiopasdfghjklzxcvbnm1234567890", "sample"),
        ("deepersensor-secret-deepersensor-secret", "sample"),
        ("this-is-a-very-secure-jwt-signing-key-123", "sample"),
        ("generate-with: openssl rand -base64 48", "sample"),
        ("t0psecr3tt0psecr3tt0psecr3tt0psecr3t", "repeats"),
        ("0123456789abcdef0123456789abcdef", "repeats"),
        ("1234567890abcdef1234567890abcdef1234", "repeats"),
        ("12345678901234567890123456789012", "repeats"),
        ("1234567890abcdef0987654321fedcba9876", "runs"),
        ("abcdefghijklmnopqrstuvwxyz0123456789", "runs"),
        ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", "runs"),
        ("zyxwvutsrqponmlkjihgfedcba9876543210", "runs"),
        ("aaaabbbbccccddddeeeeffffgggghhhhiiiijjjjkkkk", "runs"),
        ("Zk7rQ2vX9mB4tL8sZk7rQ2vX9mB4tL8s", "repeats"),
        (&"a".repeat(64), "repeats"),
        (&"abcabcab".repeat(8), "repeats"),
    ] {
        let refusal = weakness(&secret(text)).unwrap_or_else(|| panic!("{text:?} was accepted"));
        assert!(refusal.contains(reason), "{text:?}: {refusal}");
        let Err(StartError::Config(said)) = load(Some(&secret(text)), &scratch.0) else {
            panic!("{text:?} was accepted");
        };
        assert!(text.trim().is_empty() || !said.contains(text.trim()), "the refusal repeats the secret");
    }
    assert!(!scratch.0.exists(), "a refused secret must not be replaced by one of our own");
}

#[test]
fn a8_random_secrets_of_32_bytes_are_accepted_in_any_notation() {
    let scratch = Scratch::new();
    for text in [
        "k7Yq2nVwXz0pLr8sTf4hJd6gBc1mQe9u",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "q0b3Yk1xT7cVw8dPz5nHs2mLr9gJf6aE+/uRk4tXo1iW=",
        "  k7Yq2nVwXz0pLr8sTf4hJd6gBc1mQe9u\n",
    ] {
        assert_eq!(load(Some(&secret(text)), &scratch.0).unwrap().reveal(), text.trim());
    }
}

#[test]
fn a8_generated_secrets_pass_in_base64_and_in_hex() {
    // A fixed seed: one in many millions of random texts does contain a phrase.
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 10_000, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let random = proptest::collection::vec(proptest::num::u8::ANY, 32..=64);
    let outcome = runner.run(&random, |bytes| {
        let hex = hex(&bytes);
        for text in [STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes), hex.to_uppercase(), hex] {
            prop_assert_eq!(weakness(&secret(&text)), None);
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a8_a_secret_is_made_once_readable_by_its_owner_only_and_kept() {
    let scratch = Scratch::new();
    let made = load(None, &scratch.0).unwrap();
    assert!(weakness(&made).is_none());
    assert_eq!(fs::metadata(scratch.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&scratch.0).unwrap().permissions().mode() & 0o777, 0o700);
    let before = fs::read(scratch.file()).unwrap();
    assert_eq!(load(None, &scratch.0).unwrap(), made);
    assert_eq!(fs::read(scratch.file()).unwrap(), before);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "a draft was left behind");
    assert_ne!(load(None, &Scratch::new().0).unwrap(), made, "every directory has its own");
}

#[test]
fn a8_processes_that_start_together_agree_on_one_secret() {
    let scratch = Scratch::new();
    let together = Barrier::new(8);
    let made: Vec<_> = thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    load(None, &scratch.0).unwrap()
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(made.iter().all(|secret| *secret == made[0]));
}

#[test]
fn a8_a_kept_secret_that_others_may_read_or_that_is_damaged_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    load(None, &scratch.0).unwrap();
    fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::read(scratch.file()).unwrap();
    let refusal = load(None, &scratch.0).unwrap_err().to_string();
    assert!(refusal.contains("chmod 600"), "{refusal}");
    assert_eq!(fs::read(scratch.file()).unwrap(), before);

    fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
    let refusal = load(None, &scratch.0).unwrap_err().to_string();
    assert!(refusal.contains("others may write"), "{refusal}");
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
    for damaged in [&b""[..], b"half", &[0xff; 40]] {
        fs::write(scratch.file(), damaged).unwrap();
        assert!(load(None, &scratch.0).is_err());
        assert_eq!(fs::read(scratch.file()).unwrap(), damaged);
    }
    fs::remove_file(scratch.file()).unwrap();
    symlink("/dev/zero", scratch.file()).unwrap();
    assert!(load(None, &scratch.0).is_err(), "not a file");
}

#[test]
fn each_purpose_has_a_key_of_its_own_and_equal_secrets_give_equal_keys() {
    let of = |text| Keys::derive(&secret(text)).unwrap();
    let (one, same, other) = (of("first secret"), of("first secret"), of("second secret"));
    let signing = |keys: &Keys| (keys.signing(EdDsa, 1).unwrap(), keys.signing_id(EdDsa, 1).unwrap());
    let (signs, as_well, not) = (signing(&one), signing(&same), signing(&other));
    assert_eq!(signs, as_well);
    assert!(signs.0 != not.0 && signs.1 != not.1);
    let email = EmailAddress::parse("ada@example.org").unwrap();
    assert_eq!(one.account_tag(&email), same.account_tag(&email));
    assert_ne!(one.account_tag(&email), other.account_tag(&email));
    let tags = [&one.refresh, &one.log].map(|key| aws_lc_rs::hmac::sign(key, b"x").as_ref().to_vec());
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once() {
    use std::time::Duration;
    let mut config = AuthConfig::new(PathBuf::new());
    assert!(config.problems().is_empty());
    config.secret = Some(secret("short"));
    config.issuer.clear();
    config.access_ttl = Duration::ZERO;
    config.session_cache = Duration::from_secs(6);
    config.session_max = Duration::MAX;
    let problems = config.problems();
    assert_eq!(problems.len(), 5, "{problems:?}");
    for (problem, path) in problems.iter().zip([
        "auth.secret",
        "auth.issuer",
        "auth.access_ttl",
        "auth.session_max",
        "auth.session_cache",
    ]) {
        assert!(problem.starts_with(path), "{problem}");
    }
}
