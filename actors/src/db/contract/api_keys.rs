//! API keys and the generations of signing keys.

use chrono::TimeDelta;
use domain::{
    api_key::{ApiKey, KEYS_PER_USER},
    audit::AuditEvent,
    limits::Limits,
    principal::{Scope, Scopes},
    signing_key::{SigningAlgorithm, SigningKey},
};
use futures_util::future::join_all;

use super::{ground::Ground, samples::*};
use crate::{
    clock::fresh_id,
    db::{DbError, NextKey},
};

pub(super) async fn a15_a_key_is_found_by_its_whole_hash_with_its_user(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (key, hash) = some_key(&room.db, user.id).await;
    assert_eq!(room.db.api_key(hash).await, Ok(Some((key, user.clone()))));
    let mut similar = hash;
    similar[31] ^= 1;
    assert_eq!(room.db.api_key(similar).await, Ok(None));

    let plain = ApiKey {
        name: "a\0b".into(),
        scopes: Scopes::from_iter(Scope::ALL),
        limits: Limits::default(),
        expires_at: None,
        ..api_key(user.id)
    };
    let entry = audit(AuditEvent::AuthnTokenCreated, user.id);
    room.db.create_api_key(plain.clone(), similar, entry).await.unwrap();
    let stored = ApiKey { name: "a\u{fffd}b".into(), ..plain };
    assert_eq!(room.db.api_key(similar).await, Ok(Some((stored, user))));
}

pub(super) async fn keys_page_from_new_to_old_without_the_revoked(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    some_key(&room.db, other.id).await;
    let expired = ApiKey { expires_at: Some(noon() - TimeDelta::days(1)), ..api_key(user.id) };
    let entry = || audit(AuditEvent::AuthnTokenCreated, user.id);
    room.db.create_api_key(expired.clone(), some_hash(), entry()).await.unwrap();
    let (second, _) = some_key(&room.db, user.id).await;
    let (revoked, _) = some_key(&room.db, user.id).await;
    let (newest, _) = some_key(&room.db, user.id).await;
    room.db.revoke_api_key(Some(user.id), revoked.id, noon(), entry()).await.unwrap();

    let first = room.db.api_keys(user.id, None, 2).await.unwrap();
    assert_eq!(first.items, [newest, second]);
    let rest = room.db.api_keys(user.id, first.next.map(Into::into), 2).await.unwrap();
    assert_eq!((rest.items, rest.next), (vec![expired], None));
}

pub(super) async fn a17_a_key_is_revoked_by_its_owner_or_an_administrator_once(ground: Ground) {
    let room = ground.room().await;
    let (user, admin) = (some_user(&room.db).await, some_admin(&room.db).await);
    let (mine, mine_hash) = some_key(&room.db, user.id).await;
    let (seized, seized_hash) = some_key(&room.db, user.id).await;
    let by = |owner, key| {
        room.db.revoke_api_key(owner, key, noon(), audit(AuditEvent::AuthnTokenRevoked, admin.id))
    };
    assert_eq!(by(Some(admin.id), mine.id).await, Err(DbError::NotFound), "foreign");
    assert_eq!(by(None, fresh_id()).await, Err(DbError::NotFound));
    assert_eq!(by(Some(user.id), mine.id).await, Ok(mine_hash));
    assert_eq!(by(Some(user.id), mine.id).await, Err(DbError::NotFound), "again");
    assert_eq!(by(None, seized.id).await, Ok(seized_hash));
    let (seized, _) = room.db.api_key(seized_hash).await.unwrap().unwrap();
    assert_eq!(seized.revoked_at, Some(noon()));

    let filter = domain::audit::AuditFilter {
        event: Some(AuditEvent::AuthnTokenRevoked),
        user: Some(user.id),
        ..Default::default()
    };
    let entries = room.db.audit(filter, None, 10).await.unwrap().items;
    assert_eq!(entries.len(), 2, "of the key's owner, whoever revoked it");
    assert!(entries.iter().all(|entry| entry.actor == Some(admin.id)));
}

pub(super) async fn an_account_has_no_more_keys_than_it_may(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let create = || {
        let entry = audit(AuditEvent::AuthnTokenCreated, user.id);
        room.db.create_api_key(api_key(user.id), some_hash(), entry)
    };
    let expired = ApiKey { expires_at: Some(noon()), ..api_key(user.id) };
    let entry = audit(AuditEvent::AuthnTokenCreated, user.id);
    room.db.create_api_key(expired, some_hash(), entry).await.unwrap();
    let answers = join_all((0..KEYS_PER_USER + 5).map(|_| create())).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused, vec![DbError::Conflict("too many keys"); 5]);
    let some = room.db.api_keys(user.id, None, 1).await.unwrap().items.remove(0);
    let entry = audit(AuditEvent::AuthnTokenRevoked, user.id);
    room.db.revoke_api_key(Some(user.id), some.id, noon(), entry).await.unwrap();
    assert_eq!(create().await, Ok(()));
    let entry = audit(AuditEvent::AuthnTokenCreated, user.id);
    let stranger = room.db.create_api_key(api_key(fresh_id()), some_hash(), entry).await;
    assert_eq!(stranger, Err(DbError::NotFound));
}

pub(super) async fn a09_fifty_parallel_generations_are_one(ground: Ground) {
    let room = ground.room().await;
    assert_eq!(room.db.signing_keys().await, Ok(vec![]));
    let add = |after: u32, seconds| {
        let algorithm = if seconds % 2 == 0 { SigningAlgorithm::EdDsa } else { SigningAlgorithm::Hs256 };
        let key = SigningKey {
            generation: after + 1,
            algorithm,
            kid: format!("kid {seconds}"),
            created_at: noon(),
            signs_from: noon() + TimeDelta::seconds(seconds),
        };
        room.db.add_signing_key(key, audit(AuditEvent::AuthnKeyRotated, fresh_id()))
    };
    let added: Vec<NextKey> =
        join_all((0..50).map(|n| add(0, n))).await.into_iter().map(Result::unwrap).collect();
    let ours = added.iter().filter(|added| matches!(added, NextKey::Added(_))).count();
    assert_eq!(ours, 1, "somebody thinks that another's key is theirs");
    let added: Vec<SigningKey> = added.into_iter().map(NextKey::key).collect();
    assert!(added.iter().all(|key| *key == added[0] && key.generation == 1));
    let NextKey::Added(second) = add(1, 60).await.unwrap() else { panic!("nobody was faster") };
    let told = (second.generation, second.algorithm, second.kid.as_str());
    assert_eq!(told, (2, SigningAlgorithm::EdDsa, "kid 60"));
    assert_eq!(room.db.signing_keys().await, Ok(vec![added[0].clone(), second]));
    assert_eq!(ground.count("SELECT count(*) FROM audit_log").await, 2);
}
