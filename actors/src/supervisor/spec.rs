//! What a supervisor is told: its children in their order, and how patient to be with them.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use ractor::{ActorCell, SpawnErr};
use serde::Serialize;

use super::{SupervisorHandle, spawn_supervisor};
use crate::tree::Tree;

/// The path of the root supervisor; its children's paths do not repeat it.
pub const ROOT: &str = "root";

/// When a child that exited is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    Permanent,
    /// Only after a crash or a kill, not after a normal stop.
    Transient,
    Temporary,
}

/// Which siblings share a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    OneForOne,
    /// Children listed after the one that died are stopped in reverse and started again in order. Children added
    /// at run time are nobody's dependants and stay one-for-one.
    RestForOne,
}

/// Who pays when a child keeps failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Restarts without end; above the intensity it degrades its room.
    Leaf,
    /// Counts against its parent, which fails above the intensity; at the root that ends the process.
    Supervisor,
}

/// How patient a supervisor is.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Restarts allowed in `window`.
    pub max_restarts: usize,
    pub window: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// A child that ran this long starts over with `backoff_min` and is no longer degraded.
    pub healthy_after: Duration,
    /// A leaf asked to stop is killed after this long. A supervisor is waited for: each of its own waits is bounded.
    pub stop_timeout: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_restarts: 5,
            window: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            healthy_after: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// Starts one incarnation of a child linked to the given supervisor and publishes its address.
pub type SpawnFn = Box<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// One child: what it is called and how it comes to life, any number of times.
pub struct ChildSpec {
    /// Unique among its siblings; the last part of its path.
    pub id: String,
    pub kind: Kind,
    pub restart: Restart,
    pub spawn: SpawnFn,
}

impl ChildSpec {
    /// A permanent worker. `spawn` is awaited inside the supervisor, so it must do no I/O; see [`spawn_child`].
    ///
    /// [`spawn_child`]: super::spawn_child
    pub fn leaf<F, Fut>(id: impl Into<String>, spawn: F) -> Self
    where
        F: Fn(ActorCell) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self::new(id, Kind::Leaf, spawn)
    }

    /// A permanent child that supervises others; see [`SupervisorSpec::into_child`].
    pub fn supervisor<F, Fut>(id: impl Into<String>, spawn: F) -> Self
    where
        F: Fn(ActorCell) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self::new(id, Kind::Supervisor, spawn)
    }

    fn new<F, Fut>(id: impl Into<String>, kind: Kind, spawn: F) -> Self
    where
        F: Fn(ActorCell) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        let spawn: SpawnFn = Box::new(move |supervisor| spawn(supervisor).boxed());
        Self { id: id.into(), kind, restart: Restart::Permanent, spawn }
    }

    /// The same child with another rule for its restart.
    #[must_use]
    pub fn with_restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }
}

/// One supervisor and the children it always has, in the order of starting.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Where it stands in the tree, `models_sup` or `models_sup/pool`; see [`child_path`].
    pub path: String,
    pub strategy: Strategy,
    pub policy: Policy,
    /// Shared, so that a restarted supervisor starts the same children.
    pub children: Arc<Vec<ChildSpec>>,
}

impl SupervisorSpec {
    /// Makes this supervisor the child `id` of another; `path` must be the parent's path joined with `id`.
    pub fn into_child(
        self,
        id: impl Into<String>,
        system: &str,
        tree: Tree,
        handle: SupervisorHandle,
    ) -> ChildSpec {
        let system: Arc<str> = system.into();
        ChildSpec::supervisor(id, move |parent| {
            let (system, spec, tree, handle) =
                (Arc::clone(&system), self.clone(), tree.clone(), handle.clone());
            async move { Ok(spawn_supervisor(Some(parent), &system, spec, tree, handle).await?.get_cell()) }
        })
    }
}

/// The path of the child `id` of the supervisor at `parent`.
pub fn child_path(parent: &str, id: &str) -> String {
    if parent == ROOT { id.to_owned() } else { format!("{parent}/{id}") }
}

/// The ractor name of the actor at `path`; names are global to the process, systems are not.
pub fn child_name(system: &str, path: &str) -> String {
    format!("{system}/{path}")
}
