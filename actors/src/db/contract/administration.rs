//! What administrators do to accounts, and what they cannot.

use std::time::Duration;

use domain::{
    account::{UserChange, UserChanged},
    audit::AuditEvent,
    principal::Role,
};
use futures_util::future::join_all;

use super::{ground::Ground, samples::*};
use crate::{
    clock::fresh_id,
    db::{DbError, UserSearch},
};

const DEMOTED: UserChange = UserChange { role: Some(Role::User), ..UserChange::NONE };
const DISABLED: UserChange = UserChange { disabled: Some(true), ..UserChange::NONE };
const ENABLED: UserChange = UserChange { disabled: Some(false), ..UserChange::NONE };

pub(super) async fn g8_a_search_takes_its_text_literally(ground: Ground) {
    let room = ground.room().await;
    for email in ["a%b@example.org", "a_b@example.org", "axb@example.org", "a\\b@example.org"] {
        let account = account(email);
        let entry = audit(AuditEvent::UserCreated, account.user.id);
        room.db.create_user(account, entry).await.unwrap();
    }
    for (text, found) in [
        ("a%b", vec!["a%b@example.org"]),
        ("A_B@", vec!["a_b@example.org"]),
        ("\\", vec!["a\\b@example.org"]),
        ("xb@ex", vec!["axb@example.org"]),
        ("%", vec!["a%b@example.org"]),
        ("' OR 1=1", vec![]),
        ("\0", vec![]),
    ] {
        let search = UserSearch { text: Some(text.into()), before: None, limit: 10 };
        let users = room.db.users(search).await.unwrap().items;
        assert_eq!(users.iter().map(|user| user.email.as_str()).collect::<Vec<_>>(), found, "{text}");
    }
}

pub(super) async fn accounts_page_from_new_to_old_without_the_deleted(ground: Ground) {
    let room = ground.room().await;
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(some_user(&room.db).await);
    }
    let gone = users.remove(1);
    room.db.delete_user(gone.id, noon(), audit(AuditEvent::UserDeleted, gone.id)).await.unwrap();
    users.reverse();
    let first = room.db.users(UserSearch { limit: 2, ..UserSearch::default() }).await.unwrap();
    assert_eq!(first.items, users[..2]);
    let before = first.next.map(Into::into);
    let rest = room.db.users(UserSearch { before, limit: 2, text: None }).await.unwrap();
    assert_eq!((rest.items, rest.next), (users[2..].to_vec(), None));
}

pub(super) async fn a12_disabling_ends_every_session_and_enabling_gives_none_back(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let sessions = [some_session(&room.db, user.id).await, some_session(&room.db, user.id).await];
    let other = some_user(&room.db).await;
    let untouched = some_session(&room.db, other.id).await;
    let update =
        |change| room.db.update_user(user.id, change, noon(), vec![audit(AuditEvent::UserUpdated, user.id)]);

    let UserChanged { user: disabled, mut ended, .. } = update(DISABLED).await.unwrap();
    assert!(disabled.disabled);
    ended.sort();
    assert_eq!(ended, sessions.each_ref().map(|session| session.id));
    let refused = room
        .db
        .start_session(session(user.id), password_hash(), audit(AuditEvent::AuthnLoginSuccess, user.id))
        .await;
    assert_eq!(refused, Err(DbError::NotFound), "a sign-in that was under way");
    let UserChanged { user: enabled, ended, .. } = update(ENABLED).await.unwrap();
    assert_eq!((enabled, ended), (user.clone(), vec![]));
    let (session, _) = room.db.session(sessions[0].id).await.unwrap().unwrap();
    assert_eq!(session.revoked_at, Some(noon()));
    assert_eq!(room.db.session(untouched.id).await, Ok(Some((untouched, other))));
}

pub(super) async fn a_change_of_an_account_is_audited_if_it_is_one(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    // Or the last step would take the last administrator.
    some_admin(&room.db).await;
    let entries = || {
        [AuditEvent::PrivilegePermissionsChanged, AuditEvent::UserUpdated].map(|event| audit(event, user.id))
    };
    let change =
        |role, disabled| UserChange { role: Some(role), disabled: Some(disabled), ..UserChange::NONE };
    let (role, state) = (AuditEvent::PrivilegePermissionsChanged, AuditEvent::UserUpdated);
    let mut written = 0;
    for (wanted, expected) in [
        (change(Role::Admin, true), vec![role, state]),
        (change(Role::Admin, true), vec![]),
        (change(Role::Admin, false), vec![state]),
        (change(Role::User, false), vec![role]),
    ] {
        let changed = room.db.update_user(user.id, wanted.clone(), noon(), entries().into()).await.unwrap();
        assert_eq!((Some(changed.user.role), Some(changed.user.disabled)), (wanted.role, wanted.disabled));
        assert_eq!(changed.told.iter().map(|entry| entry.event).collect::<Vec<_>>(), expected);
        written += expected.len();
        let entries = "SELECT count(*) FROM audit_log WHERE event <> 'user_created'";
        assert_eq!(ground.count(entries).await, written as i64);
    }
    let missing = room.db.update_user(fresh_id(), DEMOTED, noon(), entries().into()).await;
    assert_eq!(missing, Err(DbError::NotFound));
}

pub(super) async fn the_last_administrator_stays(ground: Ground) {
    let room = ground.room().await;
    let (last, disabled) = (some_admin(&room.db).await, some_admin(&room.db).await);
    let entry = || audit(AuditEvent::UserUpdated, last.id);
    room.db.update_user(disabled.id, DISABLED, noon(), vec![entry()]).await.unwrap();

    let refused = Err(DbError::Conflict("last administrator"));
    assert_eq!(room.db.update_user(last.id, DEMOTED, noon(), vec![entry()]).await, refused);
    assert_eq!(room.db.update_user(last.id, DISABLED, noon(), vec![entry()]).await, refused);
    assert_eq!(room.db.delete_user(last.id, noon(), entry()).await, refused);
    assert_eq!(room.db.user(last.id).await, Ok(Some(last.clone())));
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'user_updated'").await, 1);

    // A disabled one may go, and with another the last is not the last.
    room.db.delete_user(disabled.id, noon(), entry()).await.unwrap();
    some_admin(&room.db).await;
    room.db.update_user(last.id, DEMOTED, noon(), vec![entry()]).await.unwrap();
}

pub(super) async fn administrators_who_demote_each_other_at_once_leave_one(ground: Ground) {
    let room = ground.room().await;
    let admins = join_all((0..12).map(|_| some_admin(&room.db))).await;
    let demotions = admins.iter().enumerate().map(|(n, admin)| {
        let entry = audit(AuditEvent::UserUpdated, admin.id);
        let room = &room;
        async move {
            match n % 3 {
                0 => room.db.update_user(admin.id, DEMOTED, noon(), vec![entry]).await,
                1 => room.db.update_user(admin.id, DISABLED, noon(), vec![entry]).await,
                _ => room.db.delete_user(admin.id, noon(), entry).await,
            }
        }
    });
    let answers = join_all(demotions).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused, [DbError::Conflict("last administrator")]);
    assert_eq!(ground.count("SELECT count(*) FROM users WHERE role = 'admin' AND NOT disabled").await, 1);
}

pub(super) async fn a_deleted_account_leaves_a_nameless_row_and_its_usage(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let begun = begin(user.id);
    room.db.begin_turn(begun.clone()).await.unwrap();
    settle(&room.db, settlement(&begun, "because")).await.unwrap();
    room.db.begin_turn(begin(other.id)).await.unwrap();
    let session = some_session(&room.db, user.id).await;
    let (_, hash) = some_key(&room.db, user.id).await;

    let entry = || audit(AuditEvent::UserDeleted, user.id);
    let deleted = room.db.delete_user(user.id, noon(), entry()).await.unwrap();
    assert_eq!((deleted.user, deleted.ended), (user.clone(), vec![session.id]));

    assert_eq!(room.db.user(user.id).await, Ok(None));
    assert_eq!(room.db.session(session.id).await, Ok(None));
    assert_eq!(room.db.api_key(hash).await, Ok(None));
    assert!(room.db.account_by_email(user.email.clone()).await.unwrap().is_none());
    purge_conversations(&room.db).await;
    assert_eq!(ground.count("SELECT count(*) FROM conversations").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM messages").await, 2);
    let usage = "SELECT count(*) FROM turns WHERE completion_tokens = 7 AND conversation_id IS NULL";
    assert_eq!(ground.count(usage).await, 1);
    let row =
        "SELECT count(*) FROM users WHERE email LIKE '%@deleted.invalid' AND disabled AND password_hash = ''
               AND deleted_at IS NOT NULL";
    assert_eq!(ground.count(row).await, 1);

    for gone in [
        room.db.begin_turn(begin(user.id)).await.err(),
        room.db.delete_user(user.id, noon(), entry()).await.err(),
        room.db.update_user(user.id, ENABLED, noon(), vec![entry()]).await.err(),
        room.db.create_api_key(api_key(user.id), some_hash(), entry()).await.err(),
        room.db.set_password(password(user.id, "second")).await.err(),
    ] {
        assert_eq!(gone, Some(DbError::NotFound));
    }
    assert_eq!(room.db.sessions(user.id, noon(), Duration::MAX).await, Ok(vec![]));
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'user_deleted'").await, 1);
    // The address is free again.
    room.db.create_user(account(user.email.as_str()), audit(AuditEvent::UserCreated, user.id)).await.unwrap();
}

pub(super) async fn nobody_keeps_an_account_from_being_deleted_by_taking_its_last_name(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let squatter = account(&format!("{}@deleted.invalid", user.id));
    room.db.create_user(squatter, audit(AuditEvent::UserCreated, user.id)).await.unwrap();
    let entry = audit(AuditEvent::UserDeleted, user.id);
    assert!(room.db.delete_user(user.id, noon(), entry).await.is_ok());
}

pub(super) async fn nothing_that_begins_during_a_deletion_outlives_it(ground: Ground) {
    let room = ground.room().await;
    for _ in 0..10 {
        let user = some_user(&room.db).await;
        let begins = || join_all((0..20).map(|_| room.db.begin_turn(begin(user.id))));
        let entry = |event| audit(event, user.id);
        let (before, deleted, after, session, key) = tokio::join!(
            begins(),
            room.db.delete_user(user.id, noon(), entry(AuditEvent::UserDeleted)),
            begins(),
            room.db.start_session(session(user.id), password_hash(), entry(AuditEvent::AuthnLoginSuccess)),
            room.db.create_api_key(api_key(user.id), some_hash(), entry(AuditEvent::AuthnTokenCreated)),
        );
        assert!(deleted.is_ok(), "{deleted:?}");
        assert_eq!((session.err(), key.err()), (Some(DbError::NotFound), Some(DbError::NotFound)));
        for begun in before.into_iter().chain(after) {
            assert!(matches!(begun, Ok(domain::turn::Begun::New) | Err(DbError::NotFound)), "{begun:?}");
        }
    }
    purge_conversations(&room.db).await;
    assert_eq!(ground.count("SELECT count(*) FROM conversations").await, 0);
}
