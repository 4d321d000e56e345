//! Settings of the rate limit room.

use std::time::Duration;

use domain::quota::Quota;

#[derive(Debug, Clone)]
pub struct RateLimitConfig {
    /// `false` turns all request buckets off.
    pub enabled: bool,
    /// Per user; an address gets [`RateLimitConfig::address`].
    pub user: Quota,
    pub address: Quota,
    /// Shard actors; each key lives on exactly one. Zero counts as one.
    pub shards: usize,
    /// Addresses, and as many users, that a shard remembers; beyond, new ones share one overflow bucket.
    pub keys_per_shard: usize,
}

impl RateLimitConfig {
    /// How much more an address may spend than a user: offices share one.
    const USERS_PER_ADDRESS: u32 = 5;

    /// Limits a user to `requests_per_minute` with `burst` at once, and an address to five times that.
    ///
    /// All shards together remember at most 100,000 keys.
    pub fn new(requests_per_minute: u32, burst: u32) -> Self {
        let user = Quota { permits: requests_per_minute, period: Duration::from_secs(60), burst };
        let address = Quota {
            permits: requests_per_minute.saturating_mul(Self::USERS_PER_ADDRESS),
            burst: burst.saturating_mul(Self::USERS_PER_ADDRESS),
            ..user
        };
        Self { enabled: true, user, address, shards: 16, keys_per_shard: 3_125 }
    }
}
