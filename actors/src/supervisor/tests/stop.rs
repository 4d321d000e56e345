//! Endings in order.

use tokio::time::Instant;

use super::*;
use crate::tree::Status;

#[tokio::test(start_paused = true)]
async fn children_stop_in_reverse_order_of_starting() {
    let stage = Stage::new("reverse_stop");
    let [a, b, c, added] = ["a", "b", "c", "added"].map(|id| stage.puppet(id));
    let handle = stage.supervise(Strategy::OneForOne, &[&a, &b, &c]).await;
    handle.ensure(stage.spec("sup", &added)).await.unwrap();
    handle.stop().await;
    assert_eq!(stage.journal()[4..], ["stop added", "stop c", "stop b", "stop a"]);
    assert!(
        ["a", "b", "c", "added"].iter().all(|id| {
            stage.node(&format!("sup/{id}")).is_some_and(|node| node.status == Status::Stopped)
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_stop_is_killed_and_the_others_still_stop_in_order() {
    let stage = Stage::new("hung_stop");
    let [a, b, c] = ["a", "b", "c"].map(|id| stage.puppet(id));
    let handle = stage.supervise(Strategy::OneForOne, &[&a, &b, &c]).await;
    b.order(Order::Hang);
    stage.noted("hang b", 1).await;
    let asked = Instant::now();
    handle.stop().await;
    assert_eq!(stage.journal()[4..], ["stop c", "stop a"]);
    let (waited, limit) = (asked.elapsed(), Policy::default().stop_timeout);
    assert!((limit..limit + Duration::from_millis(100)).contains(&waited), "waited {waited:?}");
    let exit = stage.node("sup/b").unwrap().last_exit.unwrap();
    assert_eq!(exit.cause, "killed: it did not stop in time");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_is_given_the_time_its_children_need() {
    let stage = Stage::new("patient_parent");
    let puppets = ["a", "b", "c"].map(|id| stage.puppet(id));
    let children = puppets.iter().map(|puppet| stage.spec("sup", puppet)).collect();
    let child = stage.supervisor("sup", Strategy::OneForOne, children).into_child(
        "sup",
        stage.system,
        stage.tree.clone(),
        SupervisorHandle::new(),
    );
    let root = Root::start(stage.system, Policy::default(), vec![child], stage.tree.clone()).await.unwrap();
    for puppet in &puppets {
        puppet.order(Order::Hang);
        stage.noted(&format!("hang {}", puppet.id), 1).await;
    }
    let asked = Instant::now();
    root.stop().await;
    assert!(asked.elapsed() >= 3 * Policy::default().stop_timeout, "each child was given its own time");
    assert_eq!(stage.node("sup").unwrap().last_exit.unwrap().cause, "stopped: asked to stop");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_come_up_at_the_first_start_stops_those_before_it_and_fails() {
    let stage = Stage::new("failed_boot");
    let [a, b] = ["a", "b"].map(|id| stage.puppet(id));
    b.bad_starts.store(1, Ordering::Release);
    let children = vec![stage.spec(ROOT, &a), stage.spec(ROOT, &b)];
    let started = Root::start(stage.system, Policy::default(), children, stage.tree.clone()).await;
    let error = started.err().unwrap().to_string();
    assert!(error.contains("b did not start: panicked: does not want to start"), "{error}");
    assert_eq!(stage.journal(), ["start a", "refuse b", "stop a"]);
}
