//! Accounts.

use domain::{audit::AuditEvent, email::EmailAddress};

use super::{ground::Ground, samples::*};
use crate::{clock::fresh_id, db::DbError};

pub(super) async fn an_account_is_found_by_its_email_and_by_its_id(ground: Ground) {
    let room = ground.room().await;
    let account = account("ada@example.org");
    let user = account.user.clone();
    room.db.create_user(account, audit(AuditEvent::UserCreated, user.id)).await.unwrap();

    let found = room.db.account_by_email(user.email.clone()).await.unwrap().unwrap();
    assert_eq!(found.user, user);
    assert_eq!(found.password_hash.reveal(), "$argon2id$first");
    assert_eq!(room.db.user(user.id).await.unwrap(), Some(user));
    assert!(
        room.db.account_by_email(EmailAddress::parse("eve@example.org").unwrap()).await.unwrap().is_none()
    );
    assert_eq!(room.db.user(fresh_id()).await.unwrap(), None);
}

pub(super) async fn a_taken_email_is_a_conflict_and_leaves_no_audit_entry(ground: Ground) {
    let room = ground.room().await;
    for expected in [Ok(()), Err(DbError::Conflict("e-mail"))] {
        let account = account("ada@example.org");
        let entry = audit(AuditEvent::UserCreated, account.user.id);
        assert_eq!(room.db.create_user(account, entry).await, expected);
    }
    assert_eq!(ground.count("SELECT count(*) FROM users").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM audit_log").await, 1);
}
