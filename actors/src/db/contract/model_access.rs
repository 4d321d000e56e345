//! The models of one account or one key.

use domain::{
    account::{Account, User, UserChange},
    api_key::{ApiKey, KeyChange},
    audit::{AuditEntry, AuditEvent},
    limits::LimitsChange,
    model_access::ModelPatterns,
};

use super::{ground::Ground, samples::*};
use crate::db::{DbError, UserSearch};

const EVENT: AuditEvent = AuditEvent::PrivilegePermissionsChanged;

fn of_account(models: Option<ModelPatterns>) -> UserChange {
    UserChange { models: Some(models), ..UserChange::NONE }
}

fn of_key(models: Option<ModelPatterns>) -> KeyChange {
    KeyChange { models: Some(models), ..KeyChange::NONE }
}

/// As many and as long as may be.
fn most() -> ModelPatterns {
    let texts: Vec<_> = (10..74).map(|n| format!("{n}{}:latest", "x".repeat(119))).collect();
    ModelPatterns::of(texts.iter().map(String::as_str)).unwrap()
}

pub(super) async fn models_of_an_account_are_read_with_it_and_with_its_sessions_and_keys(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    let (key, hash) = some_key(&room.db, user.id).await;
    for models in [Some(some_models()), Some(ModelPatterns::none()), Some(most()), None] {
        let entry = audit(EVENT, user.id);
        let changed =
            room.db.update_user(user.id, of_account(models.clone()), noon(), vec![entry]).await.unwrap();
        assert_eq!((&changed.user.models, changed.ended), (&models, vec![]));
        let account = room.db.account_by_email(user.email.clone()).await.unwrap().unwrap();
        let listed = room.db.users(UserSearch { limit: 1, ..UserSearch::default() }).await.unwrap();
        let (_, by_session) = room.db.session(session.id).await.unwrap().unwrap();
        let (of_key, by_key) = room.db.api_key(hash).await.unwrap().unwrap();
        assert_eq!(of_key, key, "the account's models are not the key's");
        let by_id = room.db.user(user.id).await.unwrap().unwrap();
        let found = [account.user, listed.items[0].clone(), by_session, by_key, by_id];
        assert!(found.iter().all(|user| *user == changed.user), "{found:?}");
    }

    // An account can be born with some.
    let Account { user: born, password_hash } = account("born@example.org");
    let born = User { models: Some(some_models()), ..born };
    let entry = audit(AuditEvent::UserCreated, born.id);
    room.db.create_user(Account { user: born.clone(), password_hash }, entry).await.unwrap();
    assert_eq!(room.db.user(born.id).await, Ok(Some(born)));
}

pub(super) async fn models_of_a_key_change_while_it_is_not_revoked(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (key, hash) = some_key(&room.db, user.id).await;
    let (other, other_hash) = some_key(&room.db, user.id).await;
    let change = |models| room.db.change_api_key(key.id, of_key(models), audit(EVENT, user.id));
    for models in [Some(ModelPatterns::none()), Some(most()), None] {
        let expected = ApiKey { models: models.clone(), ..key.clone() };
        assert_eq!(change(models).await.unwrap().key, expected);
        assert_eq!(room.db.api_key(hash).await, Ok(Some((expected.clone(), user.clone()))));
        assert_eq!(room.db.api_keys(user.id, None, 10).await.unwrap().items, [other.clone(), expected]);
    }
    let (untouched, _) = room.db.api_key(other_hash).await.unwrap().unwrap();
    assert_eq!(untouched, other, "another's");
    room.db
        .revoke_api_key(None, key.id, noon(), audit(AuditEvent::AuthnTokenRevoked, user.id))
        .await
        .unwrap();
    assert_eq!(change(Some(most())).await, Err(DbError::NotFound), "revoked");
}

pub(super) async fn a19_a_change_of_models_is_told_once_beside_what_else_changed(ground: Ground) {
    let room = ground.room().await;
    let (user, admin) = (some_user(&room.db).await, some_admin(&room.db).await);
    let (key, _) = some_key(&room.db, user.id).await;
    let streams = LimitsChange { streams: Some(Some(9)), ..LimitsChange::NONE };
    for (change, told) in [
        (of_account(Some(some_models())), Some("models none to qwen3:*,llama3.2:latest")),
        (of_account(Some(some_models())), None),
        (
            UserChange { limits: streams, ..of_account(Some(ModelPatterns::none())) },
            Some("streams none to 9, models qwen3:*,llama3.2:latest to []"),
        ),
        (of_account(None), Some("models [] to none")),
    ] {
        let entry = AuditEntry { user: Some(user.id), ..audit(EVENT, admin.id) };
        let changed = room.db.update_user(user.id, change, noon(), vec![entry]).await.unwrap();
        let details: Vec<_> = changed.told.into_iter().map(|entry| entry.detail.unwrap()).collect();
        assert_eq!(details, Vec::from_iter(told));
    }
    for told in [Some(format!("{}: models qwen3:*,llama3.2:latest to none", key.id)), None] {
        let changed = room.db.change_api_key(key.id, of_key(None), audit(EVENT, admin.id)).await.unwrap();
        assert_eq!(changed.told.and_then(|entry| entry.detail), told);
    }
}

/// What the release before says of accounts and keys, but for the values: it sets limits, and makes accounts and keys.
const PREVIOUS: [&str; 4] = [
    "UPDATE users SET role = 'user', disabled = false, requests_per_minute = 9, tokens_per_minute = NULL, streams = NULL,
                      priority = NULL",
    "UPDATE api_keys SET requests_per_minute = 9, tokens_per_minute = NULL, streams = NULL, priority = NULL",
    "INSERT INTO users (id, email, password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams,
                        priority, created_at)
     SELECT {id}, 'new@example.org', password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams,
            priority, created_at FROM users LIMIT 1",
    "INSERT INTO api_keys (id, user_id, name, prefix, hash, scopes, requests_per_minute, tokens_per_minute, streams,
                           priority, created_at, expires_at)
     SELECT {id}, user_id, name, prefix, {hash}, scopes, requests_per_minute, tokens_per_minute, streams,
            priority, created_at, expires_at FROM api_keys LIMIT 1",
];

pub(super) async fn e06_lists_stay_when_a_release_writes_that_does_not_know_them(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (key, hash) = some_key(&room.db, user.id).await;
    room.db.update_user(user.id, of_account(Some(most())), noon(), vec![]).await.unwrap();
    let (id, other_hash) = match ground.config.database_url {
        Some(_) => ("'01890000-0000-7000-8000-000000000001'::uuid", "decode(repeat('07', 32), 'hex')"),
        None => (
            "x'01890000000070008000000000000001'",
            "x'0707070707070707070707070707070707070707070707070707070707070707'",
        ),
    };
    for statement in PREVIOUS {
        ground.execute(&statement.replace("{id}", id).replace("{hash}", other_hash)).await.unwrap();
    }
    let (old_key, old_user) = room.db.api_key(hash).await.unwrap().unwrap();
    assert_eq!((old_key.limits.requests_per_minute, old_key.models), (Some(9), key.models));
    assert_eq!((old_user.limits.requests_per_minute, old_user.models), (Some(9), Some(most())));
    let (new_key, _) = room.db.api_key([7; 32]).await.unwrap().unwrap();
    let new_user = room.db.user(new_key.id.as_uuid().into()).await.unwrap().unwrap();
    assert_eq!((new_key.models, new_user.models), (None, None), "what it makes has no list");
}

/// Somebody who edits rows by hand may leave what nobody can read: then the account is let in nowhere rather than everywhere.
pub(super) async fn a_list_that_cannot_be_read_lets_nobody_in_and_one_that_is_too_long_is_never_stored(
    ground: Ground,
) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (_, hash) = some_key(&room.db, user.id).await;
    for table in ["users", "api_keys"] {
        let long = format!("UPDATE {table} SET models = '{}'", "x".repeat(8_256));
        let refused = ground.execute(&long).await.unwrap_err();
        assert!(refused.to_lowercase().contains("check constraint"), "{table}: {refused}");
        ground.execute(&format!("UPDATE {table} SET models = 'a b'")).await.unwrap();
        let found = room.db.api_key(hash).await;
        assert!(
            matches!(&found, Err(DbError::Broken(what)) if what.contains(&format!("{table}.models"))),
            "{found:?}"
        );
        ground.execute(&format!("UPDATE {table} SET models = NULL")).await.unwrap();
    }
    assert!(room.db.api_key(hash).await.is_ok());
}
