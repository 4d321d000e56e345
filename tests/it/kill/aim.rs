//! Where in the life of a turn the kill falls.

use std::time::Duration;

use support::fake_ollama::{Counters, FakeOllama};
use tokio::time::sleep;

use super::scene::Scene;
use crate::harness::Random;

/// At most so long after the start, mostly; now and then long enough for what is stored by its age.
const SOON: Duration = Duration::from_millis(1_000);
const LATE: Duration = Duration::from_millis(2_600);

/// How long those who are through wait for each other before they all ask at once.
const GATHER: Duration = Duration::from_millis(250);
/// From their asking to the kill: within it turns are committed, and the first reach the model server.
const ADMISSION: Duration = Duration::from_millis(25);
/// From the last word of an answer to the kill: within it the turn is settled.
const SETTLEMENT: Duration = Duration::from_millis(8);

/// A load that does nothing for this long is killed where it is.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    AnyTime,
    /// Many turns are being begun, and few were sent to the model server.
    Admission,
    /// In the middle of answers.
    MidStream,
    /// The model server has just ended an answer.
    Settlement,
}

const ALL: [Aim; 4] = [Aim::AnyTime, Aim::Admission, Aim::MidStream, Aim::Settlement];

impl Aim {
    /// Each kind in its turn; where exactly is left to chance.
    pub(super) const fn of(number: usize) -> Self {
        ALL[number % ALL.len()]
    }

    /// Returns when the service is to be killed.
    pub(super) async fn waits(self, ollama: &FakeOllama, scene: &Scene, random: &mut Random) {
        let now = ollama.control().counters();
        match self {
            Self::AnyTime => {
                let most = if random.in_share(0.4) { LATE } else { SOON };
                sleep(random.between(Duration::ZERO, most)).await;
            }
            Self::Admission => {
                scene.hold(true);
                sleep(GATHER).await;
                scene.hold(false);
                sleep(random.between(Duration::ZERO, ADMISSION)).await;
            }
            Self::MidStream => {
                let tokens = now.tokens + 1 + random.below(9_000) as u64;
                // What does not come is not waited for.
                let _ = ollama.control().wait_until(|seen| seen.tokens >= tokens, PATIENCE).await;
            }
            Self::Settlement => {
                let ended = ended(&now) + 1 + random.below(8) as u64;
                let _ = ollama.control().wait_until(|seen| self::ended(seen) >= ended, PATIENCE).await;
                sleep(random.between(Duration::ZERO, SETTLEMENT)).await;
            }
        }
    }
}

/// Answers that the model server has given to their end.
const fn ended(counters: &Counters) -> u64 {
    counters.chat_calls.saturating_sub(counters.in_flight + counters.cancellations)
}
