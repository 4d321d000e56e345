//! What is removed in the background.

use std::time::Duration;

use super::bench::{Bench, pass};

#[tokio::test]
async fn sessions_that_ended_long_ago_are_removed_within_the_hour() {
    let bench = Bench::start().await;
    let (old, live) = (bench.owner().await, bench.owner_again().await);
    bench.meanwhile("UPDATE sessions SET revoked_at = 1 WHERE id = (SELECT min(id) FROM sessions)").await;
    assert!(bench.db.session(old.session()).await.unwrap().is_some());
    pass(Duration::from_hours(1)).await;
    while bench.db.session(old.session()).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(bench.db.session(live.session()).await.unwrap().is_some());
    bench.stop().await;
}
