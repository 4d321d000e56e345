//! Signing up, signing in and refreshing: a few calls to the store and the password room, in the caller's task.
//!
//! A caller that leaves half-way loses nothing: each write is one transaction in the db room. Its worst leftover is a
//! session whose tokens nobody got.

use std::sync::Arc;

use chrono::Duration as Span;
use domain::{
    account::{Account, AuditEntry, AuditEvent, PasswordHash, Rotation, Session, User},
    email::EmailAddress,
    id::{SessionId, UserId},
    password::{self, Password},
    principal::Role,
    secret::Secret,
};
use tokio::time::Instant;

use super::{
    AuthError, Origin, Room, TokenPair,
    metrics::{SignInAction, SignInOutcome},
    refresh_token,
    sessions::Truth,
};
use crate::{
    clock::fresh_id,
    db::{DbError, RotateSession},
    password::PasswordError,
};

/// The parts of the configuration that are reckoned with wall-clock time.
pub(super) struct Lifetimes {
    pub(super) refresh_idle: Span,
    pub(super) refresh_grace: Span,
    pub(super) session_max: Span,
}

impl Room {
    pub(super) async fn sign_up(
        &self,
        email: &str,
        password: Password,
        role: Role,
        origin: &Origin,
    ) -> Result<User, AuthError> {
        let email = EmailAddress::parse(email).map_err(|_| AuthError::MalformedEmail)?;
        let outcome = self.create_user(&email, password, role, origin).await;
        let user = outcome.as_ref().ok().map(|user| user.id);
        self.report(SignInAction::SignUp, outcome_of(&outcome), user, Some(&email), origin);
        outcome
    }

    async fn create_user(
        &self,
        email: &EmailAddress,
        password: Password,
        role: Role,
        origin: &Origin,
    ) -> Result<User, AuthError> {
        password::check(&password, email).map_err(|weak| AuthError::WeakPassword(weak.reason()))?;
        let password_hash =
            self.passwords.hash(password).await.map_err(|error| self.password_failed(error))?;
        let created_at = self.clock.now();
        let user = User { id: fresh_id(), email: email.clone(), role, disabled: false, created_at };
        let audit = self.audit(AuditEvent::UserCreated, Some(user.id), origin);
        match self.db.create_user(Account { user: user.clone(), password_hash }, audit).await {
            Ok(()) => Ok(user),
            Err(DbError::Conflict(_)) => Err(AuthError::EmailTaken),
            Err(error) => Err(store_failed(error)),
        }
    }

    pub(super) async fn log_in(
        self: &Arc<Self>,
        email: &str,
        password: Password,
        origin: &Origin,
    ) -> Result<TokenPair, AuthError> {
        let email = EmailAddress::parse(email).map_err(|_| AuthError::MalformedEmail)?;
        let outcome = self.open_session(&email, password, origin).await;
        let user = outcome.as_ref().ok().map(|(user, _)| *user);
        self.report(SignInAction::LogIn, outcome_of(&outcome), user, Some(&email), origin);
        outcome.map(|(_, tokens)| tokens)
    }

    async fn open_session(
        self: &Arc<Self>,
        email: &EmailAddress,
        password: Password,
        origin: &Origin,
    ) -> Result<(UserId, TokenPair), AuthError> {
        let as_of = Instant::now();
        let account = self.db.account_by_email(email.clone()).await.map_err(store_failed)?;
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        // Unknown, disabled and known accounts all pay for one hash, and fail only after it (A5).
        let verified = self
            .passwords
            .verify(password.clone(), hash)
            .await
            .map_err(|error| self.password_failed(error))?;
        let Account { user, password_hash } = account
            .filter(|account| verified.matches && !account.user.disabled)
            .ok_or(AuthError::BadCredentials)?;
        let now = self.clock.now();
        let session = Session {
            id: fresh_id(),
            user: user.id,
            counter: 0,
            created_at: now,
            rotated_at: now,
            expires_at: now + self.lifetimes.session_max,
            revoked_at: None,
        };
        let audit = self.audit(AuditEvent::AuthnLoginSuccess, Some(user.id), origin);
        self.db.start_session(session.clone(), audit).await.map_err(store_failed)?;
        if verified.is_stale {
            self.rehash(user.id, password, password_hash);
        }
        self.sessions.learn(session.id, Truth::of(&session, &user, as_of));
        Ok((user.id, self.token_pair(&session)?))
    }

    /// Replaces a hash with weaker parameters, behind the caller's back: the log-in does not depend on it.
    fn rehash(self: &Arc<Self>, user: UserId, password: Password, old: PasswordHash) {
        let room = Arc::clone(self);
        self.tracker.spawn(async move {
            let Ok(new) = room.passwords.hash(password).await else {
                // Busy: the next log-in tries again.
                return;
            };
            if let Err(error) = room.db.replace_password_hash(user, old, new).await {
                tracing::warn!(user_id = %user, %error, "auth.rehash.failed");
            }
        });
    }

    pub(super) async fn refresh(
        self: &Arc<Self>,
        token: &Secret<String>,
        origin: &Origin,
    ) -> Result<TokenPair, AuthError> {
        let Some((session, counter)) = refresh_token::decode(&self.keys.refresh, token) else {
            self.report(SignInAction::Refresh, SignInOutcome::Refused, None, None, origin);
            return Err(AuthError::BadToken);
        };
        // On the tracker: a thief must not keep the verdict from our cache by hanging up.
        let (room, origin) = (Arc::clone(self), origin.clone());
        let rotation = self.tracker.spawn(async move { room.rotate(session, counter, &origin).await });
        rotation.await.map_err(|error| AuthError::Internal(error.to_string()))?
    }

    async fn rotate(
        &self,
        session: SessionId,
        counter: u32,
        origin: &Origin,
    ) -> Result<TokenPair, AuthError> {
        let as_of = Instant::now();
        let rotate = RotateSession {
            session,
            counter,
            now: self.clock.now(),
            grace: self.lifetimes.refresh_grace,
            idle: self.lifetimes.refresh_idle,
            reuse_audit: self.audit(AuditEvent::AuthnTokenReuse, None, origin),
        };
        let (outcome, user, pair) = match self.db.rotate_session(rotate).await {
            Ok(Rotation::Rotated { session, user } | Rotation::Repeated { session, user }) => {
                self.sessions.learn(session.id, Truth::of(&session, &user, as_of));
                (SignInOutcome::Success, Some(user.id), self.token_pair(&session))
            }
            Ok(Rotation::Reused { user }) => {
                self.sessions.learn(session, Truth::ended(Instant::now()));
                (SignInOutcome::Reuse, Some(user), Err(AuthError::BadToken))
            }
            Ok(Rotation::Dead) => {
                self.sessions.learn(session, Truth::ended(Instant::now()));
                (SignInOutcome::Refused, None, Err(AuthError::BadToken))
            }
            Err(error) => (SignInOutcome::Unavailable, None, Err(store_failed(error))),
        };
        self.report(SignInAction::Refresh, outcome, user, None, origin);
        pair
    }

    fn token_pair(&self, session: &Session) -> Result<TokenPair, AuthError> {
        let (access_token, expires_in) = self
            .tokens
            .mint(session.user, session.id, session.counter, session.expires_at, self.clock.now())
            .map_err(|_| AuthError::Internal("an access token could not be signed".to_owned()))?;
        let refresh_token = refresh_token::encode(&self.keys.refresh, session.id, session.counter);
        Ok(TokenPair { access_token, refresh_token, expires_in })
    }

    fn audit(&self, event: AuditEvent, user: Option<UserId>, origin: &Origin) -> AuditEntry {
        AuditEntry {
            id: fresh_id(),
            event,
            user,
            address: origin.address,
            request_id: origin.request_id.clone(),
            at: self.clock.now(),
        }
    }

    fn password_failed(&self, error: PasswordError) -> AuthError {
        match error {
            PasswordError::Overloaded => AuthError::Overloaded { retry_after: self.passwords.retry_after() },
            PasswordError::Unavailable => AuthError::Unavailable(error.to_string()),
        }
    }

    /// Counts a sign-in and logs it once; an address appears only as its tag, and only where no account is named.
    fn report(
        &self,
        action: SignInAction,
        outcome: SignInOutcome,
        user: Option<UserId>,
        email: Option<&EmailAddress>,
        origin: &Origin,
    ) {
        self.metrics.signed_in(action, outcome);
        let event = match (action, outcome) {
            (SignInAction::SignUp, _) => AuditEvent::UserCreated.as_str(),
            (_, SignInOutcome::Reuse) => AuditEvent::AuthnTokenReuse.as_str(),
            (SignInAction::LogIn, SignInOutcome::Success) => AuditEvent::AuthnLoginSuccess.as_str(),
            (SignInAction::LogIn, _) => AuditEvent::AuthnLoginFail.as_str(),
            (SignInAction::Refresh, _) => "authn_token_refresh",
        };
        let tag = email.filter(|_| user.is_none()).map(|email| self.keys.account_tag(email));
        tracing::info!(
            event,
            outcome = outcome.as_str(),
            user_id = user.map(tracing::field::display),
            account_tag = tag,
            ip = origin.address.map(tracing::field::display),
            request_id = origin.request_id,
            "sign-in"
        );
    }
}

fn outcome_of<T>(outcome: &Result<T, AuthError>) -> SignInOutcome {
    match outcome {
        Ok(_) => SignInOutcome::Success,
        Err(
            AuthError::MalformedEmail
            | AuthError::WeakPassword(_)
            | AuthError::EmailTaken
            | AuthError::BadCredentials
            | AuthError::BadToken,
        ) => SignInOutcome::Refused,
        Err(AuthError::Overloaded { .. } | AuthError::Unavailable(_) | AuthError::Internal(_)) => {
            SignInOutcome::Unavailable
        }
    }
}

/// What a failure of the store is to a caller of this room. Conflicts are the caller's to tell apart first.
pub(super) fn store_failed(error: DbError) -> AuthError {
    match error {
        DbError::Overloaded | DbError::Unavailable(_) | DbError::Timeout => {
            AuthError::Unavailable(error.to_string())
        }
        DbError::Conflict(_) | DbError::NotFound | DbError::Broken(_) => {
            AuthError::Internal(error.to_string())
        }
    }
}
