//! Signing up, signing in, refreshing.

use std::{collections::HashSet, time::Duration};

use argon2::{Argon2, Params, PasswordHasher};
use domain::{
    account::{Account, PasswordHash, User},
    audit::{AuditEntry, AuditEvent},
    email::EmailAddress,
    limits::Limits,
    password::WeakPassword,
    principal::Role,
    secret::Secret,
};
use futures_util::{future::join_all, poll};
use tokio::task::yield_now;

use super::bench::{Bench, EMAIL, PASSWORD, pass, secret};
use crate::{
    auth::{AuthError, Origin},
    clock::fresh_id,
};

#[tokio::test]
async fn an_account_signs_up_logs_in_and_is_recognised() {
    let bench = Bench::start().await;
    let user =
        bench.auth.sign_up(" Ada@Example.org ", secret(PASSWORD), None, Origin::default()).await.unwrap();
    let tokens = bench.log_in().await;
    assert_eq!(tokens.expires_in, 900);
    let principal = bench.auth.authenticate(tokens.access_token.reveal()).await.unwrap();
    assert_eq!((principal.user, principal.role), (user.id, Role::User));
    assert_eq!(bench.auth.me(&principal).await.unwrap(), user);
    bench.stop().await;
}

#[tokio::test]
async fn an_account_with_a_role_is_recognised_by_it() {
    let bench = Bench::start().await;
    bench.auth.create_account(EMAIL, secret(PASSWORD), Role::Admin).await.unwrap();
    let tokens = bench.log_in().await;
    let principal = bench.auth.authenticate(tokens.access_token.reveal()).await.unwrap();
    assert_eq!(principal.role, Role::Admin);
    bench.stop().await;
}

#[tokio::test]
async fn a_sign_up_is_refused_with_the_reason_it_can_be_mended_by() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let sign_up = |email, text| bench.auth.sign_up(email, secret(text), None, Origin::default());
    assert_eq!(sign_up("ADA@example.org", PASSWORD).await, Err(AuthError::EmailTaken));
    assert_eq!(sign_up("ada", PASSWORD).await, Err(AuthError::MalformedEmail));
    let weak = sign_up("eve@example.org", "password").await;
    assert_eq!(weak, Err(AuthError::WeakPassword(WeakPassword::Common)));
    bench.stop().await;
}

#[tokio::test]
async fn a5_unknown_accounts_and_wrong_passwords_are_one_error_and_cost_one_hash_each() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let hashes = || bench.metric("deepersensor_password_hash_seconds_count");
    let before = hashes();
    for (email, text) in [(EMAIL, "green tea at ten"), ("eve@example.org", PASSWORD)] {
        let refused = bench.auth.log_in(email, secret(text), Origin::default()).await.unwrap_err();
        assert_eq!(refused, AuthError::BadCredentials);
    }
    assert_eq!(hashes() - before, 2);
    bench.stop().await;
}

fn weak_hash(password: &str) -> PasswordHash {
    let params = Params::new(8_192, 1, 1, None).unwrap();
    Secret::new(Argon2::from(params).hash_password(password.as_bytes()).unwrap().to_string())
}

#[tokio::test]
async fn a3_a_password_that_was_hashed_anew_while_it_was_looked_at_is_looked_at_again() {
    for (meanwhile, is_right) in [(PASSWORD, true), ("another four words", false)] {
        let bench = Bench::start().await;
        let user = bench.auth.sign_up(EMAIL, secret(PASSWORD), None, Origin::default()).await.unwrap();
        let email = EmailAddress::parse(EMAIL).unwrap();
        let old = bench.db.account_by_email(email).await.unwrap().unwrap().password_hash;
        let is_looked_at =
            || bench.context.gates.snapshot().iter().any(|gate| gate.name == "password" && gate.in_use > 0);
        let mut log_in = Box::pin(bench.auth.log_in(EMAIL, secret(PASSWORD), Origin::default()));
        while !is_looked_at() {
            assert!(poll!(log_in.as_mut()).is_pending());
            yield_now().await;
        }
        assert!(bench.db.replace_password_hash(user.id, old, weak_hash(meanwhile)).await.unwrap());
        let outcome = log_in.await.map(drop);
        assert_eq!(outcome, if is_right { Ok(()) } else { Err(AuthError::BadCredentials) }, "{meanwhile}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn a3_a_hash_with_weaker_parameters_is_replaced_at_the_next_log_in() {
    let bench = Bench::start().await;
    let email = EmailAddress::parse(EMAIL).unwrap();
    let at = bench.context.clock.now();
    let user = User {
        id: fresh_id(),
        email: email.clone(),
        role: Role::User,
        disabled: false,
        limits: Limits::default(),
        models: None,
        created_at: at,
    };
    let audit = AuditEntry {
        id: fresh_id(),
        event: AuditEvent::UserCreated,
        actor: Some(user.id),
        user: Some(user.id),
        detail: None,
        address: None,
        request_id: None,
        at,
    };
    let account = Account { user, password_hash: weak_hash(PASSWORD) };
    bench.db.create_user(account, audit).await.unwrap();

    bench.log_in().await;
    // The replacing runs beside the log-in; nothing else is on the tracker.
    bench.settle().await;
    let stored = bench.db.account_by_email(email).await.unwrap().unwrap().password_hash;
    assert!(stored.reveal().contains("m=19456,t=2,p=1"), "still the weak hash");
    bench.log_in().await;
    bench.stop().await;
}

#[tokio::test]
async fn a10_a_refresh_token_buys_its_successor_which_buys_the_next() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let mut tokens = bench.log_in().await;
    let mut seen = HashSet::new();
    for _ in 0..4 {
        bench.wait_by_the_wall(600);
        tokens = bench.auth.refresh(&tokens.refresh_token, Origin::default()).await.unwrap();
        assert!(seen.insert(tokens.refresh_token.reveal().clone()));
        bench.auth.authenticate(tokens.access_token.reveal()).await.unwrap();
    }
    bench.stop().await;
}

#[tokio::test]
async fn a11_fifty_parallel_refreshes_with_one_token_give_one_successor() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    let pairs = join_all((0..50).map(|_| bench.auth.refresh(&tokens.refresh_token, Origin::default()))).await;
    let successors: HashSet<_> =
        pairs.into_iter().map(|pair| pair.unwrap().refresh_token.into_inner()).collect();
    assert_eq!(successors.len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a11_a_parent_shown_after_the_grace_ends_the_family_here_at_once() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let first = bench.log_in().await;
    let second = bench.auth.refresh(&first.refresh_token, Origin::default()).await.unwrap();
    bench.auth.authenticate(second.access_token.reveal()).await.unwrap();

    bench.wait_by_the_wall(11);
    let reused = bench.auth.refresh(&first.refresh_token, Origin::default()).await.unwrap_err();
    assert_eq!(reused, AuthError::BadToken);
    for token in [&first.access_token, &second.access_token] {
        assert_eq!(bench.auth.authenticate(token.reveal()).await, Err(AuthError::BadToken));
    }
    let live = bench.auth.refresh(&second.refresh_token, Origin::default()).await.unwrap_err();
    assert_eq!(live, AuthError::BadToken, "the family is dead");
    let reuse = "deepersensor_sign_ins_total{action=\"refresh\",outcome=\"reuse\"}";
    assert_eq!(bench.metric(reuse), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a10_sessions_end_by_rest_and_by_age() {
    let day = 86_400;
    let bench = Bench::start().await;
    bench.sign_up().await;
    let rested = bench.log_in().await;
    bench.wait_by_the_wall(14 * day + 1);
    let refused = bench.auth.refresh(&rested.refresh_token, Origin::default()).await.unwrap_err();
    assert_eq!(refused, AuthError::BadToken);

    let mut tokens = bench.log_in().await;
    for _ in 0..29 {
        bench.wait_by_the_wall(day);
        tokens = bench.auth.refresh(&tokens.refresh_token, Origin::default()).await.unwrap();
    }
    bench.wait_by_the_wall(day - 60);
    tokens = bench.auth.refresh(&tokens.refresh_token, Origin::default()).await.unwrap();
    assert_eq!(tokens.expires_in, 60, "the access token must end with the session");
    bench.wait_by_the_wall(60);
    let access = bench.auth.authenticate(tokens.access_token.reveal()).await;
    assert_eq!(access, Err(AuthError::BadToken));
    let refused = bench.auth.refresh(&tokens.refresh_token, Origin::default()).await.unwrap_err();
    assert_eq!(refused, AuthError::BadToken);
    bench.stop().await;
}

#[tokio::test]
async fn what_is_no_refresh_token_never_reaches_the_store() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    bench.stop_store().await;
    for text in ["", "dsr_", "dsr_AAAA", tokens.access_token.reveal()] {
        let refused = bench.auth.refresh(&Secret::new(text.to_owned()), Origin::default()).await;
        assert_eq!(refused.unwrap_err(), AuthError::BadToken, "{text}");
    }
    let good = bench.auth.refresh(&tokens.refresh_token, Origin::default()).await.unwrap_err();
    assert!(matches!(good, AuthError::Unavailable(_)), "{good}");
    bench.stop().await;
}

#[tokio::test]
async fn a13_a_family_that_ended_elsewhere_is_over_here_within_five_seconds() {
    let here = Bench::start().await;
    let elsewhere = here.start_twin().await;
    here.sign_up().await;
    let first = here.log_in().await;
    let second = elsewhere.auth.refresh(&first.refresh_token, Origin::default()).await.unwrap();
    // Made after what is known here: it must be looked up, not refused.
    here.auth.authenticate(second.access_token.reveal()).await.unwrap();

    elsewhere.wait_by_the_wall(11);
    elsewhere.auth.refresh(&first.refresh_token, Origin::default()).await.unwrap_err();
    for token in [&first.access_token, &second.access_token] {
        let there = elsewhere.auth.authenticate(token.reveal()).await;
        assert_eq!(there, Err(AuthError::BadToken), "at once where it happened");
        here.auth.authenticate(token.reveal()).await.expect("not yet known here");
    }
    pass(Duration::from_millis(5_001)).await;
    for token in [&first.access_token, &second.access_token] {
        assert_eq!(here.auth.authenticate(token.reveal()).await, Err(AuthError::BadToken));
    }
    elsewhere.stop().await;
    here.stop().await;
}

#[tokio::test]
async fn a5_a_disabled_account_loses_its_tokens_and_is_told_nothing_but_no() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    bench.meanwhile("UPDATE users SET disabled = 1").await;
    let refused = bench.auth.log_in(EMAIL, secret(PASSWORD), Origin::default()).await.unwrap_err();
    assert_eq!(refused, AuthError::BadCredentials, "as for a wrong password");

    pass(Duration::from_millis(5_001)).await;
    let access = bench.auth.authenticate(tokens.access_token.reveal()).await;
    assert_eq!(access, Err(AuthError::BadToken));
    let refresh = bench.auth.refresh(&tokens.refresh_token, Origin::default()).await.unwrap_err();
    assert_eq!(refresh, AuthError::BadToken);
    bench.stop().await;
}

#[tokio::test]
async fn a_token_of_a_session_the_store_has_lost_is_refused() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let first = bench.log_in().await;
    let second = bench.auth.refresh(&first.refresh_token, Origin::default()).await.unwrap();
    bench.meanwhile("UPDATE sessions SET counter = 0").await;
    bench.auth.0.sessions.clear();
    bench.auth.authenticate(first.access_token.reveal()).await.unwrap();
    let lost = bench.auth.authenticate(second.access_token.reveal()).await;
    assert_eq!(lost, Err(AuthError::BadToken), "its refresh was never committed");

    bench.meanwhile("DELETE FROM sessions").await;
    bench.auth.0.sessions.clear();
    let gone = bench.auth.authenticate(first.access_token.reveal()).await;
    assert_eq!(gone, Err(AuthError::BadToken));
    bench.stop().await;
}
