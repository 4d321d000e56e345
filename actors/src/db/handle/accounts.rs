//! Accounts. Each change is one transaction together with its audit entry: an entry is written if, and only if, the change
//! is.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, PasswordHash, PasswordSet, User, UserChange, UserChanged},
    audit::AuditEntry,
    conversation::Page,
    email::EmailAddress,
    id::{SessionId, UserId},
    invite::InviteHash,
};
#[cfg(doc)]
use domain::{audit::AuditEvent, conversation::PAGE_LIMIT_MAX};

use crate::db::{DbError, DbHandle, message::Write};

/// A password on its way into an account.
#[derive(Debug, Clone)]
pub struct SetPassword {
    pub user: UserId,
    /// The hash the current password was checked against; somebody else's change since then refuses this one.
    /// `None` sets it whatever it is.
    pub expected: Option<PasswordHash>,
    pub new: PasswordHash,
    /// The session that goes on, one counter further and with no older token valid.
    pub keep: Option<SessionId>,
    /// Whether every other session ends.
    pub end_others: bool,
    pub now: DateTime<Utc>,
    pub audit: AuditEntry,
}

/// Which accounts an administrator looks for.
#[derive(Debug, Clone, Default)]
pub struct UserSearch {
    /// Part of the e-mail address, taken literally (G8).
    pub text: Option<String>,
    /// Only those older than this one.
    pub before: Option<UserId>,
    pub limit: u32,
}

impl DbHandle {
    /// Stores a new account and its audit entry.
    ///
    /// # Errors
    ///
    /// [`DbError::Conflict`] when the e-mail is taken.
    pub async fn create_user(&self, account: Account, audit: AuditEntry) -> Result<(), DbError> {
        let user = account.user.id.as_uuid();
        self.write(user, Write::CreateUser(Box::new((account, audit)))).await
    }

    /// Stores a new account and uses up the invite, whose role the account gets; the entry comes to say which one it was.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the invite is unknown, used, revoked or expired, or is the first administrator's and
    /// there is one; [`DbError::Conflict`] when the e-mail is taken, and then the invite stays good.
    pub async fn create_invited_user(
        &self,
        account: Account,
        invite: InviteHash,
        now: DateTime<Utc>,
        audit: AuditEntry,
    ) -> Result<UserChanged, DbError> {
        let user = account.user.id.as_uuid();
        let (account, audit) = (Box::new(account), Box::new(audit));
        self.write(user, Write::CreateInvitedUser { account, invite, now, audit }).await
    }

    /// `None` also for a deleted account, whose address is free again.
    pub async fn account_by_email(&self, email: EmailAddress) -> Result<Option<Account>, DbError> {
        self.read(|store| store.account_by_email(email)).await
    }

    /// `None` also for a deleted account.
    pub async fn user(&self, user: UserId) -> Result<Option<User>, DbError> {
        self.read(move |store| store.user(user)).await
    }

    /// Accounts, newest first; at most [`PAGE_LIMIT_MAX`]. Deleted ones are not among them.
    pub async fn users(&self, search: UserSearch) -> Result<Page<User>, DbError> {
        let UserSearch { text, before, limit } = search;
        // As addresses are stored.
        let text = text.map(|text| text.to_lowercase());
        self.page(
            limit,
            |user: &User| user.id.as_uuid(),
            move |store, limit| store.users(text, before, limit),
        )
        .await
    }

    /// Changes an account's role, state or limits; disabling ends its sessions. What is so already changes nothing, and is
    /// not told of: an entry of [`AuditEvent::PrivilegePermissionsChanged`] is written if the role or a limit changes, any
    /// other if the state does, and its `detail` comes to say what it is now.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`], also for a deleted account; [`DbError::Conflict`] when no enabled administrator would be left.
    pub async fn update_user(
        &self,
        user: UserId,
        change: UserChange,
        now: DateTime<Utc>,
        audit: Vec<AuditEntry>,
    ) -> Result<UserChanged, DbError> {
        self.write(user.as_uuid(), Write::UpdateUser { user, change, now, audit }).await
    }

    /// Removes an account's sessions, keys and name, and returns it as it was. What is left is a nameless row that the
    /// usage ledger and the audit trail point to, and conversations that nobody can read any more: they may be many, so
    /// [`DbHandle::purge_conversations`] removes them.
    ///
    /// # Errors
    ///
    /// As for [`DbHandle::update_user`].
    pub async fn delete_user(
        &self,
        user: UserId,
        now: DateTime<Utc>,
        audit: AuditEntry,
    ) -> Result<UserChanged, DbError> {
        self.write(user.as_uuid(), Write::DeleteUser { user, now, audit: Box::new(audit) }).await
    }

    /// Replaces the password and ends sessions.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when there is no such account, or the session to keep is not a live one of it;
    /// [`DbError::Conflict`] when the hash is no longer the expected one.
    pub async fn set_password(&self, set: SetPassword) -> Result<PasswordSet, DbError> {
        self.write(set.user.as_uuid(), Write::SetPassword(Box::new(set))).await
    }

    /// Replaces `old` by `new` if `old` is still the stored hash (rehash on login).
    pub async fn replace_password_hash(
        &self,
        user: UserId,
        old: PasswordHash,
        new: PasswordHash,
    ) -> Result<bool, DbError> {
        self.write(user.as_uuid(), Write::ReplacePasswordHash { user, old, new }).await
    }
}
