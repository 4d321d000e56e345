//! What stands in Redis: the asks of an instance and the stream of a turn, each bounded and kept for a short time.

use std::collections::VecDeque;

use domain::id::TurnId;
use redis::Pipeline;

use super::{
    link::{Link, LinkError},
    wire::{FIELD, stream_of},
};

/// Text is personal data: what nobody refreshes is gone after this long.
const KEPT_SECS: u64 = 120;

/// The most entries of a turn.
const ENTRIES_MAX: usize = 8_192;

/// What an entry takes beside its words.
const ENTRY_BYTES: usize = 64;

/// Asks that may wait for one instance; who is not heard asks again.
const ASKS_MAX: usize = 1_024;

/// Adds to `pipe`: says this to an instance.
pub(super) fn ask(pipe: &mut Pipeline, stream: &str, words: &[u8]) {
    pipe.cmd("XADD").arg(stream).arg("MAXLEN").arg("~").arg(ASKS_MAX).arg("*").arg(FIELD).arg(words).ignore();
    pipe.cmd("EXPIRE").arg(stream).arg(KEPT_SECS).ignore();
}

/// The stream of one turn, as its owner writes it: bounded in entries and in bytes, and kept for a short time only.
pub(super) struct TurnStream {
    name: String,
    is_new: bool,
    bytes_max: usize,
    /// Of each entry that is there.
    sizes: VecDeque<(String, usize)>,
    bytes: usize,
}

impl TurnStream {
    /// What is left of an earlier one is thrown away with the first write.
    pub(super) fn new(turn: TurnId, bytes_max: usize) -> Self {
        Self { name: stream_of(turn), is_new: true, bytes_max, sizes: VecDeque::new(), bytes: 0 }
    }

    pub(super) async fn write(&mut self, link: &Link, entries: Vec<Vec<u8>>) -> Result<(), LinkError> {
        for entry in entries {
            self.write_one(link, &entry).await?;
        }
        Ok(())
    }

    async fn write_one(&mut self, link: &Link, entry: &[u8]) -> Result<(), LinkError> {
        let mut pipe = redis::pipe();
        if self.is_new {
            pipe.cmd("DEL").arg(&self.name).ignore();
        }
        pipe.cmd("XADD").arg(&self.name).arg("MAXLEN").arg("~").arg(ENTRIES_MAX).arg("*");
        pipe.arg(FIELD).arg(entry);
        self.make_room(&mut pipe, entry.len() + ENTRY_BYTES);
        pipe.cmd("EXPIRE").arg(&self.name).arg(KEPT_SECS).ignore();
        let said = link.say(&pipe).await?;
        let id = said.into_iter().next().map(redis::from_redis_value::<String>);
        if let Some(Ok(id)) = id {
            self.sizes.push_back((id, entry.len() + ENTRY_BYTES));
            self.bytes += entry.len() + ENTRY_BYTES;
        }
        self.is_new = false;
        Ok(())
    }

    /// Lets the oldest go, so that `bytes` more fit.
    fn make_room(&mut self, pipe: &mut Pipeline, bytes: usize) {
        let mut is_over = false;
        while self.bytes + bytes > self.bytes_max || self.sizes.len() >= ENTRIES_MAX {
            let Some((_, size)) = self.sizes.pop_front() else { break };
            self.bytes -= size;
            is_over = true;
        }
        if is_over {
            // Nothing left: all that was there before this entry goes.
            if let Some((oldest, _)) = self.sizes.front() {
                pipe.cmd("XTRIM").arg(&self.name).arg("MINID").arg(oldest).ignore();
            } else {
                pipe.cmd("XTRIM").arg(&self.name).arg("MAXLEN").arg(1).ignore();
            }
        }
    }
}
