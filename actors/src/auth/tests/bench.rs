//! The room on a real store: SQLite in a directory that goes away with the test.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{id::InstanceId, password::Password, secret::Secret};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use ractor::{ActorCell, registry::where_is};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{self, AuthConfig, AuthError, AuthHandle, Origin, TokenPair},
    clock::{Clock, fresh_id},
    db::{self, DbConfig, DbHandle},
    handle::GateCollector,
    password::{self, PasswordConfig},
    rate_limit::{self, RateLimitConfig},
    room::RoomContext,
    supervisor::{SupervisorHandle, SupervisorSpec, spawn_supervisor},
    tree::Tree,
};

pub(super) const EMAIL: &str = "ada@example.org";
pub(super) const PASSWORD: &str = "green tea at six";

pub(super) struct Bench {
    pub(super) auth: AuthHandle,
    pub(super) db: DbHandle,
    pub(super) context: RoomContext,
    pub(super) data_dir: PathBuf,
    wall: Arc<Mutex<DateTime<Utc>>>,
    /// In the order of starting: db, password, limits, auth.
    rooms: Vec<SupervisorHandle>,
}

impl Bench {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(adjust: impl FnOnce(&mut AuthConfig)) -> Self {
        Self::start_in(Self::new_dir(), true, false, adjust).await
    }

    /// With the usual limits; otherwise there are none.
    pub(super) async fn start_limited() -> Self {
        Self::start_in(Self::new_dir(), true, true, |_| {}).await
    }

    fn new_dir() -> PathBuf {
        std::env::temp_dir().join(format!("deepersensor-auth-{}", fresh_id::<InstanceId>()))
    }

    /// A second instance beside this one: the same store, the same secret, nothing else in common.
    pub(super) async fn start_twin(&self) -> Self {
        Self::start_in(self.data_dir.clone(), false, false, |_| {}).await
    }

    /// An instance of another secret on the same store, which has not opened its keys.
    pub(super) async fn assemble_stranger(&self, secret: &str) -> Self {
        let secret = Secret::new(secret.to_owned());
        Self::assemble(self.data_dir.clone(), false, false, |config| config.secret = Some(secret)).await
    }

    async fn start_in(
        data_dir: PathBuf,
        exclusive: bool,
        limited: bool,
        adjust: impl FnOnce(&mut AuthConfig),
    ) -> Self {
        let bench = Self::assemble(data_dir, exclusive, limited, adjust).await;
        bench.auth.open_keys().await.unwrap();
        bench
    }

    async fn assemble(
        data_dir: PathBuf,
        exclusive: bool,
        limited: bool,
        adjust: impl FnOnce(&mut AuthConfig),
    ) -> Self {
        let system = format!("auth-{}", fresh_id::<InstanceId>());
        let wall = Arc::new(Mutex::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let context = RoomContext {
            system: system.as_str().into(),
            clock: Clock::from_fn({
                let wall = Arc::clone(&wall);
                move || *wall.lock()
            }),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            registry: Arc::new(Mutex::new(Registry::default())),
            tree: Tree::new(),
            gates: GateCollector::new(),
        };
        let mut config = AuthConfig::new(data_dir.clone());
        adjust(&mut config);
        let store = DbConfig { exclusive, ..DbConfig::new(data_dir.clone()) };
        let (db, db_sup) = db::build(&context, store).await.unwrap();
        let (passwords, password_sup) =
            password::build(&context, PasswordConfig { workers: Some(2), ..Default::default() }).unwrap();
        let config_of_limits = RateLimitConfig { enabled: limited, ..RateLimitConfig::new(60, 20) };
        let (limits, limits_sup) = rate_limit::build(&context, config_of_limits).await.unwrap();
        let (auth, auth_sup) = auth::build(&context, config, db.clone(), passwords, limits).unwrap();
        let mut rooms = Vec::new();
        for spec in [db_sup, password_sup, limits_sup, auth_sup] {
            rooms.push(Self::start_room(&context, spec).await);
        }
        Self { auth, db, context, data_dir, wall, rooms }
    }

    async fn start_room(context: &RoomContext, spec: SupervisorSpec) -> SupervisorHandle {
        let handle = SupervisorHandle::new();
        spawn_supervisor(None, &context.system, spec, context.tree.clone(), handle.clone()).await.unwrap();
        handle
    }

    /// Takes the store away for good.
    pub(super) async fn stop_store(&self) {
        self.rooms[0].stop().await;
    }

    pub(super) async fn stop_limits(&self) {
        self.rooms[2].stop().await;
    }

    /// Stops the room, and only that.
    pub(super) async fn stop_auth(&self) {
        self.rooms[3].stop().await;
    }

    pub(super) fn actor(&self, path: &str) -> ActorCell {
        where_is(format!("{}/{path}", self.context.system)).unwrap()
    }

    /// Moves the wall clock, and only that.
    pub(super) fn wait_by_the_wall(&self, seconds: i64) {
        *self.wall.lock() += TimeDelta::seconds(seconds);
    }

    pub(super) async fn sign_up(&self) {
        self.auth.sign_up(EMAIL, secret(PASSWORD), None, Origin::default()).await.unwrap();
    }

    pub(super) async fn log_in(&self) -> TokenPair {
        self.auth.log_in(EMAIL, secret(PASSWORD), Origin::default()).await.unwrap()
    }

    /// Does to the store what another process might.
    pub(super) async fn meanwhile(&self, sql: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.data_dir.join("deepersensor.db"));
        let mut store = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query(sql).execute(&mut store).await.unwrap();
        store.close().await.unwrap();
    }

    /// The value of one line of the scrape, by its name and labels.
    pub(super) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.context.registry.lock()).unwrap();
        let value = text.lines().find_map(|at| at.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0)
    }

    /// Waits for what runs beside the callers.
    pub(super) async fn settle(&self) {
        self.context.tracker.close();
        self.context.tracker.wait().await;
        self.context.tracker.reopen();
    }

    pub(super) async fn stop(self) {
        for room in self.rooms.iter().rev() {
            room.stop().await;
        }
        self.context.tracker.close();
        self.context.tracker.wait().await;
        for actor in [&self.auth.0.actor, &self.auth.0.actor_for_keys] {
            let gate = actor.gate();
            assert_eq!(gate.in_use(), 0, "a permit of {} was lost", gate.name());
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.data_dir);
    }
}

pub(super) fn secret(text: &str) -> Password {
    Password::new(text.to_owned())
}

pub(super) fn is_unavailable<T>(outcome: &Result<T, AuthError>) -> bool {
    matches!(outcome, Err(AuthError::Unavailable(_)))
}

/// Lets runtime time pass without anybody waiting for it.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
