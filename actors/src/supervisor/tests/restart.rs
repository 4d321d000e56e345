//! Who is started again, when, and who with it.

use tokio::time::{Instant, sleep};

use super::*;
use crate::tree::Status;

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_only_the_child_that_crashed() {
    let stage = Stage::new("one_for_one");
    let [a, b, c] = ["a", "b", "c"].map(|id| stage.puppet(id));
    stage.supervise(Strategy::OneForOne, &[&a, &b, &c]).await;
    b.order(Order::Panic);
    stage.noted("start b", 2).await;
    b.order(Order::Fail);
    stage.noted("start b", 3).await;
    assert_eq!(stage.journal(), ["start a", "start b", "start c", "start b", "start b"]);
    assert_eq!(stage.node("sup/b").unwrap().restarts, 2);
    assert_eq!(stage.node("sup/a").unwrap().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_stops_later_siblings_in_reverse_and_starts_them_in_order() {
    let stage = Stage::new("rest_for_one");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| stage.puppet(id));
    stage.supervise(Strategy::RestForOne, &[&a, &b, &c, &d]).await;
    b.order(Order::Panic);
    stage.noted("start d", 2).await;
    let after = &stage.journal()[4..];
    assert_eq!(after, ["stop d", "stop c", "start b", "start c", "start d"]);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_goes_on_from_the_sibling_that_did_not_come_up() {
    let stage = Stage::new("rest_for_one_gap");
    let [a, b, c] = ["a", "b", "c"].map(|id| stage.puppet(id));
    stage.supervise(Strategy::RestForOne, &[&a, &b, &c]).await;
    b.bad_starts.store(2, Ordering::Release);
    a.order(Order::Panic);
    stage.noted("start c", 2).await;
    let after = &stage.journal()[3..];
    assert_eq!(after, ["stop c", "stop b", "start a", "refuse b", "refuse b", "start b", "start c"]);
}

#[tokio::test(start_paused = true)]
async fn the_pending_respawn_of_a_sibling_that_was_restarted_is_void() {
    let stage = Stage::new("void_respawn");
    let [a, b] = ["a", "b"].map(|id| stage.puppet(id));
    let handle = stage.supervise(Strategy::RestForOne, &[&a, &b]).await;
    for restarts in 1..4 {
        b.order(Order::Panic);
        stage.noted("start b", 1 + restarts).await;
    }
    b.order(Order::Panic); // its own respawn is now 800 ms away
    a.order(Order::Panic); // that of `a` 100 ms
    stage.noted("start b", 5).await;
    let before = stage.journal();
    sleep(Duration::from_secs(20)).await;
    handle.barrier().await.unwrap();
    assert_eq!(stage.journal(), before, "nobody was started twice");
}

#[tokio::test(start_paused = true)]
async fn a_child_is_not_started_before_the_earlier_sibling_it_depends_on() {
    let stage = Stage::new("dependency_down");
    let [a, b] = ["a", "b"].map(|id| stage.puppet(id));
    stage.supervise(Strategy::RestForOne, &[&a, &b]).await;
    a.bad_starts.store(3, Ordering::Release);
    a.order(Order::Panic); // comes back in 100 + 200 + 400 + 800 ms
    b.order(Order::Panic); // would in 100 ms
    stage.noted("start b", 2).await;
    assert_eq!(stage.journal()[2..], ["refuse a", "refuse a", "refuse a", "start a", "start b"]);
}

#[tokio::test(start_paused = true)]
async fn the_backoff_grows_with_each_crash_and_starts_over_after_health() {
    let stage = Stage::new("backoff");
    let a = stage.puppet("a");
    stage.supervise(Strategy::OneForOne, &[&a]).await;
    let mut starts = 1;
    for (rest_seconds, backoff_ms) in [(0, 100), (0, 200), (0, 400), (29, 800), (30, 100)] {
        sleep(Duration::from_secs(rest_seconds)).await;
        let crashed = Instant::now();
        a.order(Order::Panic);
        starts += 1;
        stage.noted("start a", starts).await;
        let waited = crashed.elapsed().as_millis();
        assert!((backoff_ms..backoff_ms + 5).contains(&waited), "waited {waited} ms, not {backoff_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn d8_a_leaf_above_the_intensity_degrades_its_room_and_recovers_when_healthy() {
    let stage = Stage::new("degrade");
    let a = stage.puppet("a");
    let handle = stage.supervise(Strategy::OneForOne, &[&a]).await;
    for crash in 1..=6 {
        assert!(!stage.tree.is_degraded("sup"), "degraded after {} crashes", crash - 1);
        a.order(Order::Panic);
        stage.noted("start a", 1 + crash).await;
    }
    handle.barrier().await.unwrap();
    assert!(stage.tree.is_degraded("sup") && stage.tree.is_degraded("sup/a"));
    assert!(!stage.tree.is_degraded("su") && !stage.tree.is_degraded("other"));
    let node = stage.node("sup/a").unwrap();
    assert_eq!((node.status, node.restarts, node.restarts_in_window), (Status::Degraded, 6, 6));

    sleep(Policy::default().healthy_after - Duration::from_millis(100)).await;
    assert!(stage.tree.is_degraded("sup"), "not healthy yet");
    sleep(Duration::from_millis(200)).await;
    handle.barrier().await.unwrap();
    assert!(!stage.tree.is_degraded("sup"));
    assert_eq!(stage.node("sup/a").unwrap().status, Status::Running);
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_crashes_forever_is_restarted_forever() {
    let stage = Stage::new("forever");
    let a = stage.puppet("a");
    let handle = stage.supervise(Strategy::OneForOne, &[&a]).await;
    for crash in 1..=100 {
        a.order(Order::Panic);
        stage.noted("start a", 1 + crash).await;
    }
    handle.barrier().await.unwrap();
    assert_eq!(stage.node("sup/a").unwrap().restarts, 100);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_pre_start_at_respawn_is_tried_again() {
    let stage = Stage::new("bad_respawn");
    let [a, b] = ["a", "b"].map(|id| stage.puppet(id));
    stage.supervise(Strategy::OneForOne, &[&a, &b]).await;
    a.bad_starts.store(3, Ordering::Release);
    a.order(Order::Panic);
    stage.noted("start a", 2).await;
    assert_eq!(stage.journal()[2..], ["refuse a", "refuse a", "refuse a", "start a"]);
    let cause = stage.node("sup/a").unwrap().last_exit.unwrap().cause;
    assert!(cause.starts_with("did not start: panicked: does not want to start"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_never_comes_up_does_not_hold_up_the_supervisor_forever() {
    let stage = Stage::new("endless_start");
    let [a, b] = ["a", "b"].map(|id| stage.puppet(id));
    let handle = stage.supervise(Strategy::OneForOne, &[&a, &b]).await;
    a.endless_starts.store(1, Ordering::Release);
    a.order(Order::Panic);
    stage.noted("dawdle a", 1).await;
    b.order(Order::Panic);
    handle.barrier().await.unwrap();
    stage.noted("start b", 2).await;
    stage.noted("start a", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_spawn_that_panics_after_the_actor_started_leaves_no_stray_behind() {
    let stage = Stage::new("stray");
    let a = stage.puppet("a");
    let (spec, tries) = (stage.spec("sup", &a), AtomicUsize::new(0));
    let child = ChildSpec::leaf("a", move |supervisor| {
        let (try_, spawned) = (tries.fetch_add(1, Ordering::AcqRel), (spec.spawn)(supervisor));
        async move {
            let cell = spawned.await?;
            assert_ne!(try_, 1, "the second try is cut after its actor came up");
            Ok(cell)
        }
    });
    let handle = stage.supervise_specs(Strategy::OneForOne, vec![child]).await;
    a.order(Order::Panic);
    stage.noted("start a", 3).await;
    handle.barrier().await.unwrap();
    let supervisor = handle.slot().load().unwrap();
    assert_eq!(supervisor.get_children().len(), 1, "the stray is gone, its successor has the name");
}

#[tokio::test(start_paused = true)]
async fn transient_and_temporary_children_come_back_only_when_they_should() {
    let stage = Stage::new("rules");
    let [lasting, transient, temporary] = ["lasting", "transient", "temporary"].map(|id| stage.puppet(id));
    let handle = stage
        .supervise_specs(
            Strategy::OneForOne,
            vec![
                stage.spec("sup", &lasting),
                stage.spec("sup", &transient).with_restart(Restart::Transient),
                stage.spec("sup", &temporary).with_restart(Restart::Temporary),
            ],
        )
        .await;
    transient.order(Order::Panic);
    lasting.order(Order::Leave);
    stage.noted("start transient", 2).await;
    stage.noted("start lasting", 2).await;
    transient.order(Order::Leave);
    temporary.order(Order::Panic);
    sleep(Duration::from_secs(20)).await;
    handle.barrier().await.unwrap();
    assert_eq!((stage.count("start transient"), stage.count("start temporary")), (2, 1));
    assert_eq!(stage.node("sup/transient").unwrap().status, Status::Stopped);

    transient.slot.clear();
    handle.ensure(stage.spec("sup", &transient)).await.unwrap();
    assert_eq!(stage.count("start transient"), 3, "asking for it brings it back");
}

#[tokio::test(start_paused = true)]
async fn a_killed_transient_child_comes_back() {
    let stage = Stage::new("killed_transient");
    let a = stage.puppet("a");
    let spec = stage.spec("sup", &a).with_restart(Restart::Transient);
    stage.supervise_specs(Strategy::OneForOne, vec![spec]).await;
    a.slot.load().unwrap().kill();
    stage.noted("start a", 2).await;
    assert_eq!(stage.node("sup/a").unwrap().last_exit.unwrap().cause, "killed");
}
