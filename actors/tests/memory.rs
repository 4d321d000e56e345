//! Memory under a flood. Its own binary, because resident memory belongs to the process.

use std::{fs, time::Duration};

use actors::{
    handle::{AskError, Gate, Handle, Permit, Slot},
    supervisor::{ChildSpec, Policy, Root, spawn_child},
    tree::Tree,
};
use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::watch;

const CALLS: usize = 50_000;
const CALL_BYTES: usize = 4 * 1_024;
const PLACES: usize = 204;
/// What the flood may cost: the messages that are let in and the allocator's slack, of 200 MB sent.
const ALLOWED_BYTES: usize = 4 * 1_024 * 1_024;

/// Handles nothing until it is let go.
struct Halted(watch::Receiver<bool>);

struct Load {
    body: Vec<u8>,
    reply: RpcReplyPort<usize>,
    _permit: Permit,
}

impl Actor for Halted {
    type Msg = Load;
    type State = watch::Receiver<bool>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Load>,
        (): (),
    ) -> Result<watch::Receiver<bool>, ActorProcessingErr> {
        Ok(self.0.clone())
    }

    async fn handle(
        &self,
        _: ActorRef<Load>,
        load: Load,
        go: &mut watch::Receiver<bool>,
    ) -> Result<(), ActorProcessingErr> {
        go.wait_for(|go| *go).await?;
        let _ = load.reply.send(load.body.len());
        Ok(())
    }
}

fn resident_bytes() -> Option<usize> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4_096)
}

/// One call whose caller leaves at once; `None` if it was let in.
fn call_and_leave(handle: &Handle<Load>) -> Option<Result<usize, AskError>> {
    handle.ask(|permit, reply| Load { body: vec![1; CALL_BYTES], reply, _permit: permit }).now_or_never()
}

#[tokio::test]
async fn d2_a_flood_of_a_halted_or_dead_actor_leaves_memory_flat_and_every_permit_back() {
    let (go, halted) = watch::channel(false);
    let handle = Handle::new(Slot::new(), Gate::new("halted", PLACES), Duration::from_secs(30));
    let slot = handle.slot().clone();
    let child = ChildSpec::leaf("halted", move |supervisor| {
        let (slot, halted) = (slot.clone(), halted.clone());
        async move {
            let actor = spawn_child(&supervisor, "memory/halted".into(), Halted(halted), ()).await?;
            slot.publish(actor.clone());
            Ok(actor.get_cell())
        }
    });
    let root = Root::start("memory", Policy::default(), vec![child], Tree::new()).await.unwrap();

    let before = resident_bytes().unwrap();
    let outcomes: Vec<_> = (0..CALLS).map(|_| call_and_leave(&handle)).collect();
    let grown = resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < ALLOWED_BYTES, "a halted actor's mailbox grew by {grown} bytes");
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_none()).count(), PLACES);
    assert_eq!(handle.gate().refused(), (CALLS - PLACES) as u64);
    assert_eq!(handle.gate().in_use(), PLACES, "callers that left still count");

    go.send(true).unwrap();
    // Mailboxes are in order: when a call that fits is answered, those before it are gone.
    let answered = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let call = |permit, reply| Load { body: vec![], reply, _permit: permit };
            match handle.ask(call).await {
                Err(AskError::Overloaded) => tokio::task::yield_now().await,
                answer => break answer,
            }
        }
    });
    assert_eq!(answered.await.unwrap(), Ok(0));
    assert_eq!(handle.gate().in_use(), 0);

    root.stop().await;
    let before = resident_bytes().unwrap();
    for _ in 0..CALLS {
        assert_eq!(call_and_leave(&handle), Some(Err(AskError::Down)));
    }
    let grown = resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < ALLOWED_BYTES, "calls to a dead actor cost {grown} bytes");
    assert_eq!(handle.gate().in_use(), 0);
}
