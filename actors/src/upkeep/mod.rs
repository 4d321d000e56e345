//! The upkeep room: what the store needs done while nobody asks for it.
//!
//! ```text
//! index ── every 2 s, at once while there is more ──▶ db room: words of what was said since, for the search
//! purge ── every hour, at once while there is more ─▶ db room: conversations that nobody needs any more go
//! ```
//!
//! # When it breaks
//!
//! Its actors keep nothing: the store itself tells what is left to do, and whoever comes next does it. Without them
//! nothing new is found, and nothing is removed. Several instances share the work.

mod chore;
mod index;
mod purge;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use self::{
    chore::{Chore, ChoreActor},
    index::Index,
    purge::Purge,
};
use crate::{
    db::DbHandle,
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, child_name, child_path, spawn_child},
};

const PATH: &str = "upkeep_sup";

#[derive(Debug, Clone, Default)]
pub struct UpkeepConfig {
    /// How long a conversation is kept in which nothing is said; `None`: for ever.
    pub retention: Option<Duration>,
}

/// Changes how the room works; clones share one room.
#[derive(Clone)]
pub(crate) struct UpkeepHandle(Arc<ArcSwap<UpkeepConfig>>);

impl UpkeepHandle {
    /// Goes by another retention from the next round on.
    pub(crate) fn reconfigure(&self, config: UpkeepConfig) {
        self.0.store(Arc::new(config));
    }
}

/// Makes the room.
pub(crate) fn build(ctx: &RoomContext, config: UpkeepConfig, db: DbHandle) -> (UpkeepHandle, SupervisorSpec) {
    let config = Arc::new(ArcSwap::from_pointee(config));
    let index = child(ctx, {
        let db = db.clone();
        move || Index { db: db.clone() }
    });
    let purge = child(ctx, {
        let (clock, config) = (ctx.clock.clone(), Arc::clone(&config));
        move || Purge::new(db.clone(), clock.clone(), Arc::clone(&config))
    });
    let spec = SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::OneForOne,
        policy: Policy::default(),
        children: Arc::new(vec![index, purge]),
    };
    (UpkeepHandle(config), spec)
}

fn child<C: Chore>(ctx: &RoomContext, make: impl Fn() -> C + Send + Sync + 'static) -> ChildSpec {
    let name = child_name(&ctx.system, &child_path(PATH, C::NAME));
    let closing = ctx.closing.clone();
    ChildSpec::leaf(C::NAME, move |supervisor| {
        let (name, arguments) = (name.clone(), (make(), closing.clone()));
        async move { Ok(spawn_child(&supervisor, name, ChoreActor::<C>::new(), arguments).await?.get_cell()) }
    })
}
