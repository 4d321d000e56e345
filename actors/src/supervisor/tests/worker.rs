//! A factory's workers in the tree.

use ractor::factory::{
    Factory, FactoryArguments, FactoryMessage, Job, JobOptions, WorkerId, queues::DefaultQueue,
    routing::QueuerRouting, worker_builder,
};

use super::*;
use crate::{
    handle::{AskError, Gate, Handle, Permit},
    tree::Status,
};

struct Hasher;

struct Work {
    is_poisoned: bool,
    reply: ractor::RpcReplyPort<()>,
    _permit: Permit,
}

impl ractor::factory::Worker for Hasher {
    type Key = ();
    type Message = Work;
    type Arguments = ();
    type State = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), Work>>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), Work>>,
        job: Job<(), Work>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        assert!(!job.msg.is_poisoned, "poisoned");
        let _ = job.msg.reply.send(());
        Ok(())
    }
}

type Pool = Factory<(), Work, (), Watched<Hasher>, QueuerRouting<(), Work>, DefaultQueue<(), Work>>;

async fn hash(handle: &Handle<FactoryMessage<(), Work>>, is_poisoned: bool) -> Result<(), AskError> {
    handle
        .ask(|permit, reply| {
            let msg = Work { is_poisoned, reply, _permit: permit };
            FactoryMessage::Dispatch(Job { key: (), msg, options: JobOptions::default(), accepted: None })
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_factory_worker_that_crashes_is_counted_and_degrades_its_room_until_it_keeps_quiet() {
    let stage = Stage::new("watched");
    let (slot, gate) = (Slot::new(), Gate::new("password", 2));
    let handle = Handle::new(slot.clone(), gate, Duration::from_secs(1));
    let (tree, name) = (stage.tree.clone(), child_name(stage.system, "password"));
    let child = ChildSpec::leaf("password", move |supervisor| {
        let (tree, name, slot) = (tree.clone(), name.clone(), slot.clone());
        async move {
            let builder = worker_builder(move |_| (Watched::new(Hasher, "password", &tree), ()));
            let arguments = FactoryArguments::builder()
                .worker_builder(Box::new(builder))
                .queue(DefaultQueue::default())
                .router(QueuerRouting::default())
                .num_initial_workers(1)
                .build();
            let actor = spawn_child(&supervisor, name, Pool::default(), arguments).await?;
            slot.publish(actor.clone());
            Ok(actor.get_cell())
        }
    });
    let root = Root::start(stage.system, Policy::default(), vec![child], stage.tree.clone()).await.unwrap();
    assert_eq!(hash(&handle, false).await, Ok(()));
    for crash in 1..=6 {
        assert_eq!(hash(&handle, true).await, Err(AskError::Died));
        assert_eq!(hash(&handle, false).await, Ok(()), "the next job has a new worker");
        assert_eq!(stage.tree.is_degraded("password"), crash == 6);
    }
    let worker = stage.node("password/worker-0").unwrap();
    assert_eq!((worker.status, worker.restarts), (Status::Degraded, 6));
    assert!(worker.last_exit.unwrap().cause.starts_with("panicked: poisoned"));
    assert_eq!(stage.node("password").unwrap().restarts, 0);

    tokio::time::sleep(Policy::default().healthy_after).await;
    assert!(!stage.tree.is_degraded("password"));
    assert_eq!(stage.node("password/worker-0").unwrap().status, Status::Running);
    root.stop().await;
    assert_eq!(stage.node("password/worker-0").unwrap().status, Status::Stopped);
    assert_eq!(handle.gate().in_use(), 0);
}
