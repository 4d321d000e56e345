//! What keys and tokens open while accounts change or the store is away.

use std::time::Duration;

use domain::{
    account::UserChange,
    principal::{Access, Role, Scopes},
};
use futures_util::{future::join_all, poll};
use tokio::task::yield_now;

use super::{
    api_keys::{made_up, request},
    bench::{Bench, is_unavailable, pass},
};
use crate::auth::{Administrator, AuthError, KeyRequest, Origin, truth::MAX_STALE};

const SESSION_LOOK_UPS: &str = "deepersensor_session_look_ups_total{outcome=\"accepted\"}";

#[tokio::test]
async fn a13_a_disabled_account_loses_its_keys_and_tokens_here_at_once_and_elsewhere_in_five_seconds() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (_, key) = bench.key(&owner).await;
    let twin = bench.start_twin().await;
    let shown = [key.reveal().as_str(), &owner.token];
    for text in shown {
        bench.auth.authenticate(text).await.unwrap();
        twin.auth.authenticate(text).await.unwrap();
    }
    let switch = async |disabled| {
        let change = UserChange { disabled: Some(disabled), ..UserChange::NONE };
        bench.auth.change_user(&Administrator::default(), owner.principal.user, change).await.unwrap();
    };
    switch(true).await;
    for text in shown {
        assert_eq!(bench.auth.authenticate(text).await, Err(AuthError::BadToken));
        twin.auth.authenticate(text).await.unwrap();
    }
    pass(Duration::from_millis(5_001)).await;
    for text in shown {
        assert_eq!(twin.auth.authenticate(text).await, Err(AuthError::BadToken));
    }
    switch(false).await;
    pass(Duration::from_millis(5_001)).await;
    bench.auth.authenticate(key.reveal()).await.expect("enabling gives the keys back");
    assert_eq!(bench.auth.authenticate(&owner.token).await, Err(AuthError::BadToken), "and no session");
    twin.stop().await;
    bench.stop().await;
}

#[tokio::test]
async fn a13_a_look_up_that_was_on_its_way_when_the_account_changed_is_made_again() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (_, key) = bench.key(&owner).await;
    let shown = [key.reveal().as_str(), &owner.token];
    for text in shown {
        bench.auth.0.sessions.clear();
        let mut early = Box::pin(bench.auth.authenticate(text));
        assert!(poll!(early.as_mut()).is_pending());
        // Long enough for the store to have answered; the caller has not looked yet.
        let look_ups = || bench.key_look_ups() + bench.metric(SESSION_LOOK_UPS);
        let before = look_ups();
        while look_ups() == before {
            yield_now().await;
        }
        bench.auth.0.sessions.reconsider(owner.principal.user);
        early.await.unwrap();
        assert_eq!(look_ups(), before + 2, "old truth was believed");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a13_a_changed_account_is_not_served_by_what_was_true_before_even_with_the_store_away() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (_, key) = bench.key(&owner).await;
    bench.auth.authenticate(key.reveal()).await.unwrap();
    bench.stop_store().await;
    bench.auth.authenticate(key.reveal()).await.unwrap();
    bench.auth.0.sessions.reconsider(owner.principal.user);
    for text in [key.reveal(), &owner.token] {
        assert!(is_unavailable(&bench.auth.authenticate(text).await));
    }
    bench.stop().await;
}

#[tokio::test]
async fn a15_the_scope_admin_of_somebody_who_is_no_administrator_any_more_opens_nothing() {
    let bench = Bench::start().await;
    let admin = bench.admin().await;
    let wanted = KeyRequest { scopes: Scopes::parse("admin").unwrap(), ..request() };
    let (_, key) = bench.auth.create_key(&admin.principal, wanted, Origin::default()).await.unwrap();
    assert!(Access::Admin.admits(&bench.auth.authenticate(key.reveal()).await.unwrap()));
    bench.meanwhile("UPDATE users SET role = 'user'").await;
    bench.auth.0.sessions.reconsider(admin.principal.user);
    for text in [key.reveal(), &admin.token] {
        assert!(!Access::Admin.admits(&bench.auth.authenticate(text).await.unwrap()));
    }
    bench.stop().await;
}

#[tokio::test]
async fn a18_who_is_asked_about_now_has_the_role_that_the_store_gives_now() {
    let bench = Bench::start().await;
    let admin = bench.admin().await;
    let wanted = KeyRequest { scopes: Scopes::parse("admin").unwrap(), ..request() };
    let (_, key) = bench.auth.create_key(&admin.principal, wanted, Origin::default()).await.unwrap();
    let shown = [key.reveal().as_str(), &admin.token];
    for (role, sql) in
        [(Role::User, "UPDATE users SET role = 'user'"), (Role::Admin, "UPDATE users SET role = 'admin'")]
    {
        let before = shown.map(|text| bench.auth.authenticate(text));
        let before: Vec<_> = join_all(before).await.into_iter().map(|caller| caller.unwrap().role).collect();
        bench.meanwhile(sql).await;
        for (text, before) in shown.into_iter().zip(before) {
            assert_ne!(before, role, "this shows nothing");
            assert_eq!(bench.auth.authenticate(text).await.unwrap().role, before, "known lately");
            assert_eq!(bench.auth.authenticate_now(text).await.unwrap().role, role);
        }
    }
    bench.meanwhile("UPDATE users SET disabled = 1").await;
    for text in shown {
        assert_eq!(bench.auth.authenticate_now(text).await, Err(AuthError::BadToken));
    }
    bench.stop().await;
}

#[tokio::test]
async fn a18_callers_at_the_same_time_share_a_look_up_and_made_up_keys_cost_no_more_than_elsewhere() {
    let bench = Bench::start().await;
    let (_, key) = bench.key(&bench.owner().await).await;
    bench.auth.authenticate(key.reveal()).await.unwrap();
    let before = bench.key_look_ups();
    for caller in join_all((0..200).map(|_| bench.auth.authenticate_now(key.reveal()))).await {
        caller.unwrap();
    }
    // One, and one for those who joined it too late.
    let shared = bench.key_look_ups() - before;
    assert!((1..=2).contains(&shared), "{shared}");

    let before = bench.key_look_ups();
    for _ in 0..5 {
        assert_eq!(bench.auth.authenticate_now(&made_up(1)).await, Err(AuthError::BadToken));
    }
    assert_eq!(bench.key_look_ups() - before, 1);

    bench.stop_store().await;
    bench.auth.authenticate(key.reveal()).await.expect("known lately");
    assert!(is_unavailable(&bench.auth.authenticate_now(key.reveal()).await));
    bench.stop().await;
}

#[tokio::test]
async fn a13_with_the_store_away_users_keys_serve_for_a_minute_and_unknown_ones_are_no_refusal() {
    let bench = Bench::start().await;
    let (_, key) = bench.key(&bench.owner().await).await;
    bench.auth.authenticate(key.reveal()).await.unwrap();
    bench.stop_store().await;
    assert!(is_unavailable(&bench.auth.authenticate(&made_up(1)).await));
    pass(Duration::from_secs(50)).await;
    bench.auth.authenticate(key.reveal()).await.unwrap();
    pass(MAX_STALE - Duration::from_secs(49)).await;
    assert!(is_unavailable(&bench.auth.authenticate(key.reveal()).await), "never a refusal");
    bench.stop().await;
}

#[tokio::test]
async fn a13_with_the_store_away_administrators_keys_serve_only_while_the_truth_is_fresh() {
    let bench = Bench::start().await;
    let (_, key) = bench.key(&bench.admin().await).await;
    bench.auth.authenticate(key.reveal()).await.unwrap();
    bench.stop_store().await;
    bench.auth.authenticate(key.reveal()).await.unwrap();
    pass(Duration::from_secs(6)).await;
    assert!(is_unavailable(&bench.auth.authenticate(key.reveal()).await));
    bench.stop().await;
}
