//! Limits that administrators set for one account or one key.

use std::time::Duration;

use domain::{
    account::UserChange,
    api_key::KeyChange,
    limits::{Limits, LimitsChange, Priority},
    principal::{Credential, Principal},
};

use super::bench::{Bench, pass};
use crate::{
    auth::{Administrator, AuthError, Origin},
    clock::fresh_id,
};

/// For the account.
const WIDE: LimitsChange = LimitsChange {
    requests_per_minute: Some(Some(600)),
    tokens_per_minute: Some(Some(200_000)),
    streams: Some(Some(8)),
    priority: None,
};

/// For the key.
const NARROW: LimitsChange = LimitsChange {
    requests_per_minute: Some(Some(30)),
    tokens_per_minute: None,
    streams: Some(Some(1)),
    priority: Some(Some(Priority::Batch)),
};

const fn of_account(limits: LimitsChange) -> UserChange {
    UserChange { limits, ..UserChange::NONE }
}

const fn of_key(limits: LimitsChange) -> KeyChange {
    KeyChange { limits, ..KeyChange::NONE }
}

/// The account's, and the key's if a key was shown.
async fn let_in(bench: &Bench, text: &str) -> (Limits, Option<Limits>) {
    let Principal { limits, credential, .. } = bench.auth.authenticate(text).await.unwrap();
    match credential {
        Credential::Session(_) => (limits, None),
        Credential::Key { limits: own, .. } => (limits, Some(own)),
    }
}

#[tokio::test]
async fn a13_changed_limits_count_here_at_once_and_elsewhere_in_five_seconds() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (key, secret) = bench.key(&owner).await;
    let twin = bench.start_twin().await;
    let (none, by) = (Limits::default(), Administrator::default());
    let expect = async |bench: &Bench, of_account, by_key| {
        assert_eq!(let_in(bench, &owner.token).await, (of_account, None));
        assert_eq!(let_in(bench, secret.reveal()).await, (of_account, Some(by_key)));
    };
    expect(&bench, none, none).await;
    expect(&twin, none, none).await;

    let changed = bench.auth.change_user(&by, owner.principal.user, of_account(WIDE)).await.unwrap();
    assert_eq!(changed.limits, WIDE.of(none));
    expect(&bench, WIDE.of(none), none).await;
    let changed = bench.auth.change_key(&by, key.id, of_key(NARROW)).await.unwrap();
    assert_eq!((changed.id, changed.limits), (key.id, NARROW.of(none)));
    expect(&bench, WIDE.of(none), NARROW.of(none)).await;
    pass(Duration::from_millis(5_001)).await;
    expect(&twin, WIDE.of(none), NARROW.of(none)).await;

    // Taken back by the other one.
    let nothing = LimitsChange { requests_per_minute: Some(None), streams: Some(None), ..LimitsChange::NONE };
    twin.auth.change_user(&by, owner.principal.user, of_account(nothing)).await.unwrap();
    twin.auth.change_key(&by, key.id, of_key(nothing)).await.unwrap();
    let tokens = Limits { tokens_per_minute: Some(200_000), ..none };
    let batch = Limits { priority: Some(Priority::Batch), ..none };
    expect(&twin, tokens, batch).await;
    pass(Duration::from_millis(5_001)).await;
    expect(&bench, tokens, batch).await;
    twin.stop().await;
    bench.stop().await;
}

#[tokio::test]
async fn limits_outside_their_bounds_are_refused_by_name_and_nothing_is_changed() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (key, secret) = bench.key(&owner).await;
    let by = Administrator::default();
    for (at, change) in [
        ("requests_per_minute", LimitsChange { requests_per_minute: Some(Some(1_000_001)), ..WIDE }),
        ("tokens_per_minute", LimitsChange { tokens_per_minute: Some(Some(0)), ..WIDE }),
        ("streams", LimitsChange { streams: Some(Some(10_001)), ..NARROW }),
    ] {
        let account = bench.auth.change_user(&by, owner.principal.user, of_account(change)).await.err();
        let key = bench.auth.change_key(&by, key.id, of_key(change)).await.err();
        for refused in [account, key] {
            assert!(
                matches!(&refused, Some(AuthError::BadRequest { field, .. }) if *field == at),
                "{refused:?}"
            );
        }
    }
    bench.auth.0.sessions.clear();
    assert_eq!(let_in(&bench, secret.reveal()).await, (Limits::default(), Some(Limits::default())));
    bench.stop().await;
}

#[tokio::test]
async fn a_key_that_is_not_there_or_revoked_has_no_limits_to_change() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (key, _) = bench.key(&owner).await;
    bench.auth.revoke_key(&owner.principal, key.id, Origin::default()).await.unwrap();
    for id in [key.id, fresh_id()] {
        let refused = bench.auth.change_key(&Administrator::default(), id, of_key(NARROW)).await;
        assert_eq!(refused, Err(AuthError::NotFound("API key")));
    }
    bench.stop().await;
}
