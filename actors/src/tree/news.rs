//! News: what happened to the tree, kept for whoever looks later and told to whoever looks now.
//!
//! ```text
//! supervisors, gates ── tell ──▶ the last KEPT pieces ── since(number) ──▶ any number of readers
//!                                        ╰── newest ──▶ wakes them
//! ```
//!
//! # When it breaks
//!
//! Readers hold nothing back: one that is slower than the news misses the oldest, and can tell from the numbers how many.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

/// Pieces of news that are kept, some 300 bytes each.
pub const KEPT: usize = 512;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
pub struct News {
    /// Counts from 1 on.
    pub number: u64,
    #[serde(skip)]
    pub at: Instant,
    pub kind: NewsKind,
    /// An actor's path, or a gate's name.
    pub who: String,
    /// A whole sentence, for people.
    pub told: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NewsKind {
    /// An actor went down; the sentence says why and what follows.
    Fell,
    /// It runs again.
    Returned,
    /// It had fallen too often, and has kept well since.
    Recovered,
    /// A gate is full.
    Refuses,
    /// A gate has refused nobody for a while.
    Admits,
    /// The service begins to stop: the last piece of news.
    Stopping,
}

/// The news of one tree; clones share it.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<VecDeque<Arc<News>>>,
    newest: watch::Sender<u64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(Inner { kept: Mutex::default(), newest: watch::Sender::new(0) }))
    }
}

impl Feed {
    pub(crate) fn tell(&self, kind: NewsKind, who: &str, told: String) {
        let mut kept = self.0.kept.lock();
        let number = *self.0.newest.borrow() + 1;
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::new(News { number, at: Instant::now(), kind, who: who.to_owned(), told }));
        // Under the lock, so that numbers rise.
        self.0.newest.send_replace(number);
    }

    /// The number of the newest piece, 0 before the first.
    pub fn newest(&self) -> u64 {
        *self.0.newest.borrow()
    }

    /// What is kept of the news after `number`, oldest first.
    pub fn since(&self, number: u64) -> Vec<Arc<News>> {
        let kept = self.0.kept.lock();
        kept.iter().filter(|news| news.number > number).cloned().collect()
    }

    /// Resolves when there is something newer than `number`.
    pub async fn newer_than(&self, number: u64) {
        // We hold the sender ourselves, so it does not go away.
        let _ = self.0.newest.subscribe().wait_for(|newest| *newest > number).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(feed: &Feed, times: usize) {
        for n in 0..times {
            feed.tell(NewsKind::Fell, "a", format!("{n}"));
        }
    }

    #[test]
    fn the_newest_news_are_kept_in_their_order_and_no_more_than_the_bound() {
        let feed = Feed::default();
        assert!(feed.since(0).is_empty() && feed.newest() == 0);
        tell(&feed, KEPT + 3);
        let kept = feed.since(0);
        assert_eq!((kept.len(), kept[0].number, feed.newest()), (KEPT, 4, KEPT as u64 + 3));
        assert!(kept.is_sorted_by_key(|news| news.number));
        assert_eq!(feed.since(feed.newest() - 1).len(), 1);
    }

    #[tokio::test]
    async fn a_reader_wakes_for_what_it_has_not_seen_and_for_nothing_else() {
        let feed = Feed::default();
        tell(&feed, 1);
        feed.newer_than(0).await;
        let mut wait = std::pin::pin!(feed.newer_than(1));
        assert!(futures_util::poll!(&mut wait).is_pending());
        tell(&feed, 1);
        wait.await;
    }
}
