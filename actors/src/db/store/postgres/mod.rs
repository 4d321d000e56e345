//! Postgres: the store of a service that runs on several machines.
//!
//! Queries are checked while compiling, against `.sqlx` (`scripts/sqlx-prepare`). Readers and writers have pools of their
//! own, so neither can starve the other: `readers + writers` connections per instance, and `readers` more to a replica, if
//! there is one, with one to look at it; and one for a moment while none came in time ([`Door`]).
//!
//! # When it breaks
//!
//! Every wait is bounded twice. The server ends statements after 5 s and idle transactions after 10 s; we end what the
//! server does not answer, because a half-open link answers nothing, and throw that connection away. sqlx reconnects
//! by itself.

pub(super) mod accounts;
mod administrators;
pub(super) mod api_keys;
pub(super) mod audit;
pub(super) mod claims;
pub(super) mod connect;
pub(super) mod conversations;
pub(super) mod held;
pub(super) mod invites;
pub(super) mod ledger;
mod passwords;
mod purge;
pub(super) mod replica;
pub(super) mod search;
pub(super) mod sessions;
#[path = "../shared/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "said once, compiled over the statements of each store")]
mod shared;
pub(super) mod signing_keys;
#[cfg(test)]
mod tests;
mod touch;
mod turns;
pub(super) mod usage;

use std::{sync::Arc, time::Duration};

use domain::secret::Secret;
use futures_util::future::BoxFuture;
use sqlx::{Connection as _, Postgres, postgres::PgConnectOptions};
use tokio::time::timeout;

pub(super) use self::connect::migrate;
use self::replica::Replica;
use super::{Applied, Door, OpenError, PoolUse, Store, cut::Cut, failure, pool::Pool};
use crate::db::{DbConfig, DbError, message::Write};

type Connection = sqlx::PgConnection;

pub(in crate::db) struct PostgresStore {
    writers: Pool<Postgres>,
    pub(super) readers: Pool<Postgres>,
    replica: Option<Replica>,
    lanes: usize,
    door: Arc<Door>,
    options: PgConnectOptions,
    /// How long a knock may take.
    patience: Duration,
}

impl PostgresStore {
    pub(super) async fn open(url: &Secret<String>, config: &DbConfig) -> Result<Self, OpenError> {
        connect::prepare(url, config).await?;
        let options = connect::options(url)?;
        let replica = config.read_url.as_ref().map(|url| Replica::new(url, config.readers)).transpose()?;
        // Longer than anybody else waits: what only takes its time is not shut off.
        let (door, patience) = (Door::new(), config.acquire_timeout * 2);
        let pool = |name, size| {
            Pool::new(name, connect::pool(options.clone(), size, config.acquire_timeout), Some(&door))
        };
        let (writers, readers) = (pool("write", config.writers), pool("read", config.readers));
        Ok(Self { writers, readers, replica, lanes: config.writers, door, options, patience })
    }

    async fn write(&self, batch: &[&Write]) -> Result<Applied, DbError> {
        let mut cut = Cut::acquire(&self.writers).await?;
        let mut transaction = cut.connection()?.begin().await?;
        match shared::batch::apply(&mut transaction, batch).await {
            Ok(applied) => {
                transaction.commit().await?;
                cut.keep();
                // Before anybody hears of it, and asks for it.
                if let Some(replica) = &self.replica {
                    replica.written(batch);
                }
                Ok(applied)
            }
            Err(error) => {
                transaction.rollback().await?;
                cut.keep();
                Err(error)
            }
        }
    }
}

impl Store for PostgresStore {
    fn apply<'a>(&'a self, batch: &'a [&'a Write]) -> BoxFuture<'a, Result<Applied, DbError>> {
        Box::pin(self.write(batch))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(replica) = &self.replica {
                replica.close().await;
            }
            self.readers.close().await;
            self.writers.close().await;
        })
    }

    fn write_lanes(&self) -> usize {
        self.lanes
    }

    fn door(&self) -> Option<&Arc<Door>> {
        Some(&self.door)
    }

    fn knock(&self) -> BoxFuture<'_, Result<(), DbError>> {
        Box::pin(async move {
            let knocked = async {
                let mut db = sqlx::PgConnection::connect_with(&self.options).await?;
                db.ping().await?;
                db.close().await
            };
            match timeout(self.patience, knocked).await {
                Ok(let_in) => let_in.map_err(|error| failure::not_let_in(&error)),
                Err(_) => Err(DbError::Away("it does not answer".to_owned())),
            }
        })
    }

    fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    fn look_at_replica(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(replica) = &self.replica {
                replica.look(&self.readers).await;
            }
        })
    }

    fn pools(&self) -> Vec<PoolUse<'_>> {
        let replica = self.replica.as_ref().map(|replica| [replica.pool.usage(), replica.looks.usage()]);
        [self.writers.usage(), self.readers.usage()]
            .into_iter()
            .chain(replica.into_iter().flatten())
            .collect()
    }
}
