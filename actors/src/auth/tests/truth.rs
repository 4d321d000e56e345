//! What follows from the truth about a session or a key.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    account::User,
    api_key::ApiKey,
    email::EmailAddress,
    limits::Limits,
    model_access::ModelPatterns,
    principal::{Credential, Principal, Role, Scopes},
    session::Session,
};
use tokio::time::Instant;

use crate::{
    auth::{
        access_token::Grant,
        truth::{Shown, Truth},
    },
    clock::fresh_id,
};

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn user(role: Role) -> User {
    let email = EmailAddress::parse("ada@example.org").unwrap();
    let limits = Limits { streams: Some(8), ..Limits::default() };
    let models = Some(ModelPatterns::of(["a", "b:*"]).unwrap());
    User { id: fresh_id(), email, role, disabled: false, limits, models, created_at: noon() }
}

fn session(of: &User) -> Session {
    Session {
        id: fresh_id(),
        user: of.id,
        counter: 5,
        min_epoch: 3,
        created_at: noon(),
        rotated_at: noon(),
        last_used_at: noon(),
        expires_at: noon(),
        revoked_at: None,
        device: None,
        address: None,
    }
}

fn token(of: &Session, epoch: u32) -> Shown {
    Shown::Token(Grant { user: of.user, session: of.id, epoch, expires_at: i64::MAX })
}

fn key(of: &User) -> ApiKey {
    ApiKey {
        id: fresh_id(),
        user: of.id,
        name: "nightly".to_owned(),
        prefix: "dsk_12345678".to_owned(),
        scopes: Scopes::parse("chat admin").unwrap(),
        limits: Limits { requests_per_minute: Some(60), ..Limits::default() },
        models: Some(ModelPatterns::none()),
        created_at: noon(),
        expires_at: Some(noon() + TimeDelta::hours(1)),
        last_used_at: None,
        revoked_at: None,
    }
}

#[test]
fn a04_a_token_from_before_the_password_changed_is_refused_and_one_from_after_is_not() {
    let user = user(Role::User);
    let session = session(&user);
    let truth = Truth::of(&session, &user, Instant::now());
    for (epoch, is_let_in, is_behind) in
        [(0, false, false), (2, false, false), (3, true, false), (5, true, false), (6, true, true)]
    {
        let token = token(&session, epoch);
        assert_eq!(truth.principal(&token, noon()).is_some(), is_let_in, "epoch {epoch}");
        assert_eq!(truth.is_behind(&token), is_behind, "epoch {epoch}");
    }
}

#[test]
fn a_token_lets_in_with_its_accounts_limits() {
    let user = user(Role::User);
    let session = session(&user);
    let principal = Truth::of(&session, &user, Instant::now()).principal(&token(&session, 5), noon());
    assert_eq!(principal.map(|caller| caller.limits), Some(user.limits));
}

#[test]
fn a13_what_is_revoked_disabled_unknown_or_somebody_elses_lets_nobody_in() {
    let owner = user(Role::User);
    let (session, key) = (session(&owner), key(&owner));
    let now = Instant::now();
    let revoked_at = Some(noon());
    let disabled = User { disabled: true, ..owner.clone() };
    let truths = [
        Truth::of(&Session { revoked_at, ..session.clone() }, &owner, now),
        Truth::of(&session, &disabled, now),
        Truth::of(&session, &user(Role::User), now),
        Truth::of_key(&ApiKey { revoked_at, ..key.clone() }, &owner, now),
        Truth::of_key(&key, &disabled, now),
        Truth::of_key(&key, &user(Role::User), now),
        Truth::ended(now),
        Truth::unknown(now),
    ];
    for truth in truths {
        for shown in [token(&session, 5), Shown::Key([0; 32])] {
            assert_eq!(truth.principal(&shown, noon()), None, "{truth:?}");
        }
    }
    // Nor is the one kind of truth good for the other.
    assert_eq!(Truth::of(&session, &owner, now).principal(&Shown::Key([0; 32]), noon()), None);
    assert_eq!(Truth::of_key(&key, &owner, now).principal(&token(&session, 5), noon()), None);
}

#[test]
fn a15_a_key_lets_in_with_its_scopes_and_limits_until_the_second_it_expires() {
    let user = user(Role::Admin);
    let key = key(&user);
    let truth = Truth::of_key(&key, &user, Instant::now());
    let shown = Shown::Key([0; 32]);
    let at = |seconds| noon() + TimeDelta::seconds(seconds);
    let principal = truth.principal(&shown, at(3_599)).unwrap();
    let credential =
        Credential::Key { id: key.id, scopes: key.scopes, limits: key.limits, models: key.models.clone() };
    let (limits, models) = (user.limits, user.models.clone());
    assert_eq!(principal, Principal { user: user.id, role: Role::Admin, limits, models, credential });
    assert_eq!(truth.principal(&shown, at(3_600)), None);
    let lasting = Truth::of_key(&ApiKey { expires_at: None, ..key }, &user, Instant::now());
    assert!(lasting.principal(&shown, at(i64::from(u32::MAX))).is_some());
}
