//! A4: changing and resetting passwords, and what ends with the old one.

use domain::password::WeakPassword;

use super::bench::{Bench, EMAIL, PASSWORD, secret};
use crate::auth::{Administrator, AuthError, Origin, TokenPair};

const NEW: &str = "another four words";

impl Bench {
    async fn change(
        &self,
        with: &TokenPair,
        (current, new): (&str, &str),
        keep_others: bool,
    ) -> Result<TokenPair, AuthError> {
        let caller = self.auth.authenticate(with.access_token.reveal()).await.unwrap();
        self.auth.change_password(&caller, secret(current), secret(new), keep_others, Origin::default()).await
    }

    /// Whether its access token and its refresh token serve.
    async fn serves(&self, tokens: &TokenPair) -> (bool, bool) {
        let access = self.auth.authenticate(tokens.access_token.reveal()).await.is_ok();
        (access, self.auth.refresh(&tokens.refresh_token, Origin::default()).await.is_ok())
    }
}

#[tokio::test]
async fn a04_a_changed_password_ends_all_other_sessions_and_every_older_token_of_its_own() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let (own, other) = (bench.log_in().await, bench.log_in().await);
    let new = bench.change(&own, (PASSWORD, NEW), false).await.unwrap();
    assert_eq!(bench.serves(&other).await, (false, false));
    assert_eq!(bench.auth.authenticate(own.access_token.reveal()).await, Err(AuthError::BadToken));
    assert_eq!(bench.serves(&new).await, (true, true));

    let old = bench.auth.log_in(EMAIL, secret(PASSWORD), Origin::default()).await.unwrap_err();
    assert_eq!(old, AuthError::BadCredentials);
    bench.auth.log_in(EMAIL, secret(NEW), Origin::default()).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a04_other_sessions_live_on_if_asked_for_but_no_older_token_of_its_own() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let (own, other) = (bench.log_in().await, bench.log_in().await);
    let new = bench.change(&own, (PASSWORD, NEW), true).await.unwrap();
    assert_eq!(bench.serves(&other).await, (true, true));
    assert_eq!(bench.auth.authenticate(own.access_token.reveal()).await, Err(AuthError::BadToken));
    assert_eq!(bench.serves(&new).await, (true, true));
    bench.stop().await;
}

#[tokio::test]
async fn a04_a_refresh_token_that_the_change_voided_shuts_nobody_out() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let own = bench.log_in().await;
    let new = bench.change(&own, (PASSWORD, NEW), false).await.unwrap();
    let refused = bench.auth.refresh(&own.refresh_token, Origin::default()).await.unwrap_err();
    assert_eq!(refused, AuthError::BadToken);
    assert_eq!(bench.serves(&new).await, (true, true));
    bench.stop().await;
}

#[tokio::test]
async fn a04_a_change_needs_the_current_password_and_a_new_one_that_will_do() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let own = bench.log_in().await;
    for (current, new, refusal) in [
        ("a wrong guess", NEW, AuthError::BadCredentials),
        (PASSWORD, PASSWORD, WeakPassword::Unchanged.into()),
        (PASSWORD, "short", WeakPassword::TooShort { least: 8 }.into()),
        (PASSWORD, "password", WeakPassword::Common.into()),
        (PASSWORD, "ada@example.org", WeakPassword::BuiltFromContext.into()),
    ] {
        assert_eq!(bench.change(&own, (current, new), false).await.unwrap_err(), refusal);
    }
    assert_eq!(bench.serves(&own).await, (true, true));
    bench.stop().await;
}

#[tokio::test]
async fn a04_two_changes_at_once_from_one_password_make_one_change() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let (one, two) = (bench.log_in().await, bench.log_in().await);
    let outcomes = tokio::join!(
        bench.change(&one, (PASSWORD, NEW), true),
        bench.change(&two, (PASSWORD, "four other words"), true),
    );
    let (winner, loser) = match outcomes {
        (Ok(_), Err(refused)) => (NEW, refused),
        (Err(refused), Ok(_)) => ("four other words", refused),
        both => panic!("{both:?}"),
    };
    assert_eq!(loser, AuthError::BadCredentials);
    bench.auth.log_in(EMAIL, secret(winner), Origin::default()).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a04_a_reset_password_ends_every_session() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let own = bench.log_in().await;
    let by = Administrator::default();
    let reset = |email, text| bench.auth.reset_password(&by, email, secret(text));
    assert_eq!(reset("nobody@example.org", NEW).await, Err(AuthError::NotFound("account")));
    assert_eq!(reset(EMAIL, "short").await, Err(WeakPassword::TooShort { least: 8 }.into()));
    assert_eq!(reset(EMAIL, NEW).await.unwrap().email.as_str(), EMAIL);
    assert_eq!(bench.serves(&own).await, (false, false));
    bench.auth.log_in(EMAIL, secret(NEW), Origin::default()).await.unwrap();
    bench.stop().await;
}
