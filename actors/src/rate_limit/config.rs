//! Settings of the rate limit room.

use std::time::Duration;

use domain::{quota::Quota, secret::Secret};

use super::Scope;

#[derive(Debug, Clone)]
pub struct RateLimitConfig {
    /// `false` turns all request buckets and the waits after wrong passwords off.
    pub enabled: bool,
    /// Per user; an address gets [`RateLimitConfig::address`].
    pub user: Quota,
    pub address: Quota,
    /// Log-ins per address (A6).
    pub log_in: Quota,
    /// Sign-ups per address (A5).
    pub sign_up: Quota,
    /// Where all instances count together; without it each counts its own callers.
    pub redis_url: Option<Secret<String>>,
    /// How long a question may take there before this instance answers it alone.
    pub redis_patience: Duration,
    /// Among how many instances the limits of users and addresses are divided while Redis is away. Zero counts as one.
    pub instance_count: u32,
    /// Shard actors; each key lives on exactly one. Zero counts as one.
    pub shards: usize,
    /// Buckets of each scope that a shard remembers; beyond, new ones share one overflow bucket.
    pub keys_per_shard: usize,
    /// Accounts whose wrong passwords a shard remembers; beyond, new ones share one overflow entry.
    pub accounts_per_shard: usize,
}

impl RateLimitConfig {
    /// How much more an address may spend than a user: offices share one.
    const USERS_PER_ADDRESS: u32 = 5;

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
            log_in: Self::per_minute(5, 5),
            sign_up: Self::per_hour(10, 10),
            redis_url: None,
            redis_patience: Duration::from_millis(50),
            instance_count: 1,
            shards: 16,
            keys_per_shard: 1_250,
            accounts_per_shard: 4_096,
        }
    }

    /// Of the buckets whose keys are many. A key's own quota is a matter of the key; those that share a bucket get what a
    /// user gets.
    pub(super) const fn quota(&self, scope: Scope) -> Quota {
        match scope {
            Scope::Address => self.address,
            Scope::User | Scope::Key => self.user,
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
