//! Where a service under test keeps its data, and a way to look at it beside the service.
//!
//! All tests share one Postgres cluster, each in a database cloned from a template that was migrated once.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use deepersensor::config::{Config, Sources};
use sqlx::{
    AssertSqlSafe, Connection as _, Decode, PgConnection, Postgres, Sqlite, SqliteConnection, Type,
    sqlite::SqliteConnectOptions,
};
use support::postgres::Cluster;
use tokio::sync::OnceCell;

const TEMPLATE: &str = "template_of_tests";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

/// One test's own data.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    Postgres { name: String, url: String },
}

impl Database {
    /// One that no service has seen yet: even its schema is to be made.
    pub(crate) async fn make_empty(store: Store, data_dir: &Path) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        match store {
            Store::Sqlite => Self::Sqlite(data_dir.join("deepersensor.db")),
            Store::Postgres => {
                let cluster = Cluster::shared().await.unwrap();
                let name = format!("empty_{}", MADE.fetch_add(1, Ordering::Relaxed));
                cluster.create_database(&name).await.unwrap();
                let url = cluster.url(&name);
                Self::Postgres { name, url }
            }
        }
    }

    pub(crate) async fn make(store: Store, data_dir: &Path) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        match store {
            Store::Sqlite => Self::Sqlite(data_dir.join("deepersensor.db")),
            Store::Postgres => {
                let cluster = migrated(data_dir).await;
                let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
                cluster.clone_database(TEMPLATE, &name).await.unwrap();
                let url = cluster.url(&name);
                Self::Postgres { name, url }
            }
        }
    }

    /// The one number that a statement gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let [number] = self.column(sql).await[..] else { panic!("not one row: {sql}") };
        number
    }

    /// The first column of all rows, which is text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        self.column(sql).await
    }

    async fn column<T>(&self, sql: &str) -> Vec<T>
    where
        T: Value<Sqlite> + Value<Postgres>,
    {
        match self {
            Self::Sqlite(path) => {
                let mut connection = sqlite(path).await;
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap()
            }
            Self::Postgres { url, .. } => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap()
            }
        }
    }

    /// The names of all tables.
    pub(crate) async fn tables(&self) -> Vec<String> {
        self.texts(match self {
            Self::Sqlite(_) => {
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            }
            Self::Postgres { .. } => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
        })
        .await
    }

    /// The rows of a table as text, with bytes as the characters that they may stand for.
    pub(crate) async fn rows(&self, table: &str) -> Vec<String> {
        let row = |columns: String| match self {
            Self::Sqlite(_) => format!("SELECT CAST(concat_ws(' ', {columns}) AS BLOB) FROM {table}"),
            Self::Postgres { .. } => {
                format!("SELECT convert_to(concat_ws(' ', {columns}), 'UTF8') FROM {table}")
            }
        };
        let columns = match self {
            Self::Sqlite(_) => format!("SELECT name FROM pragma_table_info('{table}')"),
            Self::Postgres { .. } => format!(
                "SELECT CASE data_type WHEN 'bytea' THEN 'encode(' || column_name || ', ''escape'')' \
                 ELSE column_name END FROM information_schema.columns WHERE table_name = '{table}'"
            ),
        };
        let columns = self.texts(&columns).await.join(", ");
        let rows: Vec<Vec<u8>> = self.column(&row(columns)).await;
        rows.iter().map(|row| String::from_utf8_lossy(row).into_owned()).collect()
    }

    pub(crate) async fn remove(self) {
        // SQLite's file goes with its directory.
        if let Self::Postgres { name, .. } = self {
            Cluster::shared().await.unwrap().drop_database(&name).await.unwrap();
        }
    }
}

/// What a column of this kind of database can hold.
trait Value<D: sqlx::Database>: for<'r> Decode<'r, D> + Type<D> + Send + Unpin {}

impl<D: sqlx::Database, T: for<'r> Decode<'r, D> + Type<D> + Send + Unpin> Value<D> for T {}

async fn sqlite(path: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap()
}

/// The shared cluster, in which the template exists.
async fn migrated(data_dir: &Path) -> &'static Cluster {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    let cluster = Cluster::shared().await.unwrap();
    MIGRATED
        .get_or_init(|| async {
            cluster.create_database(TEMPLATE).await.unwrap();
            let environment = [
                ("DATABASE_URL".to_owned(), cluster.url(TEMPLATE)),
                ("DATA_DIR".to_owned(), data_dir.display().to_string()),
            ];
            let sources = Sources { environment: environment.into(), ..Sources::default() };
            let config = Config::load(&sources).unwrap();
            actors::db::migrate(&config.system.db).await.unwrap();
        })
        .await;
    cluster
}
