//! Connections to Postgres: how they are opened, tested and given back.

use std::{str::FromStr, time::Duration};

use domain::secret::Secret;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    error::DatabaseError,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use crate::db::{
    DbConfig, DbError, OldSchema,
    store::{
        OpenError,
        schema::{self, Standing},
    },
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Limits the server keeps on our sessions, in its own units.
const SERVER_LIMITS: [(&str, &str); 6] = [
    ("statement_timeout", "5s"),
    // Shorter, so that who waits for somebody else's lock is told so.
    ("lock_timeout", "4s"),
    ("idle_in_transaction_session_timeout", "10s"),
    // A link that is gone is noticed by the server, which then ends the session and frees its locks.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// A change is acknowledged once it is on the server's disk, whatever the server, the database or the role is set to. So
/// nothing that was acknowledged is lost with the server's memory, and nothing lies behind the end of the log, by which it
/// is told what a replica has (see [`replica`](super::replica)).
const COMMITS: [(&str, &str); 1] = [("synchronous_commit", "on")];

/// What every question of ours reads is a few neighbours in an index. By the server's own figure, which is meant for disks that turn,
/// a table it has no statistics of yet is sorted as a whole instead: 7 ms rather than 0.1 for the first page of 10,000 messages.
const PLANS: [(&str, &str); 1] = [("random_page_cost", "1.1")];

/// How long a migration may wait for a lock, with everybody else behind it.
const MIGRATION_LIMITS: [(&str, &str); 1] = [("lock_timeout", "30s")];

/// The share of the server's connections that the service may take, in percent: administrators, backups and migrations
/// need some, too.
const CONNECTIONS_SHARE: usize = 80;

/// How long a connection may take to prove that it is alive.
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Used more recently than this, a connection is trusted without a test.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// How long a first connection may take before the start is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn options(url: &Secret<String>) -> Result<PgConnectOptions, OpenError> {
    Ok(plain_options(url)?.options(SERVER_LIMITS).options(COMMITS).options(PLANS))
}

pub(super) fn pool(options: PgConnectOptions, size: usize, acquire_timeout: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(u32::try_from(size.max(1)).unwrap_or(u32::MAX))
        .acquire_timeout(acquire_timeout)
        // In an outage there would be one such line for each caller; how long they wait is in the metrics.
        .acquire_slow_threshold(acquire_timeout * 2)
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
    // Without the statement limit: a migration may take its time.
    let mut db = connect(&plain_options(url)?.options(MIGRATION_LIMITS)).await?;
    if !standing(&mut db).await?.suits() {
        let migrated = schema::forwards(&MIGRATIONS).run(&mut db).await;
        migrated.map_err(|error| if is_refused(&error) { OpenError::MayNotMigrate } else { error.into() })?;
    }
    sqlx::raw_sql(include_str!("privileges.sql")).execute(&mut db).await?;
    db.close().await?;
    Ok(())
}

/// Sees to it that the schema is one that this binary works on, and that the server has enough connections.
pub(super) async fn prepare(url: &Secret<String>, config: &DbConfig) -> Result<(), OpenError> {
    let owner = config.migrate_url.as_ref().filter(|_| config.old_schema == OldSchema::Migrated);
    if let Some(owner) = owner {
        migrate(owner).await?;
    }
    let mut db = connect(&options(url)?).await?;
    let suits = standing(&mut db).await?.suits();
    count_connections(&mut db, config).await?;
    db.close().await?;
    match config.old_schema {
        _ if suits => Ok(()),
        OldSchema::Refused => Err(OpenError::OldSchema),
        OldSchema::Migrated if owner.is_some() => Err(OpenError::TwoDatabases),
        // The role may own the schema.
        OldSchema::Migrated => migrate(url).await,
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    let connecting = PgConnection::connect_with(options);
    Ok(timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| OpenError::Timeout)??)
}

/// How the schema of this database stands to this binary.
pub(in crate::db::store) async fn standing(db: &mut PgConnection) -> Result<Standing, OpenError> {
    if has_book(db).await? { Ok(schema::standing(db, &MIGRATIONS).await?) } else { Ok(Standing::Older) }
}

/// Whether there was a migration.
pub(in crate::db::store) async fn has_book(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(db).await
}

/// Whether the role may change the schema: it owns what is there, or may make the first of it.
pub(in crate::db::store) async fn may_migrate(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
                AND coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class
                              WHERE oid = to_regclass('_sqlx_migrations')), true)",
    )
    .fetch_one(db)
    .await
}

/// Whether the role lacks the right to do this.
fn is_refused(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == "42501")
}

/// Says so when all instances together may take more connections than are good for the server (E7).
async fn count_connections(db: &mut PgConnection, config: &DbConfig) -> Result<(), sqlx::Error> {
    let (most, reserved): (i32, i32) = sqlx::query_as(
        "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int",
    )
    .fetch_one(db)
    .await?;
    let usable = usize::try_from(most - reserved).unwrap_or_default();
    let needed = connections_needed(config);
    if needed * 100 > usable * CONNECTIONS_SHARE {
        tracing::warn!(
            needed,
            usable,
            instances = config.instances,
            share_percent = CONNECTIONS_SHARE,
            "the instances together may take too many of the database's connections: raise its max_connections, or lower \
             DATABASE_READERS or DATABASE_WRITERS"
        );
    }
    Ok(())
}

/// What all instances together take of the primary's connections.
fn connections_needed(config: &DbConfig) -> usize {
    config.instances * (config.readers + config.writers)
}

pub(in crate::db::store) fn plain_options(url: &Secret<String>) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.reveal())?;
    // Statements carry prompts and hashes: they are not logged.
    Ok(options.application_name("deepersensor").disable_statement_logging())
}

/// The number of the last migration that this service knows.
pub(in crate::db::store) fn newest_migration() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

async fn in_time<T>(test: impl Future<Output = Result<T, sqlx::Error>>) -> Result<bool, sqlx::Error> {
    timeout(TEST_TIMEOUT, test).await.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|_| true)
}

pub(in crate::db::store) async fn ping(db: &mut PgConnection) -> Result<(), DbError> {
    Ok(db.ping().await?)
}
