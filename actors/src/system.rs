//! The supervision tree: one list, top to bottom, in the order of starting. Stopping goes the other way.
//!
//! # When it breaks
//!
//! A leaf restarts without end; above its room's intensity the room is degraded and says so. Only supervisors' failures
//! count against the root: when it gives up, [`System::failed`] resolves and the process ends, so that whatever started
//! it can start it anew.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout_at};

use crate::{
    auth::{self, AuthConfig, AuthHandle},
    clock::Clock,
    db::{self, DbConfig, DbHandle},
    model::{self, ModelConfig, ModelHandle, PreparedModels},
    ops::{self, OpsError, OpsHandle},
    password::{self, PasswordConfig},
    rate_limit::{self, RateLimitConfig, RateLimitHandle},
    relay::{self, RelayConfig, RelayHandle},
    room::RoomContext,
    supervisor::{Policy, ROOT, Root, SupervisorHandle},
    tree::NewsKind,
    upkeep::{self, UpkeepConfig, UpkeepHandle},
};

/// How long running turns may take to notice that they must end, when the system stops: each looks at every wake.
const HALT_PATIENCE: Duration = Duration::from_millis(500);

/// How long the ends of turns may take to be stored when nothing else is left to wait for. The database has had all the
/// time since they ended.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// How long the rooms may take to stop when nothing of value is left in them.
const ROOMS_PATIENCE: Duration = Duration::from_millis(500);

/// The least that [`System::stop_within`] needs.
pub const STOP_PATIENCE: Duration =
    HALT_PATIENCE.saturating_add(SETTLE_PATIENCE).saturating_add(ROOMS_PATIENCE);

/// What [`System::stop`] waits for at most.
const CALM_STOP: Duration = Duration::from_secs(10);

/// How long tasks outside actors may take to finish, when a verb beside the service ends.
pub(crate) const TASK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct SystemConfig {
    pub db: DbConfig,
    pub auth: AuthConfig,
    pub password: PasswordConfig,
    pub rate_limit: RateLimitConfig,
    pub model: ModelConfig,
    pub relay: RelayConfig,
    pub upkeep: UpkeepConfig,
}

/// Settings that were judged, and only have to be put in force.
pub struct PreparedSystem {
    auth: AuthConfig,
    rate_limit: RateLimitConfig,
    models: PreparedModels,
    upkeep: UpkeepConfig,
}

/// A running tree and the handles into it.
pub struct System {
    pub db: DbHandle,
    pub auth: AuthHandle,
    pub limits: RateLimitHandle,
    pub models: ModelHandle,
    pub relay: RelayHandle,
    pub ops: OpsHandle,
    pub registry: Arc<Mutex<Registry>>,
    upkeep: UpkeepHandle,
    context: RoomContext,
    root: Root,
    /// The supervisor of each room, by its path.
    rooms: Vec<(String, SupervisorHandle)>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store cannot be opened: {0}")]
    Store(String),
    #[error("bad configuration: {0}")]
    Config(String),
    #[error("an actor did not start: {0}")]
    Actor(String),
}

impl System {
    /// Migrates the store, starts every room in dependency order and returns when all of them answer and
    /// [`OpsHandle::readiness`] is true to it; a dependency that stays silent delays this by some seconds only.
    ///
    /// `name` prefixes every actor's name; two systems in one process need two names.
    ///
    /// # Errors
    ///
    /// Nothing is left running.
    pub async fn start(name: &str, config: SystemConfig, clock: Clock) -> Result<Self, StartError> {
        let context = RoomContext::new(name, clock);

        // Durable state; opening it runs the migrations.
        let (db, db_sup) = db::build(&context, config.db).await?;
        // argon2id, bounded.
        let (passwords, password_sup) = password::build(&context, config.password)?;
        // May they spend one more request, or guess one more password.
        let (limits, limits_sup) = rate_limit::build(&context, config.rate_limit).await?;
        // Who is asking.
        let (auth, auth_sup) = auth::build(&context, config.auth, db.clone(), passwords, limits.clone())?;
        // What they ask of the models.
        let models = model::build(&context, config.model, db.clone(), limits.clone())?;
        // The same of other instances, and they of us.
        let (relay, relay_sup) = relay::build(&context, config.relay, models.handle.world())?;
        // What nobody asks for, and has to be done.
        let (upkeep, upkeep_sup) = upkeep::build(&context, config.upkeep, db.clone());
        // What operators ask of us; readiness comes last.
        let (ops, ops_sup) = ops::build(&context, db.clone(), models.handle.clone(), limits.clone());

        let rooms = [
            (db_sup, SupervisorHandle::new()),
            (password_sup, SupervisorHandle::new()),
            (limits_sup, SupervisorHandle::new()),
            (auth_sup, SupervisorHandle::new()),
            (models.spec, models.supervisor),
            (relay_sup, SupervisorHandle::new()),
            (upkeep_sup, SupervisorHandle::new()),
            (ops_sup, SupervisorHandle::new()),
        ];
        let children = rooms
            .iter()
            .map(|(spec, handle)| {
                context.gates.watch(handle.gate());
                spec.clone().into_child(spec.path.clone(), name, context.tree.clone(), handle.clone())
            })
            .collect();
        let rooms = rooms.into_iter().map(|(spec, handle)| (spec.path, handle)).collect();
        let root = Root::start(name, Policy::default(), children, context.tree.clone())
            .await
            .map_err(|error| StartError::Actor(error.to_string()))?;
        let registry = context.registry.clone();
        let system = Self {
            db,
            auth,
            limits,
            models: models.handle,
            relay,
            ops,
            registry,
            upkeep,
            context,
            root,
            rooms,
        };
        // Nobody can sign in before there is a key to sign with.
        if let Err(error) = system.auth.open_keys().await {
            system.stop().await;
            return Err(error);
        }
        // Together: two silent dependencies delay the start no longer than one.
        tokio::join!(system.models.first_catalogue(), system.ops.database_heard());
        // Its last look may be older than the catalogue.
        system.ops.look().await;
        Ok(system)
    }

    /// The clock that all rooms go by.
    pub fn clock(&self) -> &Clock {
        &self.context.clock
    }

    /// Makes ready what [`System::reconfigure`] puts in force.
    ///
    /// # Errors
    ///
    /// [`StartError::Config`]: nothing has changed.
    pub fn prepare(&self, config: SystemConfig) -> Result<PreparedSystem, StartError> {
        let SystemConfig { auth, rate_limit, model, upkeep, .. } = config;
        let models = self.models.prepare(model).map_err(|error| StartError::Config(error.to_string()))?;
        Ok(PreparedSystem { auth, rate_limit, models, upkeep })
    }

    /// Puts other settings in force, as far as they can change while the rooms live; each room says which.
    pub fn reconfigure(&self, PreparedSystem { auth, rate_limit, models, upkeep }: PreparedSystem) {
        self.auth.reconfigure(&auth);
        self.limits.reconfigure(&rate_limit);
        self.models.reconfigure(models);
        self.upkeep.reconfigure(upkeep);
    }

    /// Resolves, with the cause, when the tree gave itself up: the process should then end with status 1.
    pub async fn failed(&self) -> String {
        self.root.failed().await
    }

    /// Kills the leaf at this path of the tree, which its supervisor restarts as after any crash: for one that is stuck, and
    /// for drills. Says whether there was one.
    ///
    /// Rooms themselves are spared: the root ends the process when they fail too often.
    ///
    /// # Errors
    ///
    /// [`OpsError`]: ask again.
    pub async fn kill_actor(&self, path: &str) -> Result<bool, OpsError> {
        let within = |room: &str| path.strip_prefix(room)?.strip_prefix('/');
        let found = self.rooms.iter().find_map(|(room, supervisor)| Some((supervisor, within(room)?)));
        match found {
            Some((supervisor, id)) => supervisor.kill(id).await.map_err(|_| OpsError),
            None => Ok(false),
        }
    }

    /// From now on the service is not ready and no turn waits: those in queues end as `server_shutting_down`, and a new
    /// one is served if a slot is free for it now, else refused. Running ones keep going.
    pub fn begin_shutdown(&self) {
        if !self.context.closing.is_cancelled() {
            self.context.tree.news().tell(NewsKind::Stopping, ROOT, "the service stops".to_owned());
        }
        self.context.closing.cancel();
        self.models.stop_waiting();
    }

    /// Resolves when no turn runs, watched by a client or not. It stays so after [`System::begin_shutdown`], once no client is
    /// served any more.
    pub async fn turns_ended(&self) {
        self.models.all_slots_free().await;
    }

    /// Ends the turns that still run as `server_shutting_down`, keeping their text; their readers are told.
    pub async fn end_turns(&self) {
        self.models.halt(HALT_PATIENCE).await;
    }

    /// As [`System::stop_within`], for those who are in no hurry.
    pub async fn stop(self) {
        self.stop_within(CALM_STOP).await;
    }

    /// Ends what still runs as `server_shutting_down`, waits until what turns left is stored, and stops the rooms in
    /// reverse order: models first, the db last. Never takes longer than `patience`, which is [`STOP_PATIENCE`] at least:
    /// whatever hangs is left behind. What the database does not take goes to the disk for the next start; how much that is,
    /// and how much is lost because the disk did not take it either, is told in the log.
    pub async fn stop_within(self, patience: Duration) {
        let by = Instant::now() + patience;
        let Self { db, root, context, .. } = &self;
        self.begin_shutdown();
        self.end_turns().await;
        let lost = db.lost_settlements();
        // Before the rooms, so that one that hangs cannot keep back what turns left.
        db.settled(by - ROOMS_PATIENCE).await;
        // Whoever reads elsewhere has been told how the turns ended.
        self.relay.halt();
        let stopped = timeout_at(by, async {
            root.stop().await;
            context.tracker.close();
            context.tracker.wait().await;
        });
        if stopped.await.is_err() {
            tracing::warn!(tasks = context.tracker.len(), "actors or tasks were still running at the end");
        }
        let spilled = db.spilled();
        if spilled > 0 {
            tracing::warn!(
                turns = spilled,
                "the ends of turns are on the disk, for the next start on this data directory"
            );
        }
        let unstored = db.lost_settlements() - lost + db.unsettled() as u64;
        if unstored > 0 {
            tracing::error!(turns = unstored, "the ends of turns could not be stored");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        clock::fresh_id,
        model::{UpstreamConfig, UpstreamKind},
    };

    /// A whole system on SQLite with the built-in model.
    pub(crate) fn config(data_dir: &Path) -> SystemConfig {
        let demo = UpstreamConfig::new("demo", UpstreamKind::Demo);
        SystemConfig {
            db: DbConfig::new(data_dir.to_path_buf()),
            auth: AuthConfig::new(data_dir.to_path_buf()),
            password: PasswordConfig { workers: Some(1), ..PasswordConfig::default() },
            rate_limit: RateLimitConfig::new(60, 20),
            model: ModelConfig { upstreams: vec![demo], ..ModelConfig::default() },
            relay: RelayConfig::new(None),
            upkeep: UpkeepConfig::default(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_system_that_has_started_is_ready_and_shows_all_its_gates_at_once() {
        let data_dir = std::env::temp_dir().join(format!("deepersensor-system-{}", fresh_id::<uuid::Uuid>()));
        let system = System::start("at-once", config(&data_dir), Clock::system()).await.unwrap();
        let seen = system.ops.readiness();
        assert!(seen.ready && seen.checks.iter().all(|check| check.ok), "{seen:?}");
        let tree = system.ops.tree().await.unwrap();
        let gates: Vec<_> =
            tree["gates"].as_array().unwrap().iter().map(|gate| gate["name"].as_str().unwrap()).collect();
        assert!(gates.contains(&"supervisor"), "{gates:?}");
        system.stop().await;
        std::fs::remove_dir_all(data_dir).unwrap();
    }
}
