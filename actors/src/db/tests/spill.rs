//! Ends of turns that a database is away for: on the disk, and from there into the database.

use std::{fs, path::PathBuf, time::Duration};

use domain::{id::TurnId, turn::Settlement};
use futures_util::future::join_all;
use support::process::Scratch;
use tokio::time::{Instant, sleep};

use super::{
    a_success_brings_what_was_missed,
    obedient::{Room, room},
    unstored,
};
use crate::{
    clock::fresh_id,
    db::{
        DbConfig, DbError, DbHandle,
        contract::samples::{begin, settlement, settling},
        lane::RETRY_BACKOFF,
    },
};

struct Disk(Scratch);

impl Disk {
    fn new() -> Self {
        Self(Scratch::new("spill", None).unwrap())
    }

    fn config(&self) -> DbConfig {
        DbConfig::new(self.0.path().join("data"))
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path().join("data/spill")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn ended(text: &str) -> Settlement {
    settlement(&begin(fresh_id()), text)
}

/// How many are on the disk, and how many in memory.
fn waiting(db: &DbHandle) -> (i64, i64) {
    (db.metrics.spilled.settlements.get(), db.metrics.kept.settlements.get())
}

/// Waits until the database has all, and the disk is empty.
async fn drained(db: &DbHandle) {
    while waiting(db) != (0, 0) || db.metrics.spilled.bytes.get() != 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn settle_all(db: &DbHandle, settlements: &[Settlement]) -> Vec<Result<(), DbError>> {
    let told = settlements.iter().map(|settlement| settling(db, settlement.clone()));
    join_all(told).await.into_iter().map(Result::unwrap).collect()
}

fn turns(settlements: &[Settlement]) -> Vec<TurnId> {
    settlements.iter().map(|settlement| settlement.turn).collect()
}

#[tokio::test(start_paused = true)]
async fn e4_a_settlement_that_is_on_the_disk_is_stored_and_the_database_gets_it_when_it_is_back() {
    let disk = Disk::new();
    let Room { db, store, .. } = room(disk.config()).await;
    store.be_away(true);
    let ends = [ended("kept"), unstored()];
    assert_eq!(settle_all(&db, &ends).await, [Ok(()), Ok(())]);
    assert_eq!((waiting(&db), db.unsettled(), db.lanes[0].in_use()), ((2, 0), 0, 0));
    assert_eq!(disk.files().len(), 1);
    sleep(RETRY_BACKOFF * 10).await;
    assert_eq!((waiting(&db), store.settled()), ((2, 0), vec![]), "it is asked in vain");

    store.be_away(false);
    // Nobody calls: it is asked each second.
    drained(&db).await;
    assert_eq!(store.settled(), turns(&ends));
    assert_eq!((disk.files().len(), db.metrics.lost_settlements.get()), (0, 0));
    assert_eq!(db.metrics.spilled.failures.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_success_makes_what_is_on_the_disk_due_at_once() {
    let disk = Disk::new();
    a_success_brings_what_was_missed(room(disk.config()).await, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_is_made_up_for_in_order_and_beside_what_is_written_now() {
    let disk = Disk::new();
    let Room { db, store, .. } = room(disk.config()).await;
    store.be_away(true);
    let ends: Vec<_> = (0..300).map(|number| ended(&format!("answer {number}"))).collect();
    assert!(settle_all(&db, &ends).await.iter().all(Result::is_ok));

    store.be_away(false);
    store.hold();
    let before = store.batches().len();
    let (begun, ()) = tokio::join!(db.begin_turn(begin(fresh_id())), async { store.release() });
    begun.unwrap();
    assert!(waiting(&db).0 > 200, "who comes now does not wait for all of it: {:?}", waiting(&db));
    for _ in 0..3 {
        db.begin_turn(begin(fresh_id())).await.unwrap();
    }
    drained(&db).await;
    assert_eq!(store.settled(), turns(&ends));
    let batches = store.batches();
    let most = batches.iter().map(|batch| batch.iter().filter(|write| **write == "settle").count()).max();
    assert_eq!(most, Some(64), "{batches:?}");
    assert!(batches.len() - before >= 300 / 64);
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_it_is_asked_with_one_settlement() {
    let disk = Disk::new();
    let Room { db, store, .. } = room(disk.config()).await;
    store.be_away(true);
    let ends: Vec<_> = (0..10).map(|_| ended("kept")).collect();
    settle_all(&db, &ends).await;
    store.be_away(false);
    drained(&db).await;
    let sizes: Vec<_> = store.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 9]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_on_the_disk_is_given_to_the_database_by_the_next_start() {
    let disk = Disk::new();
    let ends = [ended("first"), ended("second")];
    let Room { db, store, root } = room(disk.config()).await;
    store.be_away(true);
    settle_all(&db, &ends).await;
    db.settled(Instant::now() + Duration::from_secs(1)).await;
    root.stop().await;
    assert_eq!((db.spilled(), disk.files().len(), store.settled()), (2, 1, vec![]));
    drop((db, store));

    let Room { db, store, .. } = room(disk.config()).await;
    store.written(1).await;
    drained(&db).await;
    assert_eq!(store.settled(), turns(&ends));
    assert_eq!(disk.files().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn d07_at_the_end_what_the_database_holds_up_goes_to_the_disk() {
    let disk = Disk::new();
    let Room { db, store, root } = room(DbConfig { kept_bytes: 0, ..disk.config() }).await;
    store.hold();
    let first = settling(&db, ended("in hand"));
    store.begun(1).await;
    let others: Vec<_> = (0..300).map(|_| settling(&db, unstored())).collect();
    let by = Instant::now() + Duration::from_secs(1);
    db.settled(by).await;
    assert!(Instant::now() <= by, "nobody waits for a database that does not answer");
    assert_eq!((first.await.unwrap(), db.unsettled(), db.spilled()), (Ok(()), 0, 301));
    assert!(join_all(others).await.into_iter().all(|told| told == Ok(Ok(()))));
    root.stop().await;
    assert_eq!(db.metrics.lost_settlements.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stops_leaves_nothing_but_what_is_on_the_disk() {
    let disk = Disk::new();
    let Room { db, store, root } = room(disk.config()).await;
    store.be_away(true);
    let told = settling(&db, unstored());
    root.stop().await;
    assert_eq!((told.await.unwrap(), db.spilled()), (Ok(()), 1));
    assert_eq!(db.metrics.lost_settlements.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_does_not_take_is_kept_in_memory_until_either_does() {
    let disk = Disk::new();
    let data = disk.config().data_dir;
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    // Where the directory should be.
    fs::write(data.join("spill"), "").unwrap();
    let Room { db, store, .. } = room(disk.config()).await;
    store.be_away(true);
    let ends = [ended("first"), ended("second")];
    assert!(settle_all(&db, &ends).await.iter().all(Result::is_err), "it is stored nowhere");
    assert_eq!(waiting(&db), (0, 2));
    assert!(db.metrics.spilled.failures.get() >= 1);

    fs::remove_file(data.join("spill")).unwrap();
    while waiting(&db) != (2, 0) {
        sleep(Duration::from_millis(100)).await;
    }
    store.be_away(false);
    drained(&db).await;
    assert_eq!((store.settled(), db.metrics.lost_settlements.get()), (turns(&ends), 0));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_is_noticed_at_the_start_and_when_it_is_mended() {
    let disk = Disk::new();
    let data = disk.config().data_dir;
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(data.join("spill"), "").unwrap();
    let Room { db, .. } = room(disk.config()).await;
    let takes = async |expected: bool| {
        while db.takes_ends_on_disk() != Some(expected) {
            sleep(Duration::from_secs(1)).await;
        }
    };
    takes(false).await;
    assert!(db.metrics.spilled.failures.get() >= 1);
    fs::remove_file(data.join("spill")).unwrap();
    takes(true).await;
    assert_eq!(disk.files().len(), 0, "nothing is left of the trial");
    let Room { db, .. } = room(super::config()).await;
    assert_eq!(db.takes_ends_on_disk(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_the_disk_is_bounded_and_the_rest_is_kept_in_memory() {
    let disk = Disk::new();
    let Room { db, store, .. } = room(DbConfig { spill_bytes: 10_000, ..disk.config() }).await;
    store.be_away(true);
    let long = "x".repeat(4_000);
    let ends = [ended(&long), ended(&long), ended(&long)];
    let told: Vec<_> = settle_all(&db, &ends).await.iter().map(Result::is_ok).collect();
    assert_eq!((told, waiting(&db)), (vec![true, true, false], (2, 1)));
    let bytes = db.metrics.spilled.bytes.get();
    assert!((8_000..=10_000).contains(&bytes), "{bytes}");
    store.be_away(false);
    drained(&db).await;
    let mut settled = store.settled();
    settled.sort();
    assert_eq!(settled, turns(&ends));
}

#[tokio::test(start_paused = true)]
async fn a_replayer_that_is_killed_is_followed_by_one_that_goes_on() {
    let disk = Disk::new();
    let Room { db, store, .. } = room(disk.config()).await;
    store.be_away(true);
    let ends: Vec<_> = (0..100).map(|_| ended("kept")).collect();
    settle_all(&db, &ends).await;
    store.be_away(false);
    // The first attempt is one record; the second is killed with 64 in hand.
    store.written(1).await;
    store.hold();
    db.spill.bell().slot().load().unwrap().kill();
    store.release();
    drained(&db).await;
    let mut settled = store.settled();
    settled.sort();
    settled.dedup();
    assert_eq!(settled, turns(&ends), "each at least once, which is as good as once");
    assert_eq!(disk.files().len(), 0);
}
