//! Children added and removed at run time.

use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn ensuring_a_child_twice_starts_it_once() {
    let stage = Stage::new("ensure_twice");
    let a = stage.puppet("a");
    let handle = stage.supervise(Strategy::OneForOne, &[]).await;
    handle.ensure(stage.spec("sup", &a)).await.unwrap();
    let first = a.slot.load().unwrap().get_id();
    handle.ensure(stage.spec("sup", &a)).await.unwrap();
    assert_eq!(stage.journal(), ["start a"]);
    assert_eq!(a.slot.load().unwrap().get_id(), first);
    assert_eq!(handle.lasting.added.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn ensuring_a_child_of_the_list_changes_nothing() {
    let stage = Stage::new("ensure_listed");
    let a = stage.puppet("a");
    let handle = stage.supervise(Strategy::OneForOne, &[&a]).await;
    handle.ensure(stage.spec("sup", &a)).await.unwrap();
    handle.remove("a").await.unwrap();
    assert_eq!(stage.journal(), ["start a"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_crashes_forever_never_costs_another_its_life() {
    let stage = Stage::new("own_budget");
    let [good, bad] = ["good", "bad"].map(|id| stage.puppet(id));
    let handle = stage.supervise(Strategy::OneForOne, &[]).await;
    handle.ensure(stage.spec("sup", &good)).await.unwrap();
    handle.ensure(stage.spec("sup", &bad)).await.unwrap();
    let supervisor = handle.slot().load().unwrap().get_id();
    for crash in 1..=50 {
        bad.order(Order::Panic);
        stage.noted("start bad", 1 + crash).await;
    }
    handle.barrier().await.unwrap();
    assert!(stage.tree.is_degraded("sup/bad") && !stage.tree.is_degraded("sup/good"));
    assert_eq!(stage.count("start good"), 1);
    assert_eq!(handle.slot().load().unwrap().get_id(), supervisor);
}

#[tokio::test(start_paused = true)]
async fn the_pending_respawn_of_a_removed_child_is_void() {
    let stage = Stage::new("void_removed");
    let a = stage.puppet("a");
    let handle = stage.supervise(Strategy::OneForOne, &[]).await;
    handle.ensure(stage.spec("sup", &a)).await.unwrap();
    a.order(Order::Panic);
    let _ = a.slot.load().unwrap().wait(None).await;
    handle.remove("a").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    handle.barrier().await.unwrap();
    assert_eq!(stage.journal(), ["start a"]);
    assert!(stage.node("sup/a").is_none() && handle.lasting.added.lock().is_empty());
    handle.remove("a").await.unwrap(); // idempotent
}

#[tokio::test(start_paused = true)]
async fn a_removed_child_does_not_come_back_with_its_restarted_supervisor_and_the_others_do() {
    let stage = Stage::new("brought_back");
    let [listed, kept, gone] = ["listed", "kept", "gone"].map(|id| stage.puppet(id));
    let handle = SupervisorHandle::new();
    let spec = stage.supervisor("sup", Strategy::OneForOne, vec![stage.spec("sup", &listed)]);
    let child = spec.into_child("sup", stage.system, stage.tree.clone(), handle.clone());
    let root = Root::start(stage.system, Policy::default(), vec![child], stage.tree.clone()).await.unwrap();
    handle.ensure(stage.spec("sup", &kept)).await.unwrap();
    handle.ensure(stage.spec("sup", &gone)).await.unwrap();
    handle.remove("gone").await.unwrap();

    kept.bad_starts.store(2, Ordering::Release); // it keeps trying, and costs the supervisor nothing
    handle.slot().load().unwrap().kill();
    stage.noted("start listed", 2).await;
    stage.noted("start kept", 2).await;
    handle.barrier().await.unwrap();
    assert_eq!(stage.count("start gone"), 1);
    let node = stage.node("sup").unwrap();
    assert_eq!((node.restarts, node.last_exit.unwrap().cause.as_str()), (1, "killed"));
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_slow_to_leave_is_killed_in_time_and_holds_up_nobody() {
    let stage = Stage::new("slow_leaver");
    let [slow, other] = ["slow", "other"].map(|id| stage.puppet(id));
    let handle = stage.supervise(Strategy::OneForOne, &[]).await;
    handle.ensure(stage.spec("sup", &slow)).await.unwrap();
    handle.ensure(stage.spec("sup", &other)).await.unwrap();
    slow.order(Order::Hang);
    stage.noted("hang slow", 1).await;

    let asked = Instant::now();
    let others = async {
        other.order(Order::Panic);
        stage.noted("start other", 2).await;
        asked.elapsed()
    };
    let (removed, others) = tokio::join!(handle.remove("slow"), others);
    removed.unwrap();
    assert!(others < Duration::from_secs(1), "the other waited {others:?}");
    let waited = asked.elapsed();
    let limit = Policy::default().stop_timeout;
    assert!((limit..limit + Duration::from_millis(100)).contains(&waited), "waited {waited:?}");
    assert!(stage.node("sup/slow").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_child_wanted_again_while_it_leaves_is_started_when_it_has_left() {
    let stage = Stage::new("wanted_again");
    let a = stage.puppet("a");
    let handle = stage.supervise(Strategy::OneForOne, &[]).await;
    handle.ensure(stage.spec("sup", &a)).await.unwrap();
    a.order(Order::Hang);
    stage.noted("hang a", 1).await;
    let (removed, ensured) = tokio::join!(biased; handle.remove("a"), handle.ensure(stage.spec("sup", &a)));
    assert_eq!((removed, ensured), (Ok(()), Ok(())));
    stage.noted("start a", 2).await;
    handle.barrier().await.unwrap();
    assert!(stage.node("sup/a").unwrap().actor_id.is_some());
    assert_eq!(handle.lasting.added.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_supervisor_starts_what_was_wanted_last_and_shows_nothing_else() {
    let stage = Stage::new("wanted_last");
    let [again, gone, picky, last] = ["again", "gone", "picky", "last"].map(|id| stage.puppet(id));
    let handle = SupervisorHandle::new();
    let child = stage.supervisor("sup", Strategy::OneForOne, vec![]).into_child(
        "sup",
        stage.system,
        stage.tree.clone(),
        handle.clone(),
    );
    let root = Root::start(stage.system, Policy::default(), vec![child], stage.tree.clone()).await.unwrap();
    for puppet in [&again, &gone] {
        handle.ensure(stage.spec("sup", puppet)).await.unwrap();
        puppet.order(Order::Hang);
        stage.noted(&format!("hang {}", puppet.id), 1).await;
    }
    let temporary = stage.spec("sup", &picky).with_restart(Restart::Temporary);
    handle.ensure(temporary).await.unwrap();
    handle.ensure(stage.spec("sup", &last)).await.unwrap();

    // Both are on their way out, one is wanted again, and the supervisor dies before either has left.
    picky.bad_starts.store(1, Ordering::Release);
    let supervisor = handle.slot().load().unwrap();
    let die = async {
        handle.barrier().await.unwrap();
        supervisor.kill();
    };
    let (first, second, third, ()) = tokio::join!(
        biased;
        handle.remove("again"),
        handle.remove("gone"),
        handle.ensure(stage.spec("sup", &again)),
        die
    );
    assert!(first.is_err() && second.is_err() && third.is_ok(), "{first:?} {second:?} {third:?}");
    stage.noted("start again", 2).await;
    stage.noted("start last", 2).await;
    handle.barrier().await.unwrap();
    let shown: Vec<_> = stage.tree.snapshot().into_iter().map(|node| node.path).collect();
    assert_eq!(shown, ["root", "sup", "sup/again", "sup/last"]);
    assert_eq!((stage.count("start gone"), stage.count("refuse picky")), (1, 1));
    root.stop().await;
}
