//! The room's two connections to Redis: one on which it waits for words of others, one on which it says its own.
//!
//! The limits have a third: what is said here may be large, and no decision should wait behind it.
//!
//! # When it breaks
//!
//! Only the listener connects, once a second while it must. Everybody else finds a connection or is told at once that there is
//! none.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use redis::{Client, Pipeline, RedisError, Value, aio::MultiplexedConnection};

use super::{metrics::RelayMetrics, wire::FIELD};
use crate::redis::connect;

/// How long the answer to anything that is said may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long the server holds back an answer while there are no words.
const HOLD: Duration = Duration::from_secs(1);

/// Entries of each stream that are read at once.
const ENTRIES_A_READ: usize = 8;

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no connection")]
    Away,
    #[error("{0}")]
    Redis(#[from] RedisError),
}

/// Where an entry stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct EntryId(u64, u64);

impl EntryId {
    fn parse(text: &str) -> Option<Self> {
        let (millis, number) = text.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// An entry as the server tells it: its place, and its fields with what they hold.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// What was read of one stream.
pub(super) struct Read {
    pub stream: String,
    pub entries: Vec<(EntryId, Vec<u8>)>,
}

pub(super) struct Link {
    client: Client,
    /// `None` while the server is away.
    speaking: ArcSwapOption<MultiplexedConnection>,
    metrics: RelayMetrics,
}

impl Link {
    pub(super) fn new(client: Client, metrics: RelayMetrics) -> Self {
        Self { client, speaking: ArcSwapOption::empty(), metrics }
    }

    pub(super) fn is_up(&self) -> bool {
        self.speaking.load().is_some()
    }

    /// Opens the connection for saying, if it is not open, and another one for hearing.
    pub(super) async fn connect(&self) -> Result<Hearing, LinkError> {
        let hearing = connect(&self.client, HOLD + PATIENCE).await?;
        self.connect_to_speak().await?;
        Ok(Hearing(hearing))
    }

    pub(super) async fn connect_to_speak(&self) -> Result<(), LinkError> {
        if !self.is_up() {
            self.speaking.store(Some(Arc::new(connect(&self.client, PATIENCE).await?)));
            self.metrics.up.set(1);
            tracing::info!(event = "relay", outcome = "up", "other instances are heard");
        }
        Ok(())
    }

    /// From now on there is no connection. Only for the listener, which alone opens new ones.
    pub(super) fn give_up(&self, error: &LinkError) {
        if let Some(speaking) = self.speaking.load_full() {
            self.lost(&speaking, error);
        }
    }

    fn lost(&self, connection: &Arc<MultiplexedConnection>, error: &LinkError) {
        // Only one of those who saw this connection fail says so, and none who saw an older one.
        let seen = self.speaking.compare_and_swap(connection, None);
        if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, connection)) {
            self.metrics.up.set(0);
            tracing::warn!(
                event = "relay",
                outcome = "down",
                %error,
                "turns of other instances are followed through the database"
            );
        }
    }

    /// Says all of `pipe`; a server that does not answer is lost.
    pub(super) async fn say(&self, pipe: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let connection = self.speaking.load_full().ok_or(LinkError::Away)?;
        let said = pipe.query_async(&mut MultiplexedConnection::clone(&connection)).await;
        said.map_err(|error: RedisError| {
            let is_lost = error.is_unrecoverable_error() || error.is_timeout();
            let error = LinkError::Redis(error);
            if is_lost {
                self.lost(&connection, &error);
            }
            error
        })
    }
}

/// The connection on which the listener waits; nobody else may, since it holds up whatever comes behind it.
pub(super) struct Hearing(MultiplexedConnection);

impl Hearing {
    /// What came in these streams behind the entries named; waits a bounded time if there is nothing.
    pub(super) async fn read(&mut self, streams: &[(String, EntryId)]) -> Result<Vec<Read>, LinkError> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(ENTRIES_A_READ).arg("BLOCK").arg(HOLD.as_millis() as u64).arg("STREAMS");
        for (stream, _) in streams {
            command.arg(stream);
        }
        for (_, after) in streams {
            command.arg(after.to_string());
        }
        let read: Option<Vec<(String, Vec<Entry>)>> = command.query_async(&mut self.0).await?;
        let entry = |(id, fields): Entry| {
            let (_, words) = fields.into_iter().find(|(field, _)| field == FIELD)?;
            Some((EntryId::parse(&id)?, words))
        };
        let of_stream = |(stream, entries): (String, Vec<_>)| Read {
            stream,
            entries: entries.into_iter().filter_map(entry).collect(),
        };
        Ok(read.unwrap_or_default().into_iter().map(of_stream).collect())
    }
}

#[cfg(test)]
mod tests {
    use support::redis::Redis;

    use super::*;

    #[tokio::test]
    async fn a_late_failure_of_an_old_connection_leaves_the_new_one_alone() {
        let server = Redis::start().await.unwrap();
        let client = Client::open(server.url()).unwrap();
        let metrics = RelayMetrics::default();
        let link = Link::new(client, metrics.clone());
        link.connect_to_speak().await.unwrap();
        let old = link.speaking.load_full().unwrap();
        link.lost(&old, &LinkError::Away);
        assert!(!link.is_up());
        link.connect_to_speak().await.unwrap();

        link.lost(&old, &LinkError::Away);
        assert!(link.is_up());
        assert_eq!(metrics.up.get(), 1);

        link.give_up(&LinkError::Away);
        assert!(!link.is_up());
        assert_eq!(metrics.up.get(), 0);
    }
}
