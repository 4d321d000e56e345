//! The news of the tree for one reader, who may have read some of it before.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::OpsHandle;
use crate::tree::{Feed, News};

/// The last piece that a reader has: of which start of the service, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    pub run: Uuid,
    pub number: u64,
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.number)
    }
}

impl FromStr for After {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (run, number) = text.split_once('/').ok_or(())?;
        Ok(Self { run: run.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

/// Reads news as it comes.
pub struct NewsReader {
    /// What was read last.
    pub at: After,
    /// How many pieces are lost that came between what was read before and what is kept.
    pub missed: u64,
    feed: Feed,
    closing: CancellationToken,
    read: VecDeque<Arc<News>>,
}

impl OpsHandle {
    /// What this service is called among others of its process.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Reads on after what a reader has; all of this start of the service if that was of another, and the last `earlier` pieces
    /// if it has nothing. Needs no actor, so it also tells of the death of this room's own.
    pub fn news(&self, after: Option<After>, earlier: u64) -> NewsReader {
        let newest = self.news.newest();
        let number = match after {
            Some(after) if after.run == self.run => after.number.min(newest),
            Some(_) => 0,
            None => newest.saturating_sub(earlier),
        };
        let oldest = self.news.since(number).first().map_or(newest + 1, |news| news.number);
        NewsReader {
            at: After { run: self.run, number },
            missed: if after.is_some() { oldest.saturating_sub(number + 1) } else { 0 },
            feed: self.news.clone(),
            closing: self.closing.clone(),
            read: VecDeque::new(),
        }
    }
}

impl NewsReader {
    /// The next piece and how long ago it happened, as soon as there is one; `None` at the end, when the service stops.
    pub async fn next(&mut self) -> Option<(Arc<News>, Duration)> {
        loop {
            if let Some(news) = self.read.pop_front() {
                self.at.number = news.number;
                let ago = Instant::now().saturating_duration_since(news.at);
                return Some((news, ago));
            }
            let is_closing = self.closing.is_cancelled();
            self.read = self.feed.since(self.at.number).into();
            if self.read.is_empty() {
                if is_closing {
                    return None;
                }
                tokio::select! {
                    () = self.feed.newer_than(self.at.number) => {}
                    () = self.closing.cancelled() => {}
                }
            }
        }
    }
}
