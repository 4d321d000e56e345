//! How the db room is put together.

use std::sync::Arc;

use ractor::factory::{
    Factory, FactoryArguments, queues::DefaultQueue, routing::QueuerRouting, worker_builder,
};

use super::{
    DbConfig, DbHandle,
    lane::{Lane, Unsettled},
    metrics::{self, DbMetrics, Pools},
    replica_watch::ReplicaWatch,
    spill::{ReplayerState, Spill, SpillReplayer},
    store::{self, Keeping, Store, StoreKeeper},
    worker::{DbWorker, ReadMessage, WorkerState},
    writer::{DbWriter, WriterState},
    writing::Writing,
};
use crate::{
    handle::{Gate, Handle, Slot},
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, Watched, child_name, child_path, spawn_child},
    system::StartError,
};
use tokio::sync::Semaphore;

/// Where the room stands in the tree.
pub(super) const PATH: &str = "db_sup";

/// One reader in so many may be busy with a report or a search: sign-ins, keys and history are looked up by the others.
const LONG_READS_SHARE: usize = 2;

/// Opens the store, brings its schema up to date and describes the actors that will serve it.
///
/// # Errors
///
/// [`StartError::Store`]: show it to the operator and end.
pub(crate) async fn build(
    ctx: &RoomContext,
    config: DbConfig,
) -> Result<(DbHandle, SupervisorSpec), StartError> {
    let store = store::open(&config).await?;
    Ok(assemble(ctx, &config, store))
}

/// Describes the actors that serve an open store.
pub(super) fn assemble(
    ctx: &RoomContext,
    config: &DbConfig,
    store: Arc<dyn Store>,
) -> (DbHandle, SupervisorSpec) {
    let metrics = DbMetrics::register(&mut ctx.registry.lock());
    ctx.registry.lock().register_collector(Box::new(Pools(Arc::downgrade(&store))));
    let lane_count = store.write_lanes();
    let is_exclusive = store.is_exclusive();
    let unsettled = Arc::<Unsettled>::default();
    let writing = Writing::new();
    let place = config.exclusive.then(|| config.data_dir.clone());
    let spill = Arc::new(Spill::new(place, config.spill_bytes, metrics.spilled.clone()));
    let lanes: Arc<[_]> = (0..lane_count)
        .map(|_| {
            let gate = Gate::new("db_write", config.lane_capacity);
            ctx.gates.watch(&gate);
            let kept_bytes = config.kept_bytes / lane_count;
            Arc::new(Lane::new(
                gate,
                config.usage_linger,
                kept_bytes,
                Arc::clone(&unsettled),
                writing.clone(),
                Arc::clone(&spill),
                metrics.clone(),
            ))
        })
        .collect();
    let read_gate = Gate::new("db_read", config.read_queue);
    ctx.gates.watch(&read_gate);
    let reads = Handle::new(Slot::new(), read_gate, config.call_timeout);

    // Stopped in reverse: nothing is replayed any more, no more reads, then the lanes run dry, then the store is closed.
    let mut children = vec![store_keeper(ctx, &store)];
    for (number, lane) in lanes.iter().enumerate() {
        let state =
            WriterState::new(Arc::clone(lane), Arc::clone(&store), metrics.clone(), config.call_timeout);
        children.push(writer(ctx, number, lane, state));
    }
    let mut workers = config.readers;
    if let Some(replica) = store.replica() {
        metrics::register_replica(&mut ctx.registry.lock(), replica.up());
        children.push(replica_watch(ctx, &store));
        workers *= 2;
    }
    let state = WorkerState { store, metrics: metrics.clone(), limit: config.call_timeout };
    children.push(readers(ctx, workers, state, &reads));
    if config.exclusive {
        children.push(replayer(ctx, &spill, ReplayerState::new(Arc::clone(&spill), Arc::clone(&lanes))));
    }

    let spec = SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::OneForOne,
        // A writer that is asked to stop still has its lane to write.
        policy: Policy { stop_timeout: config.call_timeout * 2, ..Policy::default() },
        children: Arc::new(children),
    };
    let handle = DbHandle {
        reads,
        lanes,
        unsettled,
        writing,
        spill,
        metrics,
        tree: ctx.tree.clone(),
        call_timeout: config.call_timeout,
        is_exclusive,
        long_reads: Arc::new(Semaphore::new((config.readers / LONG_READS_SHARE).max(1))),
    };
    (handle, spec)
}

fn store_keeper(ctx: &RoomContext, store: &Arc<dyn Store>) -> ChildSpec {
    let name = child_name(&ctx.system, &child_path(PATH, "store"));
    let (store, closing) = (Arc::clone(store), ctx.closing.clone());
    ChildSpec::leaf("store", move |supervisor| {
        let (name, store) = (name.clone(), Arc::clone(&store));
        let keeping = Keeping::new(Arc::clone(&store), closing.clone());
        async move {
            let keeper = spawn_child(&supervisor, name, StoreKeeper, keeping).await?;
            if let Some(door) = store.door() {
                door.bell().publish(keeper.clone());
            }
            Ok(keeper.get_cell())
        }
    })
}

fn writer(ctx: &RoomContext, number: usize, lane: &Arc<Lane>, state: WriterState) -> ChildSpec {
    let id = format!("writer-{number}");
    let name = child_name(&ctx.system, &child_path(PATH, &id));
    let lane = Arc::clone(lane);
    ChildSpec::leaf(id, move |supervisor| {
        let (name, lane, state) = (name.clone(), Arc::clone(&lane), state.clone());
        async move {
            let writer = spawn_child(&supervisor, name, DbWriter, state).await?;
            lane.bell().publish(writer.clone());
            Ok(writer.get_cell())
        }
    })
}

fn replica_watch(ctx: &RoomContext, store: &Arc<dyn Store>) -> ChildSpec {
    let id = "replica";
    let name = child_name(&ctx.system, &child_path(PATH, id));
    let store = Arc::clone(store);
    ChildSpec::leaf(id, move |supervisor| {
        let (name, store) = (name.clone(), Arc::clone(&store));
        async move { Ok(spawn_child(&supervisor, name, ReplicaWatch, store).await?.get_cell()) }
    })
}

fn replayer(ctx: &RoomContext, spill: &Arc<Spill>, state: ReplayerState) -> ChildSpec {
    let id = "spill";
    let name = child_name(&ctx.system, &child_path(PATH, id));
    let spill = Arc::clone(spill);
    ChildSpec::leaf(id, move |supervisor| {
        let (name, spill, state) = (name.clone(), Arc::clone(&spill), state.clone());
        async move {
            let replayer = spawn_child(&supervisor, name, SpillReplayer, state).await?;
            spill.bell().publish(replayer.clone());
            Ok(replayer.get_cell())
        }
    })
}

fn readers(ctx: &RoomContext, count: usize, state: WorkerState, reads: &super::Reads) -> ChildSpec {
    let path = child_path(PATH, "readers");
    let name = child_name(&ctx.system, &path);
    let (tree, slot) = (ctx.tree.clone(), reads.slot().clone());
    ChildSpec::leaf("readers", move |supervisor| {
        let (path, name, tree, slot, state) =
            (path.clone(), name.clone(), tree.clone(), slot.clone(), state.clone());
        async move {
            let build = move |_| (Watched::new(DbWorker, path.clone(), &tree), state.clone());
            let arguments = FactoryArguments::builder()
                .worker_builder(Box::new(worker_builder(build)))
                .num_initial_workers(count.max(1))
                .router(QueuerRouting::<(), ReadMessage>::default())
                .queue(DefaultQueue::<(), ReadMessage>::default())
                .build();
            let factory = spawn_child(&supervisor, name, Factory::default(), arguments).await?;
            slot.publish(factory.clone());
            Ok(factory.get_cell())
        }
    })
}
