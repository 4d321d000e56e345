//! Limits of one account or one key.

use domain::{
    account::{Account, User, UserChange},
    api_key::{ApiKey, KeyChange, KeyChanged},
    audit::{AuditEntry, AuditEvent, AuditFilter},
    limits::{Limits, LimitsChange, Priority},
    principal::Role,
    session::Rotation,
};
use futures_util::future::join_all;

use super::{ground::Ground, samples::*};
use crate::{
    clock::fresh_id,
    db::{DbError, UserSearch},
};

const EVENT: AuditEvent = AuditEvent::PrivilegePermissionsChanged;

/// All that [`some_limits`] are.
const ALL: LimitsChange = LimitsChange {
    requests_per_minute: Some(Some(60)),
    tokens_per_minute: Some(Some(5_000)),
    streams: Some(Some(2)),
    priority: Some(Some(Priority::Batch)),
};

const NO_STREAMS: LimitsChange = LimitsChange { streams: Some(None), ..LimitsChange::NONE };

const fn of_account(limits: LimitsChange) -> UserChange {
    UserChange { limits, ..UserChange::NONE }
}

const fn of_key(limits: LimitsChange) -> KeyChange {
    KeyChange { limits, ..KeyChange::NONE }
}

pub(super) async fn limits_of_an_account_are_read_with_it_and_with_its_sessions_and_keys(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    let (key, hash) = some_key(&room.db, user.id).await;
    let update =
        |change| room.db.update_user(user.id, of_account(change), noon(), vec![audit(EVENT, user.id)]);
    for (change, limits) in [
        (ALL, some_limits()),
        (NO_STREAMS, Limits { streams: None, ..some_limits() }),
        (LimitsChange::NONE, Limits { streams: None, ..some_limits() }),
    ] {
        let changed = update(change).await.unwrap();
        assert_eq!((changed.user.limits, changed.ended), (limits, vec![]));
        let account = room.db.account_by_email(user.email.clone()).await.unwrap().unwrap();
        let listed = room.db.users(UserSearch { limit: 1, ..UserSearch::default() }).await.unwrap();
        let (of_session, by_session) = room.db.session(session.id).await.unwrap().unwrap();
        let (of_key, by_key) = room.db.api_key(hash).await.unwrap().unwrap();
        assert_eq!((of_session, &of_key), (session.clone(), &key), "the account's limits are not the key's");
        let by_id = room.db.user(user.id).await.unwrap().unwrap();
        let found = [account.user, listed.items[0].clone(), by_session, by_key, by_id];
        assert!(found.iter().all(|user| *user == changed.user), "{found:?}");
    }
    let rotated = room.db.rotate_session(rotation(&session, 0, noon())).await.unwrap();
    let Rotation::Rotated { user: rotated, .. } = rotated else { panic!("{rotated:?}") };
    assert_eq!(rotated.limits, Limits { streams: None, ..some_limits() });

    // An account can be born with some.
    let Account { user: born, password_hash } = account("born@example.org");
    let born = User { limits: some_limits(), ..born };
    let entry = audit(AuditEvent::UserCreated, born.id);
    room.db.create_user(Account { user: born.clone(), password_hash }, entry).await.unwrap();
    assert_eq!(room.db.user(born.id).await, Ok(Some(born)));
}

pub(super) async fn limits_of_a_key_change_while_it_is_not_revoked(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (key, hash) = some_key(&room.db, user.id).await;
    let (other, other_hash) = some_key(&room.db, user.id).await;
    let limit = |key, change| room.db.change_api_key(key, of_key(change), audit(EVENT, user.id));
    let changed = limit(key.id, NO_STREAMS).await.unwrap();
    let expected = ApiKey { limits: Limits { streams: None, ..some_limits() }, ..key };
    assert_eq!(changed.key, expected);
    assert_eq!(room.db.api_key(hash).await, Ok(Some((expected.clone(), user.clone()))));
    assert_eq!(room.db.api_key(other_hash).await, Ok(Some((other.clone(), user.clone()))), "another's");
    assert_eq!(room.db.api_keys(user.id, None, 10).await.unwrap().items, [other, expected.clone()]);

    let entry = audit(AuditEvent::AuthnTokenRevoked, user.id);
    room.db.revoke_api_key(None, expected.id, noon(), entry).await.unwrap();
    assert_eq!(limit(expected.id, ALL).await, Err(DbError::NotFound), "revoked");
    assert_eq!(limit(fresh_id(), ALL).await, Err(DbError::NotFound));
    let (revoked, _) = room.db.api_key(hash).await.unwrap().unwrap();
    assert_eq!(revoked.limits, expected.limits);
}

pub(super) async fn a19_a_change_of_limits_is_told_once_and_names_what_changed(ground: Ground) {
    let room = ground.room().await;
    let (user, admin) = (some_user(&room.db).await, some_admin(&room.db).await);
    let (key, _) = some_key(&room.db, user.id).await;
    let mut details = Vec::new();
    let promoted = UserChange { role: Some(Role::Admin), limits: NO_STREAMS, ..UserChange::NONE };
    for (change, detail) in [
        (
            of_account(ALL),
            Some(
                "requests_per_minute none to 60, tokens_per_minute none to 5000, streams none to 2, priority none to batch",
            ),
        ),
        (of_account(ALL), None),
        (promoted.clone(), Some("admin, streams 2 to none")),
        (promoted, None),
    ] {
        let entry = AuditEntry { user: Some(user.id), ..audit(EVENT, admin.id) };
        let changed = room.db.update_user(user.id, change.clone(), noon(), vec![entry]).await.unwrap();
        let told: Vec<_> = changed.told.into_iter().map(|entry| entry.detail.unwrap()).collect();
        assert_eq!(told, Vec::from_iter(detail), "{change:?}");
        details.extend(detail.map(str::to_owned));
    }
    let key_told = format!("{}: streams 2 to none", key.id);
    for told in [Some(key_told.clone()), None] {
        let KeyChanged { told: entry, .. } =
            room.db.change_api_key(key.id, of_key(NO_STREAMS), audit(EVENT, admin.id)).await.unwrap();
        assert_eq!(entry.and_then(|entry| entry.detail), told);
    }
    details.push(key_told);

    let filter = AuditFilter { event: Some(EVENT), user: Some(user.id), ..AuditFilter::default() };
    let entries = room.db.audit(filter, None, 10).await.unwrap().items;
    assert!(entries.iter().all(|entry| entry.actor == Some(admin.id)), "the key's owner is whom it concerns");
    let written: Vec<_> = entries.into_iter().rev().map(|entry| entry.detail.unwrap()).collect();
    assert_eq!(written, details);
}

pub(super) async fn changes_of_different_limits_at_once_all_count(mut ground: Ground) {
    ground.config.exclusive = false;
    let (here, there) = (ground.room().await, ground.room().await);
    let user = some_user(&here.db).await;
    let key = ApiKey { limits: Limits::default(), ..api_key(user.id) };
    let entry = audit(AuditEvent::AuthnTokenCreated, user.id);
    here.db.create_api_key(key.clone(), some_hash(), entry).await.unwrap();
    let none = LimitsChange::NONE;
    let changes = [
        (&here.db, LimitsChange { requests_per_minute: ALL.requests_per_minute, ..none }),
        (&there.db, LimitsChange { tokens_per_minute: ALL.tokens_per_minute, ..none }),
        (&here.db, LimitsChange { streams: ALL.streams, ..none }),
        (&there.db, LimitsChange { priority: ALL.priority, ..none }),
    ];
    let of_users = changes
        .map(|(db, change)| db.update_user(user.id, of_account(change), noon(), vec![audit(EVENT, user.id)]));
    let of_keys =
        changes.map(|(db, change)| db.change_api_key(key.id, of_key(change), audit(EVENT, user.id)));
    let (of_users, of_keys) = tokio::join!(join_all(of_users), join_all(of_keys));
    of_users.into_iter().for_each(|changed| assert!(changed.is_ok(), "{changed:?}"));
    of_keys.into_iter().for_each(|changed| assert!(changed.is_ok(), "{changed:?}"));
    assert_eq!(here.db.user(user.id).await.unwrap().unwrap().limits, some_limits());
    let stored = here.db.api_keys(user.id, None, 1).await.unwrap().items.remove(0);
    assert_eq!(stored, ApiKey { limits: some_limits(), ..key });
}

pub(super) async fn what_is_no_limit_is_never_stored(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    some_key(&room.db, user.id).await;
    for table in ["users", "api_keys"] {
        for set in ["requests_per_minute = 0", "tokens_per_minute = 0", "streams = -1", "priority = 'urgent'"]
        {
            let refused = ground.execute(&format!("UPDATE {table} SET {set}")).await.unwrap_err();
            assert!(refused.to_lowercase().contains("check constraint"), "{table} {set}: {refused}");
        }
        for set in ["requests_per_minute = NULL", "tokens_per_minute = 1", "priority = 'interactive'"] {
            ground.execute(&format!("UPDATE {table} SET {set}")).await.unwrap();
        }
    }
}
