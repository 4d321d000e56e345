//! When the text so far is stored: after so long or so much, whichever comes first, and also while the model says nothing.

use std::{future::pending, time::Duration};

use domain::turn::Checkpoint;
use tokio::time::{Instant, sleep_until};

use super::turn::Job;

pub(super) struct Checkpoints {
    every: Duration,
    bytes: usize,
    last: Instant,
    last_bytes: usize,
    /// Whether something was said since.
    is_behind: bool,
    seq: u32,
}

impl Checkpoints {
    pub fn new(every: Duration, bytes: usize, now: Instant) -> Self {
        Self { every, bytes, last: now, last_bytes: 0, is_behind: false, seq: 0 }
    }

    /// The checkpoint to store now, if one is due and there is something new to store.
    pub fn due(&mut self, job: &Job, now: Instant) -> Option<Checkpoint> {
        let stored = job.stored?;
        let written = job.writer.written();
        let grown = written - self.last_bytes;
        self.is_behind = grown > 0;
        if grown == 0 || (grown < self.bytes && now.duration_since(self.last) < self.every) {
            return None;
        }
        self.last = now;
        self.last_bytes = written;
        self.is_behind = false;
        self.seq += 1;
        Some(Checkpoint { turn: job.turn, reply: stored.message, seq: self.seq, answer: job.writer.answer() })
    }

    /// Waits until what was said is old enough to be stored, however long the model is silent.
    pub async fn overdue(&self) {
        if self.is_behind {
            sleep_until(self.last + self.every).await;
        } else {
            pending().await
        }
    }
}
