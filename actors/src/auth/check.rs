//! The way of every request: from an access token or an API key to a principal, or not.

use std::time::Duration;

use domain::{
    principal::Principal,
    token_text::{self, TokenKind},
};
use tokio::time::{Instant, timeout};

use super::{
    AuthError, PATH, Room,
    message::{AuthMessage, Unknown, Waiter},
    tokens::Checked,
    truth::{Shown, Subject, Truth},
};
use crate::{digest::sha256, trace::Span};

/// How long a caller that could be served by what was known waits for something newer.
const PATIENCE: Duration = Duration::from_millis(250);

/// How old the truth may be that lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As old as the session cache's life.
    Recent,
    /// Asked for after the caller came. Only what recent truth lets in is asked about again, so that who makes up
    /// credentials costs no more than anywhere else.
    Now,
}

impl Room {
    pub(super) async fn authenticate(
        &self,
        text: &str,
        freshness: Freshness,
    ) -> Result<Principal, AuthError> {
        let span = Span::start("auth.token.verify");
        let outcome = match self.read(text) {
            Some(shown) => span.around(self.check(&shown, freshness)).await,
            None => Err(AuthError::BadToken),
        };
        match &outcome {
            Ok(_) => self.metrics.accepted.inc(),
            Err(AuthError::BadToken) => {
                span.fail("refused");
                self.metrics.refused.inc()
            }
            Err(_) => {
                span.fail("unavailable");
                self.metrics.unavailable.inc()
            }
        };
        outcome
    }

    /// What `text` shows, if it can be ours; nothing is asked for what cannot.
    fn read(&self, text: &str) -> Option<Shown> {
        if text.starts_with(TokenKind::ApiKey.prefix()) {
            return token_text::is_well_formed(TokenKind::ApiKey, text).then(|| Shown::Key(sha256(text)));
        }
        match self.verified.check(&self.tokens, text, self.clock.now())? {
            Checked::Known(grant) => {
                self.metrics.remembered.inc();
                Some(Shown::Token(grant))
            }
            Checked::Verified(grant) => Some(Shown::Token(grant)),
        }
    }

    async fn check(&self, shown: &Shown, freshness: Freshness) -> Result<Principal, AuthError> {
        let now = Instant::now();
        let recent = self.recent(shown, now).await?;
        let principal = self.let_in(&recent, shown)?;
        if freshness == Freshness::Recent || recent.as_of >= now {
            return Ok(principal);
        }
        let mut truth = self.ask(shown).await?;
        if truth.as_of < now {
            // We joined a look-up from before we came; the next one begins after it.
            truth = self.ask(shown).await?;
        }
        self.let_in(&truth, shown)
    }

    /// What is true, or was lately.
    async fn recent(&self, shown: &Shown, now: Instant) -> Result<Truth, AuthError> {
        let known = self.sessions.known(shown.subject()).filter(|truth| !self.sessions.is_void(truth));
        match known {
            Some(truth) if self.sessions.is_fresh(&truth, now) && !truth.is_behind(shown) => Ok(truth),
            _ => self.ask_about(shown, known.filter(|truth| truth.may_serve_stale(now)), now).await,
        }
    }

    fn let_in(&self, truth: &Truth, shown: &Shown) -> Result<Principal, AuthError> {
        truth.principal(shown, self.clock.now()).ok_or(AuthError::BadToken)
    }

    /// Asks the store, by way of the actor; `fallback` is what may be believed if that fails.
    async fn ask_about(
        &self,
        shown: &Shown,
        fallback: Option<Truth>,
        now: Instant,
    ) -> Result<Truth, AuthError> {
        let asked = match fallback {
            None => self.ask(shown).await,
            Some(_) if self.sessions.is_store_away(now) => Err(unavailable("the store is away")),
            Some(_) => timeout(PATIENCE, self.ask(shown))
                .await
                .unwrap_or_else(|_| Err(unavailable("the store is slow"))),
        };
        match (asked, fallback) {
            (Err(AuthError::Unavailable(_)), Some(truth)) if !self.sessions.is_void(&truth) => {
                self.metrics.stale.inc();
                Ok(truth)
            }
            (asked, _) => asked,
        }
    }

    async fn ask(&self, shown: &Shown) -> Result<Truth, AuthError> {
        let truth = self.ask_once(shown.subject()).await?;
        if !truth.is_behind(shown) && !self.sessions.is_void(&truth) {
            return Ok(truth);
        }
        // We joined a look-up from before the token was made or the account changed; the next one begins after it.
        let truth = self.ask_once(shown.subject()).await?;
        if truth.is_behind(shown) {
            // The store has lost what we once committed: the token is of a session that never was.
            return Err(AuthError::BadToken);
        }
        if self.sessions.is_void(&truth) {
            return Err(unavailable("the account is being changed"));
        }
        Ok(truth)
    }

    async fn ask_once(&self, subject: Subject) -> Result<Truth, AuthError> {
        if self.tree.is_degraded(PATH) {
            return Err(unavailable("its actors keep dying"));
        }
        let check = |permit, reply| AuthMessage::Check { subject, waiter: Waiter { reply, permit } };
        let actor = match subject {
            Subject::Session(_) => &self.actor,
            Subject::Key(_) => &self.actor_for_keys,
        };
        match actor.ask(check).await {
            Ok(Ok(truth)) => Ok(truth),
            Ok(Err(Unknown::StoreAway)) => Err(unavailable("the store is away")),
            Ok(Err(Unknown::Broken)) => Err(AuthError::Internal("what is stored is broken".to_owned())),
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }
}

fn unavailable(why: &str) -> AuthError {
    AuthError::Unavailable(why.to_owned())
}
