use std::time::Duration;

use futures_util::FutureExt;
use prometheus_client::{encoding::text::encode, registry::Registry};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::oneshot;

use super::*;
use crate::supervisor::{ChildSpec, Policy, Root, child_name, spawn_child};
use crate::tree::Tree;

const LIMIT: Duration = Duration::from_millis(50);

struct Echo;

enum EchoMessage {
    Say(u32, RpcReplyPort<u32>, Permit),
    /// Waits until the sender is dropped or sends.
    Wait(oneshot::Receiver<()>, RpcReplyPort<u32>, Permit),
    Crash(Permit),
}

impl Actor for Echo {
    type Msg = EchoMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<EchoMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<EchoMessage>,
        message: EchoMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EchoMessage::Say(word, reply, _permit) => {
                let _ = reply.send(word);
            }
            EchoMessage::Wait(until, reply, _permit) => {
                let _ = until.await;
                let _ = reply.send(0);
            }
            EchoMessage::Crash(_permit) => return Err("told to crash".into()),
        }
        Ok(())
    }
}

async fn echo(system: &'static str, capacity: usize) -> (Root, Handle<EchoMessage>) {
    let handle = Handle::new(Slot::new(), Gate::new("echo", capacity), LIMIT);
    let slot = handle.slot().clone();
    let child = ChildSpec::leaf("echo", move |supervisor| {
        let slot = slot.clone();
        async move {
            let actor = spawn_child(&supervisor, child_name(system, "echo"), Echo, ()).await?;
            slot.publish(actor.clone());
            Ok(actor.get_cell())
        }
    });
    let root = Root::start(system, Policy::default(), vec![child], Tree::new()).await.unwrap();
    (root, handle)
}

impl Handle<EchoMessage> {
    async fn say(&self, word: u32) -> Result<u32, AskError> {
        self.ask(|permit, reply| EchoMessage::Say(word, reply, permit)).await
    }

    async fn wait(&self, until: oneshot::Receiver<()>) -> Result<u32, AskError> {
        self.ask(|permit, reply| EchoMessage::Wait(until, reply, permit)).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_back_and_so_does_the_permit() {
    let (_root, handle) = echo("handle_answer", 1).await;
    for word in 0..10 {
        assert_eq!(handle.say(word).await, Ok(word));
    }
    assert_eq!((handle.gate().in_use(), handle.gate().refused()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn abandoned_calls_still_count() {
    let (_root, handle) = echo("handle_abandoned", 2).await;
    let (release, until) = oneshot::channel();
    assert_eq!(handle.wait(until).await, Err(AskError::Timeout)); // still being handled
    assert_eq!(handle.say(1).await, Err(AskError::Timeout)); // queued behind it
    assert_eq!(handle.say(2).await, Err(AskError::Overloaded)); // refused, not queued
    assert_eq!((handle.gate().in_use(), handle.gate().refused()), (2, 1));
    release.send(()).unwrap();
    assert_eq!(handle.say(3).await, Err(AskError::Overloaded), "nothing has been handled yet");
    tokio::time::sleep(LIMIT).await;
    assert_eq!(handle.say(4).await, Ok(4));
    assert_eq!(handle.gate().in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_make_room_that_is_not_there() {
    let (_root, handle) = echo("handle_gone", 1).await;
    let (release, until) = oneshot::channel();
    assert!(handle.wait(until).now_or_never().is_none());
    assert_eq!(handle.say(1).await, Err(AskError::Overloaded));
    drop(release);
    tokio::time::sleep(LIMIT).await;
    assert_eq!(handle.say(2).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_killed_actor_dies_and_gives_its_permit_back() {
    let (_root, handle) = echo("handle_killed", 2).await;
    let (_release, until) = oneshot::channel();
    let actor = handle.slot().load().unwrap();
    let kill = async { actor.kill() };
    let (asked, queued, ()) = tokio::join!(biased; handle.wait(until), handle.say(1), kill);
    assert_eq!((asked, queued), (Err(AskError::Died), Err(AskError::Died)));
    assert_eq!(handle.gate().in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handle_reaches_the_restarted_actor() {
    let (root, handle) = echo("handle_restarted", 4).await;
    let first = handle.slot().load().unwrap();
    handle.tell(EchoMessage::Crash).unwrap();
    first.wait(None).await.unwrap();
    assert_eq!(handle.say(1).await, Err(AskError::Down));
    assert!(matches!(handle.tell(EchoMessage::Crash), Err(AskError::Down)));
    tokio::time::sleep(Policy::default().backoff_min).await;
    root.handle().barrier().await.unwrap();
    assert_eq!(handle.say(2).await, Ok(2));
    assert_ne!(handle.slot().load().unwrap().get_id(), first.get_id());
    assert_eq!(handle.gate().in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_at_the_address_is_down() {
    let handle = Handle::<EchoMessage>::new(Slot::new(), Gate::new("nobody", 1), LIMIT);
    assert_eq!(handle.say(1).await, Err(AskError::Down));
    assert_eq!(handle.gate().in_use(), 0);
}

#[test]
fn gates_are_scraped_as_the_sum_of_those_of_one_name() {
    let (gates, mut registry) = (GateCollector::new(), Registry::default());
    registry.register_collector(Box::new(gates.clone()));
    let (shards, other) = ([Gate::new("shard", 2), Gate::new("shard", 3)], Gate::new("other", 1));
    shards.iter().chain([&other]).for_each(|gate| gates.watch(gate));
    let _held = (shards[0].try_enter(), shards[1].try_enter(), other.try_enter());
    assert!(other.try_enter().is_none());

    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        r#"deepersensor_gate_in_use{gate="shard"} 2"#,
        r#"deepersensor_gate_capacity{gate="shard"} 5"#,
        r#"deepersensor_gate_refused_total{gate="shard"} 0"#,
        r#"deepersensor_gate_refused_total{gate="other"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}
