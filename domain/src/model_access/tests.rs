use uuid::Uuid;

use super::*;
use crate::{limits::Limits, model_name::ModelName, principal::Scopes};

fn name(text: &str) -> CanonicalName {
    ModelName::parse(text).unwrap().canonical()
}

fn list(texts: &[&str]) -> ModelPatterns {
    ModelPatterns::of(texts.iter().copied()).unwrap()
}

#[test]
fn patterns_are_read_like_names() {
    for (text, pattern) in [
        ("llama3.2", "llama3.2:latest"),
        ("LLAMA3.2:Latest", "llama3.2:latest"),
        (" library/llama3.2 ", "llama3.2:latest"),
        ("registry.ollama.ai/library/llama3.2:local", "llama3.2:latest"),
        ("registry.ollama.ai/me/x", "me/x:latest"),
        ("registry.ollama.ai/me/*", "me/*"),
        ("library/qwen3:*", "qwen3:*"),
        ("qwen3:*", "qwen3:*"),
        ("qwen*", "qwen*"),
        ("*-coder", "*-coder:latest"),
        ("*", "*"),
        ("*:8b", "*:8b"),
    ] {
        assert_eq!(list(&[text]).to_string(), pattern, "{text}");
    }
}

#[test]
fn a_pattern_matches_the_names_that_it_says_and_no_others() {
    for (pattern, matching, others) in [
        ("llama3.2", &["llama3.2", "LLAMA3.2:local", "library/llama3.2"][..], &["llama3.2:1b", "llama3"][..]),
        ("qwen3:*", &["qwen3", "Qwen3:8B", "qwen3:0.6b"], &["qwen3.5:8b", "me/qwen3:8b", "qwen:8b"]),
        ("*", &["a", "hf.co/x/y:Q4"], &[]),
        ("*:8b", &["qwen3:8b", "me/x:8b"], &["qwen3:18b-x", "qwen3:18bb"]),
        ("qwen*", &["qwen", "qwen3:8b", "qwen/x"], &["me/qwen3"]),
        (
            "hf.co/*/llama*:q4",
            &["hf.co/a/llama-3:q4", "hf.co/a/b/llama:q4"],
            &["hf.co/llama:q4", "hf.co/a/llama:q5"],
        ),
        ("a*b*c:latest", &["abc", "axbxc", "abcbc"], &["acb", "ab", "ac"]),
        // The text before a star and that after it may not be the same one.
        ("ab*ba:latest", &["abba", "abxba"], &["aba"]),
        ("a**b:latest", &["ab", "axb"], &["a"]),
    ] {
        let patterns = list(&[pattern]);
        for text in matching {
            assert!(patterns.allow(&name(text)), "{pattern} {text}");
        }
        for text in others {
            assert!(!patterns.allow(&name(text)), "{pattern} {text}");
        }
    }
}

/// What a matcher that tries every place says.
fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|at| matches_slowly(rest, &name[at..])),
        Some((first, rest)) => {
            name.split_first().is_some_and(|(is, more)| is == first && matches_slowly(rest, more))
        }
    }
}

#[test]
fn matching_says_what_trying_every_place_says() {
    let words = |letters: &[u8], length: u32| {
        let base = letters.len() as u32;
        let letters = letters.to_vec();
        (0..=length).flat_map(move |length| {
            let letters = letters.clone();
            (0..base.pow(length)).map(move |mut number| {
                let mut word = String::new();
                for _ in 0..length {
                    word.push(letters[(number % base) as usize].into());
                    number /= base;
                }
                word
            })
        })
    };
    for pattern in words(b"ab*", 5) {
        for name in words(b"ab", 5) {
            let slowly = matches_slowly(pattern.as_bytes(), name.as_bytes());
            assert_eq!(matches(&pattern, &name), slowly, "{pattern:?} {name:?}");
        }
    }
}

#[test]
fn many_stars_cost_no_more_than_the_name_is_long() {
    // By trying every place this takes longer than the universe has.
    let pattern = format!("{}b", "a*".repeat(60));
    let long = format!("{}c", "a".repeat(120));
    for _ in 0..10_000 {
        assert!(!matches(&pattern, &long));
    }
}

#[test]
fn what_is_no_pattern_is_refused_and_so_is_one_too_many() {
    use PatternFault::{DefaultBeforeStar, NotAPattern, TooLong, TooMany};
    let fault = |text: &str| ModelPatterns::of([text]).unwrap_err();
    for text in [
        "", " ", "a b", "../x", "a..b", "a//b", "/a", "a/", "a:b:c", "a:", ":b", "-a", "é", "a?", "[a]",
        "a,b",
    ] {
        assert_eq!(fault(text), NotAPattern, "{text:?}");
    }
    for text in ["library/*", "registry.ollama.ai/*", "registry.ollama.ai/library/*", "library/q*:8b"] {
        assert_eq!(fault(text), DefaultBeforeStar, "{text}");
    }
    assert_eq!(fault(&"a".repeat(129)), TooLong);
    assert_eq!(fault(&"a".repeat(128)), TooLong, "with its tag");
    assert!(ModelPatterns::of([&*"a".repeat(121)]).is_ok());
    let many = |count| (0..count).map(|n| format!("m{n}")).collect::<Vec<_>>();
    assert!(ModelPatterns::of(many(64).iter().map(String::as_str)).is_ok());
    assert_eq!(ModelPatterns::of(many(65).iter().map(String::as_str)), Err(TooMany));
    let same = ["a", "A:latest", "library/a"].repeat(100);
    assert_eq!(ModelPatterns::of(same).unwrap(), list(&["a"]), "counted once");
}

#[test]
fn a_list_is_read_back_from_what_is_stored() {
    for texts in [&[][..], &["*"], &["qwen3:*", "llama3.2", "hf.co/*"]] {
        let patterns = list(texts);
        assert_eq!(ModelPatterns::parse(&patterns.to_string()), Ok(patterns));
    }
    assert!(ModelPatterns::parse("a,").is_err() && ModelPatterns::parse(",").is_err());
}

fn principal(role: Role, own: Option<&[&str]>, key: Option<Option<&[&str]>>) -> Principal {
    Principal {
        user: Uuid::from_u128(1).into(),
        role,
        limits: Limits::default(),
        models: own.map(list),
        credential: key.map_or(Credential::Session(Uuid::from_u128(2).into()), |models| Credential::Key {
            id: Uuid::from_u128(3).into(),
            scopes: Scopes::default(),
            limits: Limits::default(),
            models: models.map(list),
        }),
    }
}

#[test]
fn the_accounts_own_list_stands_for_its_roles_and_a_keys_only_narrows_it() {
    let roles = RoleModels { users: list(&["small"]), admins: list(&["*"]) };
    let (small, large) = (name("small"), name("large"));
    for (role, own, key, may) in [
        (Role::User, None, None, [true, false]),
        (Role::Admin, None, None, [true, true]),
        (Role::User, Some(&["large"][..]), None, [false, true]),
        (Role::Admin, Some(&[]), None, [false, false]),
        (Role::User, None, Some(None), [true, false]),
        (Role::User, None, Some(Some(&["large"][..])), [false, false]),
        (Role::User, Some(&["*"]), Some(Some(&["large"])), [false, true]),
        (Role::Admin, None, Some(Some(&["s*"])), [true, false]),
        (Role::Admin, None, Some(Some(&[])), [false, false]),
    ] {
        let principal = principal(role, own, key);
        let allowed = [roles.allow(&principal, &small), roles.allow(&principal, &large)];
        assert_eq!(allowed, may, "{principal:?}");
    }
}

#[test]
fn a_change_is_told_and_never_at_more_length_than_an_entry_bears() {
    let (some, none) = (list(&["qwen3:*", "x"]), list(&[]));
    assert_eq!(told_since(Some(&some), Some(&some)), None);
    assert_eq!(told_since(None, None), None);
    assert_eq!(told_since(None, Some(&some)).as_deref(), Some("models none to qwen3:*,x:latest"));
    assert_eq!(told_since(Some(&some), Some(&none)).as_deref(), Some("models qwen3:*,x:latest to []"));
    let long: Vec<_> = (0..64).map(|n| format!("{n}{}", "a".repeat(100))).collect();
    let long = ModelPatterns::of(long.iter().map(String::as_str)).unwrap();
    assert!(told_since(Some(&long), None).unwrap().len() < 600);
}
