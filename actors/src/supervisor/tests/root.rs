//! What happens at the top.

use futures_util::FutureExt;

use super::*;
use crate::tree::Status;

impl Stage {
    /// Starts a root over the supervisor `sup` over `puppet`.
    async fn root(&self, puppet: &Puppet) -> (Root, SupervisorHandle) {
        let handle = SupervisorHandle::new();
        let child = self.supervisor("sup", Strategy::OneForOne, vec![self.spec("sup", puppet)]).into_child(
            "sup",
            self.system,
            self.tree.clone(),
            handle.clone(),
        );
        let root = Root::start(self.system, Policy::default(), vec![child], self.tree.clone()).await;
        (root.unwrap(), handle)
    }
}

#[tokio::test(start_paused = true)]
async fn d8_a_supervisor_that_fails_too_often_makes_the_root_give_up() {
    let stage = Stage::new("escalate");
    let a = stage.puppet("a");
    let (root, handle) = stage.root(&a).await;
    for failure in 1..=5 {
        handle.slot().load().unwrap().kill();
        stage.noted("start a", 1 + failure).await;
        root.handle().barrier().await.unwrap();
        assert!(root.failed().now_or_never().is_none(), "gave up after {failure} failures");
    }
    handle.slot().load().unwrap().kill();
    let cause = timeout(PATIENCE, root.failed()).await.unwrap();
    assert!(cause.contains("sup failed too often"), "{cause}");
    assert_eq!(stage.node("sup").unwrap().last_exit.unwrap().decision, Decision::Escalate);
    assert_eq!(stage.node(ROOT).unwrap().status, Status::Stopped);
    root.stop().await; // what is left of it
}

#[tokio::test(start_paused = true)]
async fn d8_leaves_that_crash_do_not_count_against_the_root() {
    let stage = Stage::new("no_escalation");
    let a = stage.puppet("a");
    let (root, handle) = stage.root(&a).await;
    for crash in 1..=30 {
        a.order(Order::Panic);
        stage.noted("start a", 1 + crash).await;
    }
    handle.barrier().await.unwrap();
    root.handle().barrier().await.unwrap();
    assert!(root.failed().now_or_never().is_none());
    assert_eq!(stage.node("sup").unwrap().restarts, 0);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gives_up_costs_its_parent_one_failure_and_its_siblings_nothing() {
    let stage = Stage::new("nested");
    let [inner, sibling] = ["inner", "sibling"].map(|id| stage.puppet(id));
    let (outer_handle, inner_handle) = (SupervisorHandle::new(), SupervisorHandle::new());
    let nested = stage
        .supervisor("outer/pool", Strategy::OneForOne, vec![stage.spec("outer/pool", &inner)])
        .into_child("pool", stage.system, stage.tree.clone(), inner_handle.clone());
    let outer = stage.supervisor("outer", Strategy::OneForOne, vec![nested]).into_child(
        "outer",
        stage.system,
        stage.tree.clone(),
        outer_handle.clone(),
    );
    let children = vec![outer, stage.spec(ROOT, &sibling)];
    let root = Root::start(stage.system, Policy::default(), children, stage.tree.clone()).await.unwrap();
    for failure in 1..=6 {
        inner_handle.slot().load().unwrap().kill();
        stage.noted("start inner", 1 + failure).await;
    }
    outer_handle.barrier().await.unwrap();
    let outer = stage.node("outer").unwrap();
    assert_eq!(outer.restarts, 1);
    assert!(outer.last_exit.unwrap().cause.contains("outer/pool failed too often"));
    assert_eq!(stage.count("start sibling"), 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_killed_is_a_failure_and_one_that_is_stopped_is_not() {
    let stage = Stage::new("killed_root");
    let a = stage.puppet("a");
    let (root, _) = stage.root(&a).await;
    root.handle().slot().load().unwrap().kill();
    assert_eq!(timeout(PATIENCE, root.failed()).await.unwrap(), "killed");

    let stage = Stage::new("stopped_root");
    let a = stage.puppet("a");
    let (root, _) = stage.root(&a).await;
    let failed = root.failed();
    root.stop().await;
    assert!(failed.now_or_never().is_none());
    assert_eq!(stage.journal(), ["start a", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn two_systems_live_in_one_process() {
    let (first, second) = (Stage::new("system_one"), Stage::new("system_two"));
    let (a, b) = (first.puppet("a"), second.puppet("a"));
    let (one, _) = first.root(&a).await;
    let (two, _) = second.root(&b).await;
    a.order(Order::Panic);
    first.noted("start a", 2).await;
    assert_eq!(second.journal(), ["start a"]);
    one.stop().await;
    assert!(second.node("sup/a").is_some_and(|node| node.status == Status::Running));
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_system_can_be_started_again_under_its_name() {
    for _ in 0..2 {
        let stage = Stage::new("system_again");
        let a = stage.puppet("a");
        stage.root(&a).await.0.stop().await;
        assert_eq!(stage.journal(), ["start a", "stop a"]);
    }
}
