//! Signing in and refreshing: a few calls to the throttles, the store and the password room.
//!
//! Until the password has been looked at, all is done in the caller's task and ends with it. What follows runs to its
//! end, so the worst that a caller who leaves half-way leaves behind is a session whose tokens nobody got.

use std::sync::Arc;

use domain::{
    account::{Account, PasswordHash, User},
    audit::{AuditEntry, AuditEvent},
    email::EmailAddress,
    id::{SessionId, UserId},
    password::Password,
    secret::Secret,
    session::{DEVICE_CHARS, Rotation, Session},
};
use tokio::time::Instant;

use super::{
    AuthError, AuthHandle, Origin, Room, TokenPair,
    audit::Line,
    error::store_failed,
    metrics::{SignInAction, SignInOutcome},
    refresh_token,
    throttle::Try,
    truth::Truth,
};
use crate::{
    clock::fresh_id,
    db::{DbError, RotateSession},
};

/// Somebody whose password was right when we looked.
struct Welcome {
    user: User,
    password_hash: PasswordHash,
    is_stale: bool,
    /// When the account was asked for.
    as_of: Instant,
}

impl AuthHandle {
    /// Starts a session.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadCredentials`] never says which part was wrong and takes as long in each case;
    /// [`AuthError::Throttled`] comes before anything was looked at, whether or not there is such an account (A6).
    pub async fn log_in(
        &self,
        email: &str,
        password: Password,
        origin: Origin,
    ) -> Result<TokenPair, AuthError> {
        let room = &self.0;
        let email = EmailAddress::parse(email).map_err(|_| AuthError::MalformedEmail)?;
        let outcome = room.log_in(&email, password, &origin).await;
        let word = SignInOutcome::of(&outcome);
        room.metrics.signed_in(SignInAction::LogIn, word);
        if word == SignInOutcome::Unavailable {
            let event = AuditEvent::AuthnLoginFail.as_str();
            let account_tag = Some(room.keys.account_tag(&email));
            Line { event, outcome: word.as_str(), account_tag, ..Line::from(&origin) }.write();
        }
        outcome
    }

    /// Trades a refresh token for its successor and a new access token. Repeating the call within the grace gives the
    /// same successor, so a lost answer costs nothing; showing an older token ends the session for everybody.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`]: sign in again. [`AuthError::Unavailable`]: the token may have been spent; repeat at once.
    pub async fn refresh(&self, token: &Secret<String>, origin: Origin) -> Result<TokenPair, AuthError> {
        let room = Arc::clone(&self.0);
        let Some((session, counter)) = refresh_token::decode(&room.keys.refresh, token) else {
            room.report_refresh(SignInOutcome::Refused, None, &origin);
            return Err(AuthError::BadToken);
        };
        // To the end: a thief must not keep the verdict from our cache by hanging up.
        self.0.to_the_end(async move { room.rotate(session, counter, &origin).await }).await?
    }
}

impl Room {
    async fn log_in(
        self: &Arc<Self>,
        email: &EmailAddress,
        password: Password,
        origin: &Origin,
    ) -> Result<TokenPair, AuthError> {
        let attempt = self.admit_try(email, origin).await?;
        let (mut attempt, mut welcome) = self.look(attempt, email, &password, origin).await?;
        let mut started = self.start_session(&welcome, origin).await?;
        if matches!(started, Err(DbError::Conflict(_))) {
            // Replaced since we looked, and perhaps only by a new hash of the same password.
            (attempt, welcome) = self.look(attempt, email, &password, origin).await?;
            started = self.start_session(&welcome, origin).await?;
        }
        attempt.was_right();
        let session = started.map_err(|error| match error {
            // Disabled or deleted meanwhile.
            DbError::NotFound => AuthError::BadCredentials,
            DbError::Conflict(_) => AuthError::Unavailable("the password is being changed".to_owned()),
            error => store_failed(error),
        })?;
        if welcome.is_stale {
            self.rehash(welcome.user.id, password, welcome.password_hash);
        }
        self.token_pair(&session)
    }

    /// Looks at the password, and tells of it if it is wrong.
    async fn look<'a>(
        &self,
        attempt: Try<'a>,
        email: &EmailAddress,
        password: &Password,
        origin: &Origin,
    ) -> Result<(Try<'a>, Welcome), AuthError> {
        let as_of = Instant::now();
        let account = match self.db.account_by_email(email.clone()).await {
            Ok(account) => account,
            Err(error) => {
                attempt.never_was();
                return Err(store_failed(error));
            }
        };
        // Unknown, disabled and known accounts all pay for one hash, and fail only after it (A5).
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        let (attempt, verified) = self.verify(attempt, password.clone(), hash).await?;
        let known = account.as_ref().map(|account| account.user.id);
        let Some(Account { user, password_hash }) =
            account.filter(|account| verified.matches && !account.user.disabled)
        else {
            let entry = self.entry(AuditEvent::AuthnLoginFail, origin);
            self.note(AuditEntry { user: known, ..entry }, Some(email));
            return Err(AuthError::BadCredentials);
        };
        Ok((attempt, Welcome { user, password_hash, is_stale: verified.is_stale, as_of }))
    }

    /// Stores a session and lets it be known here.
    async fn start_session(
        self: &Arc<Self>,
        welcome: &Welcome,
        origin: &Origin,
    ) -> Result<Result<Session, DbError>, AuthError> {
        let (user, verified, as_of) = (welcome.user.clone(), welcome.password_hash.clone(), welcome.as_of);
        let now = self.clock.now();
        let session = Session {
            id: fresh_id(),
            user: user.id,
            counter: 0,
            min_epoch: 0,
            created_at: now,
            rotated_at: now,
            last_used_at: now,
            expires_at: now + self.lifetimes.session_max,
            revoked_at: None,
            device: origin.device.as_deref().map(|device| device.chars().take(DEVICE_CHARS).collect()),
            address: origin.address,
        };
        let entry = AuditEntry {
            actor: Some(user.id),
            user: Some(user.id),
            ..self.entry(AuditEvent::AuthnLoginSuccess, origin)
        };
        self.recorded(entry, |room, entry| async move {
            let ended = room.db.start_session(session.clone(), verified, entry).await?;
            room.forget(&ended);
            room.sessions.learn(session.id, Truth::of(&session, &user, as_of));
            Ok(session)
        })
        .await
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
            reuse_audit: self.entry(AuditEvent::AuthnTokenReuse, origin),
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
            // Nothing is learnt of the session: a change of the password may have voided this token and kept it alive.
            Ok(Rotation::Dead) => (SignInOutcome::Refused, None, Err(AuthError::BadToken)),
            Err(error) => (SignInOutcome::Unavailable, None, Err(store_failed(error))),
        };
        self.report_refresh(outcome, user, origin);
        pair
    }

    fn report_refresh(&self, outcome: SignInOutcome, user: Option<UserId>, origin: &Origin) {
        self.metrics.signed_in(SignInAction::Refresh, outcome);
        let (event, outcome) = match outcome {
            // Its entry was written by the rotation itself.
            SignInOutcome::Reuse => {
                (AuditEvent::AuthnTokenReuse.as_str(), AuditEvent::AuthnTokenReuse.outcome())
            }
            _ => ("authn_token_refresh", outcome.as_str()),
        };
        Line { event, outcome, user, ..Line::from(origin) }.write();
    }

    pub(super) fn token_pair(&self, session: &Session) -> Result<TokenPair, AuthError> {
        let (access_token, expires_in) = self
            .tokens
            .mint(session.user, session.id, session.counter, session.expires_at, self.clock.now())
            .map_err(|_| AuthError::Internal("an access token could not be signed".to_owned()))?;
        let refresh_token = refresh_token::encode(&self.keys.refresh, session.id, session.counter);
        Ok(TokenPair { access_token, refresh_token, expires_in })
    }
}
