//! Making accounts: by whoever may sign up, and by operators.

use std::sync::Arc;

use domain::{
    account::{Account, User},
    audit::{AuditEntry, AuditEvent},
    email::EmailAddress,
    invite::InviteHash,
    limits::Limits,
    password::{self, Password},
    principal::Role,
    secret::Secret,
};

use super::{
    AuthError, AuthHandle, Origin, Room, SignUp,
    audit::Line,
    error::store_failed,
    invites,
    metrics::{SignInAction, SignInOutcome},
};
use crate::{clock::fresh_id, db::DbError};

impl AuthHandle {
    /// Creates an account for somebody who asked for one, with the role of the invite if one is given.
    ///
    /// # Errors
    ///
    /// [`AuthError::MalformedEmail`], [`AuthError::WeakPassword`] and [`AuthError::EmailTaken`] are for the person, and so
    /// are [`AuthError::NeedsInvite`], which never says what is wrong with one, and [`AuthError::SignUpClosed`];
    /// [`AuthError::Throttled`] is for its network;
    /// after [`AuthError::Unavailable`] the account may exist, so trying again may find the address taken.
    pub async fn sign_up(
        &self,
        email: &str,
        password: Password,
        invite: Option<Secret<String>>,
        origin: Origin,
    ) -> Result<User, AuthError> {
        let room = &self.0;
        let outcome = room.sign_up(email, password, invite, &origin).await;
        let word = SignInOutcome::of(&outcome);
        room.metrics.signed_in(SignInAction::SignUp, word);
        if matches!(word, SignInOutcome::Refused | SignInOutcome::Unavailable) {
            let account_tag = EmailAddress::parse(email).ok().map(|email| room.keys.account_tag(&email));
            let event = AuditEvent::UserCreated.as_str();
            Line { event, outcome: word.as_str(), account_tag, ..Line::from(&origin) }.write();
        }
        outcome
    }

    /// Creates an account with a role, under the same rules as anybody who signs up; for operators, at the command line.
    ///
    /// # Errors
    ///
    /// As for [`AuthHandle::sign_up`], but nobody is throttled and no invite is asked for.
    pub async fn create_account(
        &self,
        email: &str,
        password: Password,
        role: Role,
    ) -> Result<User, AuthError> {
        let room = &self.0;
        let (email, password) = room.judge(email, password)?;
        let password_hash = room.hash(password).await?;
        let user = room.new_user(email, role);
        let entry = AuditEntry {
            user: Some(user.id),
            detail: Some(role.as_str().to_owned()),
            ..room.entry(AuditEvent::UserCreated, &Origin::default())
        };
        room.store(Account { user, password_hash }, entry).await
    }
}

impl Room {
    async fn sign_up(
        self: &Arc<Self>,
        email: &str,
        password: Password,
        invite: Option<Secret<String>>,
        origin: &Origin,
    ) -> Result<User, AuthError> {
        // Before the bucket: who still looks for a password that will do spends nothing, and nobody fills the buckets of
        // strangers' addresses without paying a hash for each.
        let (email, password) = self.judge(email, password)?;
        let invite = self.admit_invite(invite.as_ref())?;
        self.admit_sign_up(origin).await?;
        let password_hash = self.hash(password).await?;
        let user = self.new_user(email, Role::User);
        let entry = AuditEntry {
            actor: Some(user.id),
            user: Some(user.id),
            ..self.entry(AuditEvent::UserCreated, origin)
        };
        let account = Account { user, password_hash };
        match invite {
            Some(invite) => self.store_invited(account, invite, entry).await,
            None => self.store(account, entry).await,
        }
    }

    /// Who may make an account: the hash of the invite to use up, if one is needed or given.
    fn admit_invite(&self, invite: Option<&Secret<String>>) -> Result<Option<InviteHash>, AuthError> {
        let hash = invite.map(invites::hash_of);
        match (self.rules.load().sign_up, hash) {
            (SignUp::Open, None) => Ok(None),
            (SignUp::Invite, None) => Err(AuthError::NeedsInvite),
            (SignUp::Open | SignUp::Invite, Some(hash)) => hash.map(Some).ok_or(AuthError::NeedsInvite),
            (SignUp::Closed, hash) => {
                let first = invites::hash_of(&invites::first_admin(&self.keys));
                hash.flatten().filter(|hash| Some(*hash) == first).map(Some).ok_or(AuthError::SignUpClosed)
            }
        }
    }

    /// The e-mail address, and a password that may guard its account.
    fn judge(&self, email: &str, password: Password) -> Result<(EmailAddress, Password), AuthError> {
        let email = EmailAddress::parse(email).map_err(|_| AuthError::MalformedEmail)?;
        password::check(&password, self.rules.load().password_min_chars, &email)?;
        Ok((email, password))
    }

    fn new_user(&self, email: EmailAddress, role: Role) -> User {
        let limits = Limits::default();
        User {
            id: fresh_id(),
            email,
            role,
            disabled: false,
            limits,
            models: None,
            created_at: self.clock.now(),
        }
    }

    async fn store(self: &Arc<Self>, account: Account, entry: AuditEntry) -> Result<User, AuthError> {
        let user = account.user.clone();
        self.recorded(entry, |room, entry| async move { room.db.create_user(account, entry).await })
            .await?
            .map_err(not_created)?;
        Ok(user)
    }

    async fn store_invited(
        self: &Arc<Self>,
        account: Account,
        invite: InviteHash,
        entry: AuditEntry,
    ) -> Result<User, AuthError> {
        let room = Arc::clone(self);
        let stored = self.to_the_end(async move {
            let made = room.db.create_invited_user(account, invite, entry.at, entry).await?;
            made.told.iter().for_each(|entry| Line::of(entry).write());
            Ok(made.user)
        });
        stored.await?.map_err(|error| match (error, self.rules.load().sign_up) {
            (DbError::NotFound, SignUp::Closed) => AuthError::SignUpClosed,
            (DbError::NotFound, _) => AuthError::NeedsInvite,
            (error, _) => not_created(error),
        })
    }
}

fn not_created(error: DbError) -> AuthError {
    match error {
        DbError::Conflict(_) => AuthError::EmailTaken,
        error => store_failed(error),
    }
}
