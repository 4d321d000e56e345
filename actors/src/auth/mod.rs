//! The auth room: who is asking, and may they?
//!
//! ```text
//! authenticate ─┬ token ── known? ────┬─▶ session or key known? ──▶ Principal     all in the caller's task
//!               │           │ no: verify│     │ no, or not lately
//!               │           ▼           │     ▼
//!               │         keys          │   AuthActor ── one look-up for each ──▶ db room
//!               └ API key ── well formed?
//!
//! sign up, log in, change ──▶ throttles ──▶ password room, db room ──▶ what was learnt goes to the session cache at once
//!                                                               ╰──▶ one entry of the audit trail, one line of the log
//! ```
//!
//! A token proves that we made it, a key that somebody knows our format. Whether the session or the key lives is known
//! for [`AuthConfig::session_cache`] and then asked again, so one that ended elsewhere is over here within that time
//! (A13), and one that ended here at once.
//!
//! # When it breaks
//!
//! A dead KeySetActor is missed by nobody for a poll or two: the keys that sign and verify stay as they are.
//! A dead AuthActor fails the callers whose sessions or keys were being looked up, with [`AuthError::Unavailable`]; all others
//! never notice. A dead SessionCache takes what was remembered with it: each live session costs one look-up again.
//! While the store is away, what was known up to a minute ago serves callers that are not admins; everybody else gets
//! [`AuthError::Unavailable`], never a refusal. Nobody can sign in meanwhile.

mod access_token;
mod actor;
mod administration;
mod api_key;
mod audit;
mod cache;
mod changes;
mod check;
mod config;
mod error;
mod hashing;
mod invites;
mod key_set;
mod key_set_actor;
mod key_times;
mod keys;
mod leaving;
mod message;
mod metrics;
mod passwords;
mod purge;
mod refresh_token;
mod secret;
mod self_service;
mod session_cache;
mod sessions;
mod sign_in;
mod sign_up;
mod signing;
#[cfg(test)]
mod tests;
mod throttle;
mod tokens;
mod touch;
mod truth;

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use arc_swap::ArcSwap;
use domain::{account::User, principal::Principal, secret::Secret, signing_key::SigningAlgorithm};
use tokio_util::task::TaskTracker;

use self::{
    access_token::AccessTokens,
    actor::AuthActor,
    audit::ToldLately,
    check::Freshness,
    config::Lifetimes,
    error::store_failed,
    key_set::KeySets,
    key_set_actor::{KeySetActor, Lookout},
    keys::Keys,
    message::AuthMessage,
    metrics::AuthMetrics,
    purge::PurgeActor,
    session_cache::SessionCache,
    sessions::Sessions,
    tokens::VerifiedTokens,
};
pub use self::{
    administration::Administrator,
    api_key::KeyRequest,
    config::{AccountRules, AuthConfig, SignUp},
    error::AuthError,
    invites::InviteRequest,
    key_times::KeyState,
    secret::weakness as secret_weakness,
    self_service::LogOut,
    signing::ListedKey,
};
use crate::{
    clock::Clock,
    db::DbHandle,
    handle::{Gate, Handle, Slot},
    password::PasswordHandle,
    rate_limit::RateLimitHandle,
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, child_name, child_path, spawn_child},
    system::StartError,
    trace::Carrier,
    tree::Tree,
};

const PATH: &str = "auth_sup";

/// Callers that may wait for the store to tell about their sessions.
const LOOK_UPS: usize = 1_024;

/// And about their API keys. Counted apart, since anybody can make up keys and nobody can make up sessions.
const KEY_LOOK_UPS: usize = 256;

/// How long one of them waits; longer than the look-up itself.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(7);

/// Where a call came from; goes into the audit trail.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
    /// What the caller says it is (`User-Agent`).
    pub device: Option<String>,
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
    /// The same actor, by a gate of its own.
    actor_for_keys: Handle<AuthMessage>,
    keys: Arc<Keys>,
    key_sets: Arc<KeySets>,
    /// What the next key is for, unless somebody says otherwise.
    algorithm: SigningAlgorithm,
    tokens: AccessTokens,
    verified: Arc<VerifiedTokens>,
    sessions: Arc<Sessions>,
    lifetimes: Lifetimes,
    rules: ArcSwap<AccountRules>,
    told: ToldLately,
    db: DbHandle,
    passwords: PasswordHandle,
    limits: RateLimitHandle,
    clock: Clock,
    tracker: TaskTracker,
    tree: Tree,
    metrics: AuthMetrics,
}

impl Room {
    /// Runs to its end even if the caller leaves: what was changed is then known here, and logged.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, AuthError> {
        self.tracker
            .spawn(Carrier::here().around(work))
            .await
            .map_err(|error| AuthError::Internal(error.to_string()))
    }
}

impl AuthHandle {
    /// Goes by other rules for new accounts and new passwords from now on; nothing else of `config` counts.
    pub fn reconfigure(&self, config: &AuthConfig) {
        self.0.rules.store(Arc::new(AccountRules::of(config)));
    }

    /// Who holds this access token or API key? Judged in the caller's task: a token that is known costs one hash and two
    /// look-ups, a key one hash and one look-up. A text that is neither costs no query and leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`] for every reason a token can be refused (the caller learns no more than that);
    /// [`AuthError::Unavailable`] when the session or key could not be checked: answer 503, never 401.
    pub async fn authenticate(&self, text: &str) -> Result<Principal, AuthError> {
        self.0.authenticate(text, Freshness::Recent).await
    }

    /// As [`AuthHandle::authenticate`], but whoever is let in is so by what the store says now: a role or right that was
    /// taken away a moment ago, by whatever instance, does not serve any more (A18). Costs a query, which callers at the
    /// same time share.
    ///
    /// # Errors
    ///
    /// As there, and [`AuthError::Unavailable`] whenever the store is away.
    pub async fn authenticate_now(&self, text: &str) -> Result<Principal, AuthError> {
        self.0.authenticate(text, Freshness::Now).await
    }

    /// The caller's own account.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`] when the account is gone.
    pub async fn me(&self, principal: &Principal) -> Result<User, AuthError> {
        self.0.db.user(principal.user).await.map_err(store_failed)?.ok_or(AuthError::BadToken)
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
    limits: RateLimitHandle,
) -> Result<(AuthHandle, SupervisorSpec), StartError> {
    let lifetimes = config.lifetimes()?;
    let secret = secret::load(config.secret.as_ref(), &config.data_dir)?;
    let keys = Keys::derive(&secret)
        .map(Arc::new)
        .map_err(|_| StartError::Config("keys cannot be derived from the secret".to_owned()))?;
    let key_sets = Arc::new(KeySets::new(Arc::clone(&keys), config.key_times()));
    let metrics = AuthMetrics::register(&mut ctx.registry.lock());
    let sessions = Arc::new(Sessions::new(config.session_cache));
    let verified = Arc::new(VerifiedTokens::new());
    let slot = Slot::new();
    let ask = |gate, places| {
        let gate = Gate::new(gate, places);
        ctx.gates.watch(&gate);
        Handle::new(slot.clone(), gate, LOOK_UP_PATIENCE)
    };
    let (for_sessions, for_keys) = (ask("auth", LOOK_UPS), ask("auth_keys", KEY_LOOK_UPS));

    let cache = child(ctx, "session_cache", None, {
        let (sessions, tokens) = (Arc::clone(&sessions), Arc::clone(&verified));
        move || SessionCache { sessions: Arc::clone(&sessions), tokens: Arc::clone(&tokens) }
    });
    let actor = child(ctx, "auth_actor", Some(slot.clone()), {
        let (db, sessions) = (db.clone(), Arc::clone(&sessions));
        let (clock, tracker, metrics) = (ctx.clock.clone(), ctx.tracker.clone(), metrics.clone());
        move || AuthActor {
            db: db.clone(),
            sessions: Arc::clone(&sessions),
            clock: clock.clone(),
            tracker: tracker.clone(),
            metrics: metrics.clone(),
        }
    });
    // Below the others: whoever reads the set does not mind who renews it.
    let key_set = child(ctx, "key_set", None, {
        let lookout = Arc::new(Lookout {
            sets: Arc::clone(&key_sets),
            db: db.clone(),
            clock: ctx.clock.clone(),
            tracker: ctx.tracker.clone(),
            missed: AtomicU32::new(0),
        });
        move || KeySetActor(Arc::clone(&lookout))
    });
    let purge = child(ctx, "purge", None, {
        let (db, clock) = (db.clone(), ctx.clock.clone());
        move || PurgeActor { db: db.clone(), clock: clock.clone() }
    });
    let spec = SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::RestForOne,
        policy: Policy::default(),
        children: Arc::new(vec![cache, actor, key_set, purge]),
    };
    let room = Room {
        actor: for_sessions,
        actor_for_keys: for_keys,
        tokens: AccessTokens::new(Arc::clone(&key_sets), &config.issuer, &config.audience),
        keys,
        key_sets,
        algorithm: config.algorithm,
        verified,
        sessions,
        lifetimes,
        rules: ArcSwap::from_pointee(AccountRules::of(&config)),
        told: ToldLately::new(metrics.untold.clone()),
        db,
        passwords,
        limits,
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
