//! Invites and the accounts they make.

use chrono::TimeDelta;
use domain::{
    account::{User, UserChange},
    audit::AuditEvent,
    invite::Invite,
    invite::InviteHash,
    principal::Role,
};
use futures_util::future::join_all;

use super::{ground::Ground, samples::*};
use crate::db::{DbError, DbHandle};

async fn sign_up(db: &DbHandle, email: &str, invite: InviteHash) -> Result<User, DbError> {
    let account = account(email);
    let entry = audit(AuditEvent::UserCreated, account.user.id);
    db.create_invited_user(account, invite, noon(), entry).await.map(|made| made.user)
}

pub(super) async fn an_invite_gives_its_role_once(ground: Ground) {
    let room = ground.room().await;
    let hash = some_invite(&room.db, &Invite { role: Role::Admin, ..invite() }).await;
    let user = sign_up(&room.db, "eve@example.org", hash).await.unwrap();
    assert_eq!((user.role, user.email.as_str()), (Role::Admin, "eve@example.org"));
    assert_eq!(room.db.user(user.id).await, Ok(Some(user.clone())));
    assert_eq!(sign_up(&room.db, "bob@example.org", hash).await, Err(DbError::NotFound));
    let used = room.db.invites(None, 10).await.unwrap().items;
    assert_eq!((used[0].used_at, used[0].used_by), (Some(noon()), Some(user.id)));
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'user_created'").await, 1);
}

pub(super) async fn a18_an_administrators_invite_outlives_neither_its_makers_role_nor_state(ground: Ground) {
    let room = ground.room().await;
    let promote = || Invite { role: Role::Admin, ..invite() };
    let maker = sign_up(&room.db, "ada@example.org", some_invite(&room.db, &promote()).await).await.unwrap();
    sign_up(&room.db, "root@example.org", some_invite(&room.db, &promote()).await).await.unwrap();
    let made = |role| Invite { role, created_by: Some(maker.id), ..invite() };
    let admins = some_invite(&room.db, &made(Role::Admin)).await;
    let users = some_invite(&room.db, &made(Role::User)).await;
    let change = UserChange { role: Some(Role::User), ..UserChange::NONE };
    let entries = vec![audit(AuditEvent::PrivilegePermissionsChanged, maker.id)];
    room.db.update_user(maker.id, change, noon(), entries).await.unwrap();
    assert_eq!(sign_up(&room.db, "eve@example.org", admins).await, Err(DbError::NotFound));
    assert_eq!(sign_up(&room.db, "bob@example.org", users).await.unwrap().role, Role::User);
}

pub(super) async fn fifty_parallel_uses_of_one_invite_make_one_account(ground: Ground) {
    let room = ground.room().await;
    let hash = some_invite(&room.db, &invite()).await;
    let emails: Vec<_> = (0..50).map(|n| format!("eve{n}@example.org")).collect();
    let answers = join_all(emails.iter().map(|email| sign_up(&room.db, email, hash))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(DbError::NotFound)).count(), 49);
    assert_eq!(ground.count("SELECT count(*) FROM users").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'user_created'").await, 1);
}

pub(super) async fn a_taken_email_leaves_the_invite_good(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let hash = some_invite(&room.db, &invite()).await;
    let taken = sign_up(&room.db, user.email.as_str(), hash).await;
    assert_eq!(taken, Err(DbError::Conflict("e-mail")));
    sign_up(&room.db, "eve@example.org", hash).await.unwrap();
}

pub(super) async fn an_invite_that_is_unknown_expired_or_revoked_makes_nothing(ground: Ground) {
    let room = ground.room().await;
    let expired = Invite { expires_at: Some(noon()), ..invite() };
    let revoked = invite();
    let endless = Invite { expires_at: None, ..invite() };
    let hashes = [some_invite(&room.db, &expired).await, some_invite(&room.db, &revoked).await, some_hash()];
    let revoke = |id| room.db.revoke_invite(id, noon(), audit(AuditEvent::InviteRevoked, user_of(&endless)));
    assert_eq!(revoke(revoked.id).await, Ok(()));
    assert_eq!(revoke(revoked.id).await, Err(DbError::NotFound));
    assert_eq!(revoke(expired.id).await, Err(DbError::NotFound));
    for hash in hashes {
        assert_eq!(sign_up(&room.db, "eve@example.org", hash).await, Err(DbError::NotFound));
    }
    let hash = some_invite(&room.db, &endless).await;
    sign_up(&room.db, "eve@example.org", hash).await.unwrap();
    assert_eq!(revoke(endless.id).await, Err(DbError::NotFound), "used");
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'invite_revoked'").await, 1);
}

fn user_of(invite: &Invite) -> domain::id::UserId {
    invite.id.as_uuid().into()
}

pub(super) async fn invites_page_from_new_to_old_as_they_were_made(ground: Ground) {
    let room = ground.room().await;
    let mut made: Vec<_> = (0..3).map(|_| invite()).collect();
    made[1] = Invite { note: None, created_by: Some(user_of(&made[0])), expires_at: None, ..made[1].clone() };
    for invite in &made {
        some_invite(&room.db, invite).await;
    }
    made.reverse();
    let first = room.db.invites(None, 2).await.unwrap();
    assert_eq!(first.items, made[..2]);
    let rest = room.db.invites(first.next.map(Into::into), 2).await.unwrap();
    assert_eq!((rest.items, rest.next), (made[2..].to_vec(), None));
}

pub(super) async fn one_code_makes_one_invite(ground: Ground) {
    let room = ground.room().await;
    let hash = some_invite(&room.db, &invite()).await;
    let entry = audit(AuditEvent::InviteCreated, user_of(&invite()));
    assert_eq!(room.db.create_invite(invite(), hash, entry).await, Err(DbError::Conflict("invite")));
}

fn first_admin() -> Invite {
    Invite { role: Role::Admin, is_first_admin: true, note: None, expires_at: None, ..invite() }
}

pub(super) async fn a18_the_first_administrators_invite_makes_one_administrator(ground: Ground) {
    let room = ground.room().await;
    let (hash, other) = (some_hash(), some_hash());
    for hash in [hash, hash, other] {
        assert_eq!(room.db.offer_first_admin(first_admin(), hash).await, Ok(true));
    }
    assert_eq!(ground.count("SELECT count(*) FROM invites").await, 2);
    assert_eq!(room.db.invites(None, 10).await.unwrap().items, []);

    // Even two different ones, as instances with different secrets would offer.
    let emails: Vec<_> = (0..20).map(|n| format!("root{n}@example.org")).collect();
    let uses = emails.iter().zip([hash, other].into_iter().cycle());
    let answers = join_all(uses.map(|(email, hash)| sign_up(&room.db, email, hash))).await;
    let made: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(made.iter().map(|user| user.role).collect::<Vec<_>>(), [Role::Admin]);
    assert_eq!(ground.count("SELECT count(*) FROM users").await, 1);
    assert_eq!(room.db.offer_first_admin(first_admin(), hash).await, Ok(false));
    assert_eq!(room.db.offer_first_admin(first_admin(), some_hash()).await, Ok(false));
    assert_eq!(ground.count("SELECT count(*) FROM invites").await, 2);
}

pub(super) async fn a18_an_administrator_makes_the_first_ones_invite_worthless(ground: Ground) {
    let room = ground.room().await;
    let hash = some_hash();
    assert_eq!(room.db.offer_first_admin(first_admin(), hash).await, Ok(true));
    some_admin(&room.db).await;
    assert_eq!(sign_up(&room.db, "eve@example.org", hash).await, Err(DbError::NotFound));
    // Ordinary ones go on.
    let later = Invite { expires_at: Some(noon() + TimeDelta::seconds(1)), ..invite() };
    let hash = some_invite(&room.db, &later).await;
    sign_up(&room.db, "eve@example.org", hash).await.unwrap();
}
