//! A database of its own for each test, and rooms upon it.

use std::{path::PathBuf, sync::Arc};

use domain::{id::InstanceId, secret::Secret};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use support::postgres::Cluster;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{Clock, fresh_id},
    db::{self, DbConfig, DbHandle},
    handle::GateCollector,
    room::RoomContext,
    supervisor::{Policy, Root, SupervisorHandle},
    system::StartError,
    tree::Tree,
};

pub(in crate::db) struct Ground {
    pub(in crate::db) config: DbConfig,
}

/// A room at work.
pub(in crate::db) struct Running {
    pub(in crate::db) db: DbHandle,
    context: RoomContext,
    root: Root,
}

/// A connection that keeps others waiting.
pub(in crate::db) enum Hold {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Hold {
    /// Takes more, when it can be had.
    pub(in crate::db) async fn take(&mut self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(db) => drop(sql.execute(db).await.unwrap()),
            Self::Postgres(db) => drop(sql.execute(db).await.unwrap()),
        }
    }
}

fn data_dir() -> PathBuf {
    std::env::temp_dir().join(format!("deepersensor-db-{}", fresh_id::<InstanceId>()))
}

impl Ground {
    pub(in crate::db) async fn sqlite() -> Self {
        Self { config: DbConfig::new(data_dir()) }
    }

    pub(in crate::db) async fn postgres() -> Self {
        Self::on(Cluster::shared().await.unwrap()).await
    }

    /// On a database of a cluster that the test may break.
    pub(in crate::db) async fn on(cluster: &Cluster) -> Self {
        let name = format!("contract-{}", fresh_id::<InstanceId>());
        cluster.create_database(&name).await.unwrap();
        let mut config = DbConfig::new(data_dir());
        config.database_url = Some(Secret::new(cluster.url(&name)));
        Self { config }
    }

    pub(in crate::db) async fn room(&self) -> Running {
        self.try_room().await.unwrap()
    }

    pub(in crate::db) async fn try_room(&self) -> Result<Running, StartError> {
        let context = RoomContext {
            system: fresh_id::<InstanceId>().to_string().into(),
            clock: Clock::system(),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            registry: Arc::new(Mutex::new(Registry::default())),
            tree: Tree::new(),
            gates: GateCollector::new(),
        };
        let (db, spec) = db::build(&context, self.config.clone()).await?;
        let (path, tree) = (spec.path.clone(), context.tree.clone());
        let child = spec.into_child(path, &context.system, tree.clone(), SupervisorHandle::new());
        let root = Root::start(&context.system, Policy::default(), vec![child], tree).await;
        Ok(Running { db, context, root: root.map_err(|error| StartError::Actor(error.to_string()))? })
    }

    pub(in crate::db) async fn count(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.config.database_url {
            Some(url) => {
                let mut db = PgConnection::connect(url.reveal()).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap()
            }
            None => sqlx::query_scalar(sql).fetch_one(&mut self.sqlite_connection().await).await.unwrap(),
        }
    }

    /// The first column of all rows, which is text, of Postgres.
    pub(in crate::db) async fn texts(&self, sql: &str) -> Vec<String> {
        let mut db =
            PgConnection::connect(self.config.database_url.as_ref().unwrap().reveal()).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut db).await.unwrap()
    }

    pub(in crate::db) async fn execute(&self, sql: &str) -> Result<(), String> {
        let sql = AssertSqlSafe(sql.to_owned());
        let done = match &self.config.database_url {
            Some(url) => {
                let mut db = PgConnection::connect(url.reveal()).await.unwrap();
                sqlx::query(sql).execute(&mut db).await.map(drop)
            }
            None => sqlx::query(sql).execute(&mut self.sqlite_connection().await).await.map(drop),
        };
        done.map_err(|error| error.to_string())
    }

    /// Keeps every writer waiting, and no reader.
    pub(in crate::db) async fn hold_writes(&self) -> Hold {
        // SQLite has one writer, and this is it.
        let tables = "LOCK TABLE users, sessions, turns, conversations IN SHARE ROW EXCLUSIVE MODE";
        self.hold(if self.config.database_url.is_some() { tables } else { "SELECT 1" }).await
    }

    /// Keeps those waiting who want what this takes; nothing is left of it.
    pub(in crate::db) async fn hold(&self, sql: &str) -> Hold {
        match &self.config.database_url {
            Some(url) => {
                let mut db = PgConnection::connect(url.reveal()).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {sql}"))).execute(&mut db).await.unwrap();
                Hold::Postgres(db)
            }
            None => {
                let mut db = self.sqlite_connection().await;
                sqlx::raw_sql(AssertSqlSafe(format!("BEGIN IMMEDIATE; {sql}")))
                    .execute(&mut db)
                    .await
                    .unwrap();
                Hold::Sqlite(db)
            }
        }
    }

    pub(in crate::db) async fn sqlite_connection(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.config.data_dir.join("deepersensor.db"));
        SqliteConnection::connect_with(&options).await.unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Beside Postgres mostly nothing is made there.
        let _ = std::fs::remove_dir_all(&self.config.data_dir);
    }
}

impl Hold {
    pub(in crate::db) async fn release(self) {
        match self {
            Self::Sqlite(mut db) => sqlx::raw_sql("ROLLBACK").execute(&mut db).await.map(drop).unwrap(),
            Self::Postgres(mut db) => sqlx::raw_sql("ROLLBACK").execute(&mut db).await.map(drop).unwrap(),
        }
    }
}

impl Running {
    /// What operators see of its numbers.
    pub(in crate::db) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.context.registry.lock()).unwrap();
        text
    }

    pub(in crate::db) async fn stop(self) {
        self.context.closing.cancel();
        self.root.stop().await;
    }

    /// Lets everything run until no change waits in a lane: the writers have the rest in hand.
    pub(in crate::db) async fn lanes_taken(&self) {
        while self.db.lanes.iter().any(|lane| lane.has_waiting()) {
            tokio::task::yield_now().await;
        }
    }
}
