//! A real server, made and broken.

use super::*;

async fn connects(cluster: &Cluster, database: &str) -> Result<Session> {
    timeout(Duration::from_secs(1), Session::open(cluster.addr(), SUPERUSER, database)).await?
}

#[tokio::test]
async fn databases_are_made_and_cloned_with_what_is_in_them() {
    let cluster = Cluster::shared().await.unwrap();
    cluster.create_database("template a").await.unwrap();
    let mut session = connects(cluster, "template a").await.unwrap();
    session.run("CREATE TABLE t AS SELECT 1 AS x").await.unwrap();
    let refused = cluster.clone_database("template a", "too early").await.unwrap_err();
    assert!(format!("{refused:#}").contains("being accessed by other users"), "{refused:#}");
    drop(session);
    // The server notices the closed connection a moment later, and waits for that up to five seconds.
    let clones = ["a1", "a2"].map(|name| cluster.clone_database("template a", name));
    for cloned in clones {
        cloned.await.unwrap();
    }
    let mut session = connects(cluster, "a2").await.unwrap();
    session.run("SELECT x FROM t").await.unwrap();
    assert!(
        session
            .run("SELECT y FROM t")
            .await
            .unwrap_err()
            .root_cause()
            .to_string()
            .contains("\"y\" does not exist")
    );
    session.run("SELECT x FROM t").await.unwrap();
    cluster.drop_database("a2").await.unwrap();
    assert!(connects(cluster, "a2").await.is_err());
    assert!(cluster.url("a1").ends_with("/a1"));
}

#[tokio::test]
async fn a_cluster_stops_freezes_dies_and_comes_back_with_its_data() {
    let cluster = Cluster::start().await.unwrap();
    cluster.create_database("kept").await.unwrap();

    cluster.freeze().unwrap();
    assert!(connects(&cluster, "kept").await.is_err(), "nobody answers");
    cluster.unfreeze().unwrap();
    connects(&cluster, "kept").await.unwrap();

    cluster.kill().unwrap();
    assert!(connects(&cluster, "kept").await.is_err());
    cluster.restart().await.unwrap();
    connects(&cluster, "kept").await.unwrap();

    cluster.stop().await.unwrap();
    assert!(connects(&cluster, "kept").await.is_err());
    cluster.restart().await.unwrap();
    connects(&cluster, "kept").await.unwrap();

    cluster.freeze().unwrap();
    let (pid, path) = (cluster.pid().unwrap(), cluster.scratch.path().to_owned());
    let children = process::children_of(pid);
    drop(cluster);
    assert!(!path.exists() && !Path::new(&format!("/proc/{pid}")).exists());
    assert!(!children.is_empty());
    for child in children {
        let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // Its new parent may not have collected it yet.
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}

#[tokio::test]
async fn a_standby_follows_its_cluster_and_refuses_to_be_written_to() {
    let cluster = Cluster::start_with(Options { fsync: false, max_connections: 20 }).await.unwrap();
    cluster.create_database("a").await.unwrap();
    let standby = cluster.standby().await.unwrap();
    connects(&cluster, "a").await.unwrap().run("CREATE TABLE t AS SELECT 1 AS x").await.unwrap();
    let follows =
        async { while connects(&standby, "a").await.unwrap().run("SELECT x FROM t").await.is_err() {} };
    timeout(Duration::from_secs(20), follows).await.unwrap();
    let refused = connects(&standby, "a").await.unwrap().run("DROP TABLE t").await.unwrap_err();
    assert!(refused.root_cause().to_string().contains("read-only"), "{refused:#}");
}
