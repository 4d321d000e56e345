//! Settings of the rate limit room.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use domain::{quota::Quota, secret::Secret};

use super::Scope;

/// The settings in force, outside every actor: who is started anew finds the newest.
pub(super) type LiveLimits = Arc<ArcSwap<RateLimitConfig>>;

#[derive(Debug, Clone)]
pub struct RateLimitConfig {
    /// `false` turns all request buckets, the cap on running turns and the waits after wrong passwords off.
    pub enabled: bool,
    /// Per user; an address gets [`RateLimitConfig::address`].
    pub user: Quota,
    pub address: Quota,
    /// Turns of a user with one model; `None` sets no limit.
    pub model: Option<Quota>,
    /// Tokens of a user; `None` sets no limit.
    pub tokens: Option<Quota>,
    /// What an answer is reserved at whose caller did not limit it.
    pub reserve_tokens: u32,
    /// Log-ins per address (A6).
    pub log_in: Quota,
    /// Sign-ups per address (A5).
    pub sign_up: Quota,
    /// Turns of one user that run at once, over all models and instances (C7).
    pub streams: u32,
    /// How long a turn counts as running that nobody says so of any more; said every third of that time.
    pub stream_lease: Duration,
    /// Where all instances count together; without it each counts its own callers.
    pub redis_url: Option<Secret<String>>,
    /// How long a question may take there before this instance answers it alone.
    pub redis_patience: Duration,
    /// How long a caller waits for its shard: a shard in memory answers in microseconds, one that needs this long is stuck.
    pub answer_deadline: Duration,
    /// Among how many instances the limits of users and addresses are divided while Redis is away. Zero counts as one.
    pub instance_count: u32,
    /// Shard actors; each key lives on exactly one. Zero counts as one.
    pub shards: usize,
    /// Buckets of each scope, and users with running turns, that a shard remembers; beyond, new ones share overflow buckets.
    pub keys_per_shard: usize,
    /// Accounts whose wrong passwords a shard remembers; beyond, new ones share one overflow entry.
    pub accounts_per_shard: usize,
}

impl RateLimitConfig {
    /// How much more an address may spend than a user: offices share one.
    const USERS_PER_ADDRESS: u32 = 5;

    /// Tokens per minute in a bucket that is shared for want of room where there is no general limit to take instead: that
    /// of some ten busy users.
    const SHARED_TOKENS: u32 = 100_000;

    /// Limits a user to `requests_per_minute` with `burst` at once, and an address to five times that.
    ///
    /// All shards together remember at most 100,000 buckets and 65,536 accounts.
    pub fn new(requests_per_minute: u32, burst: u32) -> Self {
        let user = Self::per_minute(requests_per_minute, burst);
        let address = Quota {
            permits: requests_per_minute.saturating_mul(Self::USERS_PER_ADDRESS),
            burst: burst.saturating_mul(Self::USERS_PER_ADDRESS),
            ..user
        };
        Self {
            enabled: true,
            user,
            address,
            model: None,
            tokens: None,
            reserve_tokens: 1_024,
            log_in: Self::per_minute(5, 5),
            sign_up: Self::per_hour(10, 10),
            streams: 4,
            stream_lease: Duration::from_secs(60),
            redis_url: None,
            redis_patience: Duration::from_millis(50),
            answer_deadline: Duration::from_millis(500),
            instance_count: 1,
            shards: 16,
            keys_per_shard: 780,
            accounts_per_shard: 4_096,
        }
    }

    /// These settings, with those of `new` that can change while the room lives.
    #[must_use]
    pub fn followed_by(&self, new: &Self) -> Self {
        Self {
            user: new.user,
            address: new.address,
            model: new.model,
            tokens: new.tokens,
            reserve_tokens: new.reserve_tokens,
            log_in: new.log_in,
            sign_up: new.sign_up,
            streams: new.streams,
            ..self.clone()
        }
    }

    /// The same, to be replaced while the room lives.
    pub(super) fn into_live(self) -> LiveLimits {
        Arc::new(ArcSwap::from_pointee(self))
    }

    /// Of the buckets whose keys are many. A key's own quota is a matter of the key; those that share a bucket get what a
    /// user gets.
    pub(super) fn quota(&self, scope: Scope) -> Quota {
        match scope {
            Scope::Address => self.address,
            Scope::User | Scope::Key => self.user,
            Scope::Model => self.model.unwrap_or(self.user),
            Scope::Tokens | Scope::KeyTokens => {
                self.tokens.unwrap_or(Self::per_minute(Self::SHARED_TOKENS, Self::SHARED_TOKENS))
            }
            Scope::LogIn => self.log_in,
            Scope::SignUp => self.sign_up,
        }
    }

    pub const fn per_minute(permits: u32, burst: u32) -> Quota {
        Quota { permits, period: Duration::from_secs(60), burst }
    }

    pub const fn per_hour(permits: u32, burst: u32) -> Quota {
        Quota { permits, period: Duration::from_secs(3_600), burst }
    }
}
