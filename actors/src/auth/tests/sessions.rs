//! A12, A13: sessions are seen and ended by their owner.

use std::time::Duration;

use domain::{
    limits::Limits,
    principal::{Credential, Principal, Scopes},
};

use super::{
    api_keys::Owner,
    bench::{Bench, EMAIL, PASSWORD, pass, secret},
    throttle::from,
};
use crate::{
    auth::{AuthError, LogOut, Origin},
    clock::fresh_id,
};

impl Bench {
    async fn lives(&self, owner: &Owner) -> bool {
        match self.auth.authenticate(&owner.token).await {
            Ok(_) => true,
            Err(AuthError::BadToken) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a12_each_way_of_logging_out_ends_its_sessions_here_at_once() {
    for (which, first_lives, second_lives) in
        [(LogOut::Local, false, true), (LogOut::Others, true, false), (LogOut::Global, false, false)]
    {
        let bench = Bench::start().await;
        let (first, second) = (bench.owner().await, bench.owner_again().await);
        bench.auth.log_out(&first.principal, which, Origin::default()).await.unwrap();
        assert_eq!(bench.lives(&first).await, first_lives, "{which:?}");
        assert_eq!(bench.lives(&second).await, second_lives, "{which:?}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn a13_a_session_logged_out_here_is_over_elsewhere_within_five_seconds() {
    let here = Bench::start().await;
    let elsewhere = here.start_twin().await;
    let owner = here.owner().await;
    assert!(elsewhere.lives(&owner).await);
    here.auth.log_out(&owner.principal, LogOut::Local, Origin::default()).await.unwrap();
    assert!(!here.lives(&owner).await, "at once where it happened");
    pass(Duration::from_millis(5_001)).await;
    assert!(!elsewhere.lives(&owner).await);
    elsewhere.stop().await;
    here.stop().await;
}

#[tokio::test]
async fn a12_logging_out_twice_is_no_error_and_its_refresh_token_is_dead() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    let caller = bench.auth.authenticate(tokens.access_token.reveal()).await.unwrap();
    for _ in 0..2 {
        bench.auth.log_out(&caller, LogOut::Local, Origin::default()).await.unwrap();
    }
    let refused = bench.auth.refresh(&tokens.refresh_token, Origin::default()).await.unwrap_err();
    assert_eq!(refused, AuthError::BadToken);
    bench.stop().await;
}

#[tokio::test]
async fn a12_sessions_are_listed_with_device_and_address_and_ended_one_by_one() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let origin = Origin { device: Some("x".repeat(1_000)), ..from([192, 0, 2, 7]) };
    bench.wait_by_the_wall(1);
    bench.auth.log_in(EMAIL, secret(PASSWORD), origin).await.unwrap();
    let sessions = bench.auth.sessions(&owner.principal).await.unwrap();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[0].device.as_ref().unwrap().len(), 256);
    assert_eq!(sessions[0].address.unwrap().to_string(), "192.0.2.7");
    assert_eq!((sessions[1].device.as_ref(), sessions[1].address), (None, None));

    let end = |session| bench.auth.end_session(&owner.principal, session, Origin::default());
    end(sessions[0].id).await.unwrap();
    assert_eq!(end(sessions[0].id).await, Err(AuthError::NotFound("session")));
    assert_eq!(end(fresh_id()).await, Err(AuthError::NotFound("session")));
    assert_eq!(bench.auth.sessions(&owner.principal).await.unwrap().len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a17_nobody_ends_or_sees_sessions_of_somebody_else() {
    let bench = Bench::start().await;
    let ada = bench.owner().await;
    bench.auth.sign_up("eve@example.org", secret(PASSWORD), None, Origin::default()).await.unwrap();
    let tokens = bench.auth.log_in("eve@example.org", secret(PASSWORD), Origin::default()).await.unwrap();
    let eve = bench.auth.authenticate(tokens.access_token.reveal()).await.unwrap();
    let refused = bench.auth.end_session(&eve, ada.session(), Origin::default()).await;
    assert_eq!(refused, Err(AuthError::NotFound("session")));
    assert!(bench.auth.sessions(&eve).await.unwrap().iter().all(|session| session.user == eve.user));
    bench.auth.log_out(&eve, LogOut::Global, Origin::default()).await.unwrap();
    assert!(bench.lives(&ada).await);
    bench.stop().await;
}

#[tokio::test]
async fn a16_a_key_is_no_session_to_log_out_or_change_a_password_with() {
    let bench = Bench::start().await;
    let owner = bench.owner().await.principal;
    let key = Credential::Key {
        id: fresh_id(),
        scopes: Scopes::default(),
        limits: Limits::default(),
        models: None,
    };
    let caller = Principal { credential: key, ..owner };
    let refused = bench.auth.log_out(&caller, LogOut::Global, Origin::default()).await;
    assert_eq!(refused, Err(AuthError::NeedsSession));
    let new = secret("another four words");
    let refused = bench.auth.change_password(&caller, secret(PASSWORD), new, false, Origin::default()).await;
    assert_eq!(refused.unwrap_err(), AuthError::NeedsSession);
    bench.stop().await;
}
