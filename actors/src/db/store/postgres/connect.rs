//! Connections to Postgres: how they are opened, tested and given back.

use std::{str::FromStr, time::Duration};

use domain::secret::Secret;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use crate::db::{DbError, store::OpenError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Limits the server keeps on our sessions, in its own units.
const SERVER_LIMITS: [(&str, &str); 5] = [
    ("statement_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
    // A link that is gone is noticed by the server, which then ends the session and frees its locks.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// How long a connection may take to prove that it is alive.
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Used more recently than this, a connection is trusted without a test.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// How long a first connection may take before the start is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn options(url: &Secret<String>) -> Result<PgConnectOptions, OpenError> {
    Ok(plain_options(url)?.options(SERVER_LIMITS))
}

pub(super) fn pool(options: PgConnectOptions, size: usize, acquire_timeout: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(u32::try_from(size.max(1)).unwrap_or(u32::MAX))
        .acquire_timeout(acquire_timeout)
        // sqlx's own test waits for ever on a half-open link, and runs before every query.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for < TRUSTED_FOR { Ok(true) } else { in_time(connection.ping()).await }
            })
        })
        // Ends a transaction that a cut `begin` left open (sqlx 4393). The leading BEGIN spares the server's log the
        // warning that a lone ROLLBACK leaves there each time.
        .after_release(|connection, _| {
            Box::pin(async move { in_time(sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection)).await })
        })
        .connect_lazy_with(options)
}

/// Brings the schema up to date, under sqlx's advisory lock: of two instances that start together, one waits.
pub(in crate::db::store) async fn migrate(url: &Secret<String>) -> Result<(), OpenError> {
    // Without the statement limit: a migration, or the wait for another's, may take its time.
    let options = plain_options(url)?;
    let connecting = PgConnection::connect_with(&options);
    let mut connection = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| OpenError::Timeout)??;
    MIGRATIONS.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

fn plain_options(url: &Secret<String>) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.reveal())?;
    // Statements carry prompts and hashes: they are not logged.
    Ok(options.application_name("deepersensor").disable_statement_logging())
}

async fn in_time<T>(test: impl Future<Output = Result<T, sqlx::Error>>) -> Result<bool, sqlx::Error> {
    timeout(TEST_TIMEOUT, test).await.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|_| true)
}

pub(in crate::db::store) async fn ping(db: &mut PgConnection) -> Result<(), DbError> {
    Ok(db.ping().await?)
}
