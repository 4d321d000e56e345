//! The auth room: who is asking, and may they?
//!
//! ```text
//! authenticate ── token known? ──▶ session known? ──▶ Principal        all in the caller's task
//!                   │ no: verify      │ no, or not lately
//!                   ▼                 ▼
//!                 keys              AuthActor ── one look-up per session ──▶ db room
//!
//! sign up, log in, refresh ──▶ password room, db room ──▶ what was learnt goes to the session cache at once
//! ```
//!
//! A token proves that we made it; whether its session still lives is known for [`AuthConfig::session_cache`] and then
//! asked again, so a session that ended elsewhere is over here within that time (A13), and one that ended here at once.
//!
//! # When it breaks
//!
//! A dead AuthActor fails the callers whose sessions were being looked up, with [`AuthError::Unavailable`]; all others
//! never notice. A dead SessionCache takes what was remembered with it: each live session costs one look-up again.
//! While the store is away, what was known up to a minute ago serves callers that are not admins; everybody else gets
//! [`AuthError::Unavailable`], never a refusal. Nobody can sign in meanwhile.

mod access_token;
mod actor;
mod cache;
mod check;
mod config;
mod error;
mod keys;
mod message;
mod metrics;
mod refresh_token;
mod secret;
mod session_cache;
mod sessions;
mod sign_in;
#[cfg(test)]
mod tests;
mod tokens;

use std::{net::IpAddr, sync::Arc, time::Duration};

use domain::{
    account::User,
    password::Password,
    principal::{Principal, Role},
    secret::Secret,
};
use tokio_util::task::TaskTracker;

use self::{
    access_token::AccessTokens,
    actor::AuthActor,
    keys::Keys,
    message::AuthMessage,
    metrics::AuthMetrics,
    session_cache::SessionCache,
    sessions::Sessions,
    sign_in::{Lifetimes, store_failed},
    tokens::VerifiedTokens,
};
pub use self::{config::AuthConfig, error::AuthError, secret::weakness as secret_weakness};
use crate::{
    clock::Clock,
    db::DbHandle,
    handle::{Gate, Handle, Slot},
    password::PasswordHandle,
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, child_name, child_path, spawn_child},
    system::StartError,
    tree::Tree,
};

const PATH: &str = "auth_sup";

/// Callers that may wait for the store to tell about their sessions.
const LOOK_UPS: usize = 1_024;

/// How long one of them waits; longer than the look-up itself.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(7);

/// Where a call came from; goes into the audit trail.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
}

/// What a successful sign-in or refresh hands out.
#[derive(Debug, Clone)]
pub struct TokenPair {
    pub access_token: Secret<String>,
    pub refresh_token: Secret<String>,
    /// Seconds until the access token expires.
    pub expires_in: u64,
}

/// Asks the auth room; clones share one room.
#[derive(Clone)]
pub struct AuthHandle(Arc<Room>);

/// What every caller's task works with.
struct Room {
    actor: Handle<AuthMessage>,
    keys: Keys,
    tokens: AccessTokens,
    verified: Arc<VerifiedTokens>,
    sessions: Arc<Sessions>,
    lifetimes: Lifetimes,
    db: DbHandle,
    passwords: PasswordHandle,
    clock: Clock,
    tracker: TaskTracker,
    tree: Tree,
    metrics: AuthMetrics,
}

impl AuthHandle {
    /// Who holds this access token? Verified in the caller's task; a cached token costs one hash and two lookups.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`] for every reason a token can be refused (the caller learns no more than that);
    /// [`AuthError::Unavailable`] when the session could not be checked: answer 503, never 401.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, AuthError> {
        self.0.authenticate(token).await
    }

    /// Creates an account for somebody who asked for one.
    ///
    /// # Errors
    ///
    /// [`AuthError::MalformedEmail`], [`AuthError::WeakPassword`] and [`AuthError::EmailTaken`] are for the person;
    /// after [`AuthError::Unavailable`] the account may exist, so trying again may find the address taken.
    pub async fn sign_up(&self, email: &str, password: Password, origin: Origin) -> Result<User, AuthError> {
        self.0.sign_up(email, password, Role::User, &origin).await
    }

    /// Starts a session.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadCredentials`] never says which part was wrong and takes as long in each case.
    pub async fn log_in(
        &self,
        email: &str,
        password: Password,
        origin: Origin,
    ) -> Result<TokenPair, AuthError> {
        self.0.log_in(email, password, &origin).await
    }

    /// Trades a refresh token for its successor and a new access token. Repeating the call within the grace gives the
    /// same successor, so a lost answer costs nothing; showing an older token ends the session for everybody.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`]: sign in again. [`AuthError::Unavailable`]: the token may have been spent; repeat at once.
    pub async fn refresh(&self, token: &Secret<String>, origin: Origin) -> Result<TokenPair, AuthError> {
        self.0.refresh(token, &origin).await
    }

    /// The caller's own account.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`] when the account is gone.
    pub async fn me(&self, principal: &Principal) -> Result<User, AuthError> {
        self.0.db.user(principal.user).await.map_err(store_failed)?.ok_or(AuthError::BadToken)
    }

    /// Creates an account with a role, under the same rules as anybody who signs up; for operators, at the command line.
    ///
    /// # Errors
    ///
    /// As for [`AuthHandle::sign_up`].
    pub async fn create_account(
        &self,
        email: &str,
        password: Password,
        role: Role,
    ) -> Result<User, AuthError> {
        self.0.sign_up(email, password, role, &Origin::default()).await
    }
}

/// Makes the room.
///
/// # Errors
///
/// [`StartError::Config`] names every setting that will not do, and how to mend it.
pub(crate) fn build(
    ctx: &RoomContext,
    config: AuthConfig,
    db: DbHandle,
    passwords: PasswordHandle,
) -> Result<(AuthHandle, SupervisorSpec), StartError> {
    let lifetimes = config.lifetimes()?;
    let secret = secret::load(config.secret.as_ref(), &config.data_dir)?;
    let keys = Keys::derive(&secret)
        .map_err(|_| StartError::Config("keys cannot be derived from the secret".to_owned()))?;
    let metrics = AuthMetrics::register(&mut ctx.registry.lock());
    let sessions = Arc::new(Sessions::new(config.session_cache));
    let verified = Arc::new(VerifiedTokens::new());
    let gate = Gate::new("auth", LOOK_UPS);
    ctx.gates.watch(&gate);
    let slot = Slot::new();

    let cache = child(ctx, "session_cache", None, {
        let (sessions, tokens) = (Arc::clone(&sessions), Arc::clone(&verified));
        move || SessionCache { sessions: Arc::clone(&sessions), tokens: Arc::clone(&tokens) }
    });
    let actor = child(ctx, "auth_actor", Some(slot.clone()), {
        let (db, sessions) = (db.clone(), Arc::clone(&sessions));
        let (tracker, metrics) = (ctx.tracker.clone(), metrics.clone());
        move || AuthActor {
            db: db.clone(),
            sessions: Arc::clone(&sessions),
            tracker: tracker.clone(),
            metrics: metrics.clone(),
        }
    });
    let spec = SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::RestForOne,
        policy: Policy::default(),
        children: Arc::new(vec![cache, actor]),
    };
    let room = Room {
        actor: Handle::new(slot, gate, LOOK_UP_PATIENCE),
        tokens: AccessTokens::new(&keys, &config.issuer, &config.audience, config.access_ttl),
        keys,
        verified,
        sessions,
        lifetimes,
        db,
        passwords,
        clock: ctx.clock.clone(),
        tracker: ctx.tracker.clone(),
        tree: ctx.tree.clone(),
        metrics,
    };
    Ok((AuthHandle(Arc::new(room)), spec))
}

/// One child of the room, published in `slot` if somebody calls it.
fn child<A>(
    ctx: &RoomContext,
    id: &'static str,
    slot: Option<Slot<A::Msg>>,
    make: impl Fn() -> A + Send + Sync + 'static,
) -> ChildSpec
where
    A: ractor::Actor<Arguments = ()>,
{
    let name = child_name(&ctx.system, &child_path(PATH, id));
    ChildSpec::leaf(id, move |supervisor| {
        let (name, actor, slot) = (name.clone(), make(), slot.clone());
        async move {
            let actor = spawn_child(&supervisor, name, actor, ()).await?;
            if let Some(slot) = slot {
                slot.publish(actor.clone());
            }
            Ok(actor.get_cell())
        }
    })
}
