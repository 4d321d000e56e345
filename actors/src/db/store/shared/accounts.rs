//! Accounts: made, changed, deleted.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, PasswordSet, User, UserChange, UserChanged},
    audit::{AuditEntry, AuditEvent},
    id::UserId,
    invite::InviteHash,
    model_access,
    principal::Role,
    session::Ending,
};

use super::super::{Connection, accounts, administrators, audit::record, invites, passwords, sessions};
use crate::db::{SetPassword, store::stop::Stop};

pub(super) async fn create(db: &mut Connection, account: &Account, audit: &AuditEntry) -> Result<(), Stop> {
    insert(db, account).await?;
    Ok(record(db, &[audit]).await?)
}

pub(super) async fn create_invited(
    db: &mut Connection,
    account: &Account,
    invite: &InviteHash,
    now: DateTime<Utc>,
    audit: &AuditEntry,
) -> Result<UserChanged, Stop> {
    let Some(open) = invites::hold(db, invite, now).await? else { return Err(Stop::NOT_FOUND) };
    if open.is_first_admin {
        administrators::hold(db).await?;
        if administrators::exist(db, None).await? {
            return Err(Stop::NOT_FOUND);
        }
    } else if open.role == Role::Admin && !may_still_promote(db, open.created_by).await? {
        return Err(Stop::NOT_FOUND);
    }
    let user = User { role: open.role, ..account.user.clone() };
    let password_hash = account.password_hash.clone();
    insert(db, &Account { user: user.clone(), password_hash }).await?;
    invites::use_up(db, invite, user.id, now).await?;
    let detail = Some(format!("by invite {} as {}", open.id, open.role.as_str()));
    let told = AuditEntry { detail, ..audit.clone() };
    record(db, &[&told]).await?;
    Ok(UserChanged { user, ended: Vec::new(), told: vec![told] })
}

/// Whether who made an administrator's invite could still make administrators; `None` is the command line, which always can.
async fn may_still_promote(db: &mut Connection, maker: Option<UserId>) -> Result<bool, Stop> {
    let Some(maker) = maker else { return Ok(true) };
    // Held, or a demotion under way would not be seen.
    administrators::hold(db).await?;
    let maker = accounts::hold(db, maker).await?;
    Ok(maker.is_some_and(|account| account.user.role == Role::Admin && !account.user.disabled))
}

async fn insert(db: &mut Connection, account: &Account) -> Result<(), Stop> {
    if accounts::insert(db, account).await? { Ok(()) } else { Err(Stop::conflict("e-mail")) }
}

pub(super) async fn update(
    db: &mut Connection,
    user: UserId,
    change: &UserChange,
    now: DateTime<Utc>,
    audit: &[AuditEntry],
) -> Result<UserChanged, Stop> {
    let before = hold_for_administration(db, user).await?;
    let after = User {
        role: change.role.unwrap_or(before.role),
        disabled: change.disabled.unwrap_or(before.disabled),
        limits: change.limits.of(before.limits),
        models: change.models.clone().unwrap_or_else(|| before.models.clone()),
        ..before.clone()
    };
    demand_an_administrator(db, &before, &after).await?;
    if after == before {
        return Ok(UserChanged { user: after, ended: Vec::new(), told: Vec::new() });
    }
    let tell = |entry: &AuditEntry| {
        let detail = match entry.event {
            AuditEvent::PrivilegePermissionsChanged => privileges_told(&before, &after)?,
            _ => state_told(&before, &after)?.to_owned(),
        };
        Some(AuditEntry { detail: Some(detail), ..entry.clone() })
    };
    let told: Vec<_> = audit.iter().filter_map(tell).collect();
    accounts::set_state(db, &after).await?;
    let ended = if after.disabled { sessions::end(db, user, Ending::All, now).await? } else { Vec::new() };
    record(db, &told.iter().collect::<Vec<_>>()).await?;
    Ok(UserChanged { user: after, ended, told })
}

/// The new role, the limits that changed, and the models; `None` when nothing did.
fn privileges_told(before: &User, after: &User) -> Option<String> {
    let changes = [
        (after.role != before.role).then(|| after.role.as_str().to_owned()),
        after.limits.told_since(&before.limits),
        model_access::told_since(before.models.as_ref(), after.models.as_ref()),
    ];
    let changes: Vec<_> = changes.into_iter().flatten().collect();
    (!changes.is_empty()).then(|| changes.join(", "))
}

fn state_told(before: &User, after: &User) -> Option<&'static str> {
    (after.disabled != before.disabled).then_some(if after.disabled { "disabled" } else { "enabled" })
}

pub(super) async fn delete(
    db: &mut Connection,
    user: UserId,
    now: DateTime<Utc>,
    audit: &AuditEntry,
) -> Result<UserChanged, Stop> {
    let before = hold_for_administration(db, user).await?;
    demand_an_administrator(db, &before, &User { disabled: true, ..before.clone() }).await?;
    let ended = sessions::end(db, user, Ending::All, now).await?;
    accounts::erase(db, user, now).await?;
    record(db, &[audit]).await?;
    Ok(UserChanged { user: before, ended, told: vec![audit.clone()] })
}

pub(super) async fn set_password(db: &mut Connection, set: &SetPassword) -> Result<PasswordSet, Stop> {
    let Some(account) = accounts::hold(db, set.user).await? else { return Err(Stop::NOT_FOUND) };
    if set.expected.as_ref().is_some_and(|expected| *expected != account.password_hash) {
        return Err(Stop::conflict("password"));
    }
    let kept = match set.keep {
        Some(session) => {
            if !sessions::raise_epoch(db, set.user, session, set.now).await? {
                return Err(Stop::NOT_FOUND);
            }
            sessions::with_user(db, session).await?
        }
        None => None,
    };
    passwords::set(db, set.user, &set.new).await?;
    let others = set.keep.map_or(Ending::All, Ending::AllBut);
    let ended = if set.end_others { sessions::end(db, set.user, others, set.now).await? } else { Vec::new() };
    record(db, &[&set.audit]).await?;
    Ok(PasswordSet { kept, ended })
}

/// Of two administrators who demote each other at once, the second waits here and then finds itself the last.
async fn hold_for_administration(db: &mut Connection, user: UserId) -> Result<User, Stop> {
    administrators::hold(db).await?;
    accounts::hold(db, user).await?.map(|account| account.user).ok_or(Stop::NOT_FOUND)
}

async fn demand_an_administrator(db: &mut Connection, before: &User, after: &User) -> Result<(), Stop> {
    let administers = |user: &User| user.role == Role::Admin && !user.disabled;
    if administers(before) && !administers(after) && !administrators::exist(db, Some(before.id)).await? {
        return Err(Stop::conflict("last administrator"));
    }
    Ok(())
}
