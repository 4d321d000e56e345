//! Password changes and the sessions they end.

use chrono::TimeDelta;
use domain::{account::PasswordSet, audit::AuditEvent, secret::Secret, session::Rotation};

use super::{ground::Ground, samples::*};
use crate::{
    clock::fresh_id,
    db::{DbError, SetPassword},
};

pub(super) async fn a_password_hash_is_replaced_only_if_it_is_still_the_old_one(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let hash = |text: &str| Secret::new(format!("$argon2id${text}"));
    assert_eq!(room.db.replace_password_hash(user.id, hash("other"), hash("second")).await, Ok(false));
    assert_eq!(room.db.replace_password_hash(user.id, hash("first"), hash("second")).await, Ok(true));
    assert_eq!(room.db.replace_password_hash(user.id, hash("first"), hash("third")).await, Ok(false));
    let found = room.db.account_by_email(user.email).await.unwrap().unwrap();
    assert_eq!(found.password_hash.reveal(), "$argon2id$second");
}

pub(super) async fn a04_a_new_password_ends_other_sessions_and_every_older_token(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (mine, stolen) = (some_session(&room.db, user.id).await, some_session(&room.db, user.id).await);
    let now = noon() + TimeDelta::minutes(1);
    let set = SetPassword { keep: Some(mine.id), now, ..password(user.id, "second") };
    let PasswordSet { kept, ended } = room.db.set_password(set).await.unwrap();
    let (kept, owner) = kept.unwrap();
    assert_eq!((kept.id, kept.counter, kept.min_epoch, kept.rotated_at), (mine.id, 1, 1, now));
    assert_eq!((owner, ended), (user.clone(), vec![stolen.id]));
    let found = room.db.account_by_email(user.email).await.unwrap().unwrap();
    assert_eq!(found.password_hash.reveal(), "$argon2id$second");

    // Within the grace, but from before the change: void, and no reason to end the family.
    assert_eq!(room.db.rotate_session(rotation(&mine, 0, now)).await, Ok(Rotation::Dead));
    assert_eq!(room.db.rotate_session(rotation(&stolen, 0, now)).await, Ok(Rotation::Dead));
    let rotated = room.db.rotate_session(rotation(&mine, 1, now)).await;
    assert!(matches!(rotated, Ok(Rotation::Rotated { .. })), "{rotated:?}");
    // What came after it follows the ordinary rule.
    let repeated = room.db.rotate_session(rotation(&mine, 1, now)).await;
    assert!(matches!(repeated, Ok(Rotation::Repeated { .. })), "{repeated:?}");
    assert_eq!(room.db.rotate_session(rotation(&mine, 0, now)).await, Ok(Rotation::Dead));
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'authn_token_reuse'").await, 0);
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'authn_password_change'").await, 1);
}

pub(super) async fn a04_who_was_let_in_by_the_old_password_finds_no_session_after_the_change(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let sign_in = async |verified: &str| {
        let verified = Secret::new(format!("$argon2id${verified}"));
        room.db.start_session(session(user.id), verified, audit(AuditEvent::AuthnLoginSuccess, user.id)).await
    };
    assert_eq!(sign_in("first").await, Ok(vec![]));
    room.db.set_password(password(user.id, "second")).await.unwrap();
    assert_eq!(sign_in("first").await, Err(DbError::Conflict("password")));
    assert_eq!(sign_in("second").await, Ok(vec![]));
    assert_eq!(ground.count("SELECT count(*) FROM sessions").await, 2);
}

pub(super) async fn a_refused_password_changes_nothing(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let (mine, foreign) = (some_session(&room.db, user.id).await, some_session(&room.db, other.id).await);
    let old = Secret::new("$argon2id$older".into());
    let refused = SetPassword { expected: Some(old), keep: Some(mine.id), ..password(user.id, "second") };
    assert_eq!(room.db.set_password(refused).await, Err(DbError::Conflict("password")));
    let refused = SetPassword { keep: Some(foreign.id), ..password(user.id, "second") };
    assert_eq!(room.db.set_password(refused).await, Err(DbError::NotFound));
    let refused = SetPassword { user: fresh_id(), ..password(user.id, "second") };
    assert_eq!(room.db.set_password(refused).await, Err(DbError::NotFound));

    let found = room.db.account_by_email(user.email.clone()).await.unwrap().unwrap();
    assert_eq!(found.password_hash.reveal(), "$argon2id$first");
    for (session, user) in [(mine, user), (foreign, other)] {
        assert_eq!(room.db.session(session.id).await, Ok(Some((session, user))));
    }
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'authn_password_change'").await, 0);
}

pub(super) async fn a_password_set_without_more_leaves_sessions_alone(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    let set = SetPassword { expected: None, end_others: false, ..password(user.id, "second") };
    assert_eq!(room.db.set_password(set).await, Ok(PasswordSet { kept: None, ended: vec![] }));
    assert_eq!(room.db.session(session.id).await, Ok(Some((session, user))));
}
