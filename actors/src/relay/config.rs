//! Settings of the relay room.

use std::time::Duration;

use domain::secret::Secret;

#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where instances hear of one another; without it turns of others are followed through the store alone.
    pub redis_url: Option<Secret<String>>,
    /// Turns of other instances that are followed at once, each by any number of readers.
    pub followed_max: usize,
    /// Own turns that others are told of at once.
    pub relayed_max: usize,
    /// What Redis keeps of one turn; what was written before is looked up in the store.
    pub stream_bytes: usize,
    /// How long an owner may say nothing before the store is asked in its place.
    pub silence: Duration,
    /// Between two looks into the store, also for turns that are to end.
    pub look_every: Duration,
    /// How long a turn is told of that nobody asks for any more; followers ask every third of that time.
    pub interest: Duration,
}

impl RelayConfig {
    pub fn new(redis_url: Option<Secret<String>>) -> Self {
        Self {
            redis_url,
            followed_max: 256,
            relayed_max: 64,
            stream_bytes: 512 << 10,
            silence: Duration::from_secs(3),
            look_every: Duration::from_secs(1),
            interest: Duration::from_secs(30),
        }
    }
}
