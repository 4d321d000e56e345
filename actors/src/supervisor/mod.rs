//! Supervision: who starts whom, in which order, and what happens when one dies.
//!
//! ```text
//! exit ─▶ whose? ─▶ restart wanted? ── no ──▶ stays down
//!                        │ yes
//!                        ├─ leaf:       above the intensity it is *degraded*, and restarts all the same
//!                        ├─ supervisor: above the intensity its parent stops its children and fails in turn
//!                        └─ Respawn after a backoff, void if the child was stopped or started meanwhile (epoch)
//! ```
//!
//! Children are spawned inside the supervisor, so their `pre_start` must do no I/O; it is bounded all the same.
//! Each exit is logged and counted once, in `exit`. Panics reach it with their place, by [`spawn_child`].
//!
//! # When it breaks
//!
//! ractor kills the children of a supervisor that dies. Its parent starts it again with the same children,
//! including those added at run time, whose list lives in the [`SupervisorHandle`]. Only the first start fails if
//! a child does not come up; later ones keep trying. A root that gives up is seen by [`Root::failed`], and the
//! process should end so that the layer above can start it afresh.

mod actor;
pub(crate) mod budget;
mod children;
pub(crate) mod exit;
mod handle;
mod panics;
mod restart;
mod root;
mod spawn;
mod spec;
mod start;
mod stop;
mod story;
#[cfg(test)]
mod tests;
mod worker;

pub use self::{
    actor::{SupervisorMessage, spawn_supervisor},
    exit::Decision,
    handle::SupervisorHandle,
    panics::{caught, silence_panic_hook},
    root::Root,
    spawn::spawn_child,
    spec::{
        ChildSpec, Kind, Policy, ROOT, Restart, SpawnFn, Strategy, SupervisorSpec, child_name, child_path,
    },
    worker::Watched,
};
