//! Changing and resetting passwords, and what ends with the old one (A4).

use std::sync::Arc;

use domain::{
    account::{Account, PasswordHash, PasswordSet, User},
    audit::{AuditEntry, AuditEvent},
    email::EmailAddress,
    password::{self, Password, WeakPassword},
    principal::Principal,
};

use super::{
    Administrator, AuthError, AuthHandle, Origin, Room, TokenPair, error::store_failed,
    self_service::session_of,
};
use crate::db::{DbError, SetPassword};

impl AuthHandle {
    /// Replaces the caller's password. Every other session ends unless `keep_others`; this one goes on with the tokens
    /// returned, and no older token of it serves (A4).
    ///
    /// # Errors
    ///
    /// [`AuthError::NeedsSession`] when the caller came with a key; [`AuthError::WeakPassword`] for the new one;
    /// [`AuthError::BadCredentials`] when `current` is wrong or no longer the current one, and guessing here is
    /// throttled as at log-in, with [`AuthError::Throttled`]; [`AuthError::BadToken`] when the session or the account
    /// ended meanwhile; [`AuthError::Overloaded`] when nothing was looked at. After [`AuthError::Unavailable`] either
    /// password may be the right one: sign in.
    pub async fn change_password(
        &self,
        caller: &Principal,
        current: Password,
        new: Password,
        keep_others: bool,
        origin: Origin,
    ) -> Result<TokenPair, AuthError> {
        let (room, session) = (&self.0, session_of(caller)?);
        let user = self.me(caller).await?;
        password::check(&new, room.rules.load().password_min_chars, &user.email)?;
        if new == current {
            return Err(WeakPassword::Unchanged.into());
        }
        let entry =
            |event| AuditEntry { actor: Some(user.id), user: Some(user.id), ..room.entry(event, &origin) };
        let on_fail = entry(AuditEvent::AuthnPasswordChangeFail);
        let password_hash = room.prove(&user.email, current, on_fail, &origin).await?;
        let set = SetPassword {
            user: user.id,
            expected: Some(password_hash),
            new: room.hash(new).await?,
            keep: Some(session),
            end_others: !keep_others,
            now: room.clock.now(),
            audit: entry(AuditEvent::AuthnPasswordChange),
        };
        let PasswordSet { kept, .. } = room.set_password(set).await?.map_err(|error| match error {
            // Somebody changed it meanwhile: what was the current one is so no more.
            DbError::Conflict(_) => AuthError::BadCredentials,
            DbError::NotFound => AuthError::BadToken,
            error => store_failed(error),
        })?;
        let (session, _) = kept.ok_or_else(|| AuthError::Internal("the session was not kept".to_owned()))?;
        room.token_pair(&session)
    }

    /// Sets a password without knowing the old one and ends all sessions; for the command line.
    ///
    /// # Errors
    ///
    /// [`AuthError::NotFound`]: no such address; [`AuthError::MalformedEmail`]; [`AuthError::WeakPassword`]. After
    /// [`AuthError::Unavailable`] it is set or not: repeat.
    pub async fn reset_password(
        &self,
        by: &Administrator,
        email: &str,
        password: Password,
    ) -> Result<User, AuthError> {
        let room = &self.0;
        let email = EmailAddress::parse(email).map_err(|_| AuthError::MalformedEmail)?;
        password::check(&password, room.rules.load().password_min_chars, &email)?;
        let account = room.db.account_by_email(email).await.map_err(store_failed)?;
        let Account { user, .. } = account.ok_or(AuthError::NotFound("account"))?;
        let set = SetPassword {
            user: user.id,
            expected: None,
            new: room.hash(password).await?,
            keep: None,
            end_others: true,
            now: room.clock.now(),
            audit: AuditEntry {
                actor: by.user,
                user: Some(user.id),
                detail: Some("reset".to_owned()),
                ..room.entry(AuditEvent::AuthnPasswordChange, &by.origin)
            },
        };
        room.set_password(set).await?.map_err(|error| match error {
            DbError::NotFound => AuthError::NotFound("account"),
            error => store_failed(error),
        })?;
        Ok(user)
    }
}

impl Room {
    /// Looks whether this is the account's password, as one of the tries that are throttled, and tells of it with `on_fail` if
    /// it is not. Returns the hash that it was compared with.
    pub(super) async fn prove(
        &self,
        email: &EmailAddress,
        password: Password,
        on_fail: AuditEntry,
        origin: &Origin,
    ) -> Result<PasswordHash, AuthError> {
        let attempt = self.admit_try(email, origin).await?;
        let account = match self.db.account_by_email(email.clone()).await {
            // An account that is gone by now has no session either.
            Ok(account) => account.ok_or(AuthError::BadToken),
            Err(error) => Err(store_failed(error)),
        };
        let Account { password_hash, .. } = match account {
            Ok(account) => account,
            Err(error) => {
                attempt.never_was();
                return Err(error);
            }
        };
        let (attempt, verified) = self.verify(attempt, password, Some(password_hash.clone())).await?;
        if !verified.matches {
            self.note(on_fail, None);
            return Err(AuthError::BadCredentials);
        }
        attempt.was_right();
        Ok(password_hash)
    }

    async fn set_password(
        self: &Arc<Self>,
        set: SetPassword,
    ) -> Result<Result<PasswordSet, DbError>, AuthError> {
        self.recorded(set.audit.clone(), |room, audit| async move {
            let user = set.user;
            let done = room.db.set_password(SetPassword { audit, ..set }).await?;
            room.forget(&done.ended);
            room.sessions.reconsider(user);
            Ok(done)
        })
        .await
    }
}
