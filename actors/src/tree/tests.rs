use prometheus_client::{encoding::text::encode, registry::Registry};

use super::*;

fn report<'a>(path: &'a str, decision: Decision, status: Status) -> Report<'a> {
    Report {
        path,
        kind: Kind::Leaf,
        actor_id: None,
        cause: Cause::Crashed("broke".into()),
        decision,
        status,
        backoff: Duration::ZERO,
        restarts_in_window: 1,
    }
}

#[test]
fn parents_come_before_their_children_and_siblings_in_the_order_of_their_starting() {
    let tree = Tree::new();
    for path in ["a-b", "root", "a/b", "a", "a/b/c"] {
        tree.started(path, Kind::Leaf, Status::Running, "0.1".into());
    }
    let paths: Vec<_> = tree.snapshot().into_iter().map(|node| node.path).collect();
    assert_eq!(paths, ["root", "a-b", "a", "a/b", "a/b/c"]);
}

#[tokio::test(start_paused = true)]
async fn what_stands_under_a_dead_actor_is_down_too() {
    let tree = Tree::new();
    tree.started("a", Kind::Supervisor, Status::Running, "0.1".into());
    tree.started("a/b", Kind::Leaf, Status::Degraded, "0.2".into());
    tree.started("ab", Kind::Leaf, Status::Running, "0.3".into());
    assert!(tree.is_degraded("a"));
    tree.exited(&report("a", Decision::Restart, Status::Restarting));
    let shown: Vec<_> = tree.snapshot().into_iter().map(|node| (node.path, node.status)).collect();
    let expected = [("a", Status::Restarting), ("a/b", Status::Stopped), ("ab", Status::Running)];
    assert_eq!(shown, expected.map(|(path, status)| (path.to_owned(), status)));
    assert!(!tree.is_degraded("a"), "it is down, which its callers see for themselves");
}

#[tokio::test(start_paused = true)]
async fn a_removed_child_leaves_nothing_behind() {
    let tree = Tree::new();
    tree.started("m/x", Kind::Leaf, Status::Degraded, "0.1".into());
    tree.started("m/x/y", Kind::Leaf, Status::Running, "0.2".into());
    tree.removed("m/x");
    assert!(tree.snapshot().is_empty() && !tree.is_degraded("m"));
}

#[tokio::test(start_paused = true)]
async fn a_node_reads_well_as_json() {
    let tree = Tree::new();
    tree.exited(&report("a", Decision::Restart, Status::Restarting));
    tokio::time::advance(Duration::from_millis(500)).await;
    tree.started("a", Kind::Leaf, Status::Running, "0.7".into());
    tokio::time::advance(Duration::from_millis(1_500)).await;
    let json = serde_json::to_value(tree.snapshot()).unwrap();
    let expected = serde_json::json!([{
        "path": "a", "kind": "leaf", "status": "running", "actor_id": "0.7",
        "restarts": 1, "restarts_in_window": 1,
        "last_exit": { "cause": "broke", "decision": "restart", "seconds_ago": 2.0 },
        "uptime_seconds": 1.5,
    }]);
    assert_eq!(json, expected);
}

#[test]
fn restarts_and_who_is_up_are_scraped_per_child() {
    let (tree, mut registry) = (Tree::new(), Registry::default());
    registry.register_collector(Box::new(tree.clone()));
    tree.started("up", Kind::Leaf, Status::Running, "0.1".into());
    tree.exited(&report("down", Decision::Restart, Status::Restarting));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        r#"deepersensor_actor_restarts_total{child="down"} 1"#,
        r#"deepersensor_actor_restarts_total{child="up"} 0"#,
        r#"deepersensor_actor_up{child="down"} 0"#,
        r#"deepersensor_actor_up{child="up"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}
