//! The lanes and their writers, on paused time, over a store that does as it is told.

pub(in crate::db) mod obedient;
mod spill;

use std::time::Duration;

use domain::{audit::AuditEvent, turn::Settlement};
use futures_util::future::{FutureExt, join_all};
use tokio::time::{Instant, sleep};

use self::obedient::{Room, room};
use super::{
    Ailment, DbConfig, DbError,
    contract::samples::{account, audit, begin, checkpoint, settlement, settling},
    lane::RETRY_BACKOFF,
    message::Write,
    room::PATH,
};
use crate::{clock::fresh_id, handle::AskError, supervisor::child_path};

/// Without a disk, unless a test says otherwise.
fn config() -> DbConfig {
    DbConfig { exclusive: false, ..DbConfig::new("unused".into()) }
}

fn unstored() -> Settlement {
    Settlement { stored: None, ..settlement(&begin(fresh_id()), "") }
}

#[tokio::test(start_paused = true)]
async fn a_healed_database_gets_the_settlements_it_missed() {
    let Room { db, store, .. } = room(config()).await;
    store.be_away(true);
    let told = settling(&db, settlement(&begin(fresh_id()), "kept"));
    assert!(matches!(told.await, Ok(Err(DbError::Unavailable(_)))), "told once");
    assert_eq!(db.metrics.kept.settlements.get(), 1);
    assert!(db.metrics.kept.bytes.get() > 0);
    store.be_away(false);
    // Nobody calls: the writer's own alarm brings it back.
    store.written(1).await;
    assert_eq!(store.batches(), [["settle"]]);
    assert_eq!((db.metrics.kept.settlements.get(), db.metrics.kept.bytes.get()), (0, 0));
    assert_eq!(db.metrics.lost_settlements.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_is_told_when_the_database_is_away() {
    let Room { db, store, .. } = room(config()).await;
    store.be_away(true);
    let started = Instant::now();
    let answers = join_all((0..600).map(|_| db.begin_turn(begin(fresh_id())))).await;
    let unknown = answers.iter().filter(|answer| matches!(answer, Err(DbError::Unavailable(_)))).count();
    let not_begun = answers.iter().filter(|answer| matches!(answer, Err(DbError::Away(_)))).count();
    assert_eq!((unknown, not_begun), (256, 344), "of those in hand nobody knows");
    // Three batches' worth of callers pay for one attempt between them.
    assert_eq!(started.elapsed(), config().acquire_timeout);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_shows_while_it_is_tried_again() {
    let Room { db, store, .. } = room(config()).await;
    store.be_away(true);
    settling(&db, settlement(&begin(fresh_id()), "kept")).await.unwrap().unwrap_err();
    let shown = || (db.metrics.kept.settlements.get(), db.metrics.kept.bytes.get() > 0);
    store.hold();
    store.begun(2).await;
    assert_eq!(shown(), (1, true), "in the writer's hand");
    store.release();
    for _ in 0..100 {
        sleep(RETRY_BACKOFF / 10).await;
        assert_eq!(shown(), (1, true));
    }
    store.be_away(false);
    store.written(1).await;
    while db.lanes[0].in_use() > 0 {
        sleep(RETRY_BACKOFF).await;
    }
    assert_eq!((shown(), db.metrics.kept.bytes.get()), ((0, false), 0));
}

/// The first change that is written brings what the database missed with it, whatever the time.
async fn a_success_brings_what_was_missed(room: Room, is_stored: bool) {
    let Room { db, store, .. } = room;
    store.be_away(true);
    let told = settling(&db, settlement(&begin(fresh_id()), "missed"));
    assert_eq!(told.await.unwrap().is_ok(), is_stored);
    store.be_away(false);
    let healed = Instant::now();
    db.begin_turn(begin(fresh_id())).await.unwrap();
    store.written(2).await;
    assert!(healed.elapsed() < RETRY_BACKOFF);
    assert_eq!(store.batches(), [["begin"], ["settle"]]);
}

#[tokio::test(start_paused = true)]
async fn a_success_makes_what_was_kept_due_at_once() {
    a_success_brings_what_was_missed(room(config()).await, false).await;
}

#[tokio::test(start_paused = true)]
async fn d07_in_a_hurry_nothing_lingers_and_what_was_kept_is_tried_at_once() {
    let Room { db, store, .. } = room(config()).await;
    store.be_away(true);
    let told = settling(&db, settlement(&begin(fresh_id()), "kept"));
    told.await.unwrap().unwrap_err();
    store.be_away(false);
    let lingering = settling(&db, unstored());
    assert_eq!(db.unsettled(), 2);
    let asked = Instant::now();
    db.settled(asked + Duration::from_secs(10)).await;
    assert!(asked.elapsed() < config().usage_linger, "{:?}", asked.elapsed());
    lingering.await.unwrap().unwrap();
    assert_eq!((db.unsettled(), store.batches()), (0, vec![vec!["settle", "settle"]]));
}

#[tokio::test(start_paused = true)]
async fn a_usage_row_lingers_for_company() {
    let Room { db, store, .. } = room(config()).await;
    let started = Instant::now();
    let first = settling(&db, unstored());
    sleep(Duration::from_millis(5)).await;
    let second = settling(&db, unstored());
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let waited = started.elapsed();
    assert!(waited >= config().usage_linger && waited < config().usage_linger * 2, "{waited:?}");
    assert_eq!(store.batches(), [["settle", "settle"]]);
}

#[tokio::test(start_paused = true)]
async fn a_usage_row_travels_with_others_and_delays_nobody() {
    let Room { db, store, .. } = room(config()).await;
    let started = Instant::now();
    let usage = settling(&db, unstored());
    db.begin_turn(begin(fresh_id())).await.unwrap();
    usage.await.unwrap().unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(store.batches(), [["begin", "settle"]]);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_row_is_opened_with_others_and_delays_nobody() {
    let Room { db, store, .. } = room(config()).await;
    let started = Instant::now();
    let begin = begin(fresh_id());
    db.open_turn(begin.clone());
    sleep(Duration::from_millis(5)).await;
    assert_eq!(store.batches().len(), 0, "it lingers");
    let end = settling(&db, Settlement { stored: None, ..settlement(&begin, "") });
    end.await.unwrap().unwrap();
    assert!(started.elapsed() < config().usage_linger * 2, "{:?}", started.elapsed());
    assert_eq!(store.batches(), [["open", "settle"]]);

    let started = Instant::now();
    db.open_turn(begin.clone());
    db.begin_turn(begin).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(store.batches()[1], ["begin", "open"]);
    assert_eq!((db.lanes[0].in_use(), db.metrics.dropped_opens.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_row_that_finds_no_room_or_no_database_is_left_to_its_end_and_counted() {
    let Room { db, store, .. } = room(DbConfig { lane_capacity: 1, ..config() }).await;
    let begin = begin(fresh_id());
    let place = db.reserve_settlement(begin.turn).unwrap();
    db.open_turn(begin.clone());
    assert_eq!((db.metrics.dropped_opens.get(), db.lanes[0].in_use()), (1, 1));
    drop(place);

    store.be_away(true);
    db.open_turn(begin.clone());
    db.lanes[0].hurry();
    store.begun(1).await;
    store.be_away(false);
    while db.lanes[0].in_use() > 0 {
        sleep(config().usage_linger).await;
    }
    assert_eq!(db.metrics.dropped_opens.get(), 2);
    assert!(store.batches().is_empty(), "nobody tries again");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_row_in_the_hand_of_a_writer_that_dies_is_opened_by_the_next() {
    let Room { db, store, .. } = room(config()).await;
    store.hold();
    db.open_turn(begin(fresh_id()));
    store.begun(1).await;
    db.lanes[0].bell().slot().load().unwrap().kill();
    store.release();
    store.written(1).await;
    assert_eq!(store.batches(), [["open"]]);
    assert_eq!((db.lanes[0].in_use(), db.metrics.dropped_opens.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn text_kept_for_a_database_that_is_away_is_bounded() {
    let Room { db, store, .. } = room(DbConfig { kept_bytes: 10_000, ..config() }).await;
    store.be_away(true);
    let long = "x".repeat(4_000);
    let told: Vec<_> = (0..3).map(|_| settling(&db, settlement(&begin(fresh_id()), &long))).collect();
    assert!(join_all(told).await.into_iter().all(|told| told.unwrap().is_err()));
    assert_eq!((db.metrics.kept.settlements.get(), db.metrics.lost_settlements.get()), (2, 1));
    let bytes = db.metrics.kept.bytes.get();
    assert!((8_000..=10_000).contains(&bytes), "{bytes}");
    assert_eq!(db.lanes[0].in_use(), 2, "what is kept keeps its place");
}

#[tokio::test(start_paused = true)]
async fn a_lane_has_no_more_places_than_it_says() {
    let Room { db, store, .. } = room(DbConfig { lane_capacity: 2, ..config() }).await;
    let reserved = [(); 2].map(|()| db.reserve_settlement(fresh_id()).unwrap());
    assert!(matches!(db.reserve_settlement(fresh_id()), Err(DbError::Overloaded)));
    assert_eq!(db.begin_turn(begin(fresh_id())).await, Err(DbError::Overloaded));
    db.checkpoint(checkpoint(&begin(fresh_id()), 1, "dropped"));
    assert_eq!(db.metrics.dropped_checkpoints.get(), 1);
    drop(reserved);
    assert_eq!(db.begin_turn(begin(fresh_id())).await, Ok(domain::turn::Begun::New));
    assert_eq!(store.batches(), [["begin"]]);
}

#[tokio::test(start_paused = true)]
async fn notes_leave_half_of_a_lane_to_others() {
    let Room { db, store, .. } = room(DbConfig { lane_capacity: 8, ..config() }).await;
    store.hold();
    for _ in 0..20 {
        db.note(audit(AuditEvent::AuthzFail, fresh_id()));
    }
    assert_eq!((db.lanes[0].in_use(), db.metrics.dropped_notes.get()), (4, 16));
    let reserved = [(); 4].map(|()| db.reserve_settlement(fresh_id()).unwrap());
    drop(reserved);
    store.release();
    store.written(1).await;
    assert_eq!(store.batches().concat().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn notes_that_a_database_was_away_for_are_counted() {
    let Room { db, store, .. } = room(config()).await;
    store.be_away(true);
    db.note(audit(AuditEvent::AuthzFail, fresh_id()));
    assert!(
        db.create_user(account("ada@example.org"), audit(AuditEvent::UserCreated, fresh_id())).await.is_err()
    );
    assert_eq!((db.metrics.dropped_notes.get(), db.lanes[0].in_use()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_bounded_in_changes_and_in_bytes() {
    let Room { db, store, .. } = room(config()).await;
    store.hold();
    let many = join_all((0..300).map(|_| db.begin_turn(begin(fresh_id()))));
    let long = "x".repeat(3 * 1024 * 1024);
    let (_, ()) = tokio::join!(many, async {
        store.begun(1).await;
        for _ in 0..4 {
            drop(settling(&db, settlement(&begin(fresh_id()), &long)));
        }
        store.release();
    });
    store.written(3).await;
    let sizes: Vec<_> = store.batches().iter().map(Vec::len).collect();
    // The rest of the begins go with the two long answers that fit beside them.
    assert_eq!(sizes, [256, 46, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_left_before_its_change_was_begun_writes_nothing() {
    let Room { db, store, .. } = room(config()).await;
    store.hold();
    let busy = db.begin_turn(begin(fresh_id()));
    let leave = async {
        store.begun(1).await;
        assert!(db.begin_turn(begin(fresh_id())).now_or_never().is_none());
        store.release();
    };
    let (busy, ()) = tokio::join!(busy, leave);
    assert_eq!(busy, Ok(domain::turn::Begun::New));
    db.begin_turn(begin(fresh_id())).await.unwrap();
    assert_eq!(store.batches(), [["begin"], ["begin"]]);
    assert_eq!(db.lanes[0].in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_costs_the_call_timeout() {
    let Room { db, store, .. } = room(config()).await;
    store.hold();
    let started = Instant::now();
    let told = settling(&db, settlement(&begin(fresh_id()), "late"));
    let (begun, read, told) = tokio::join!(db.begin_turn(begin(fresh_id())), db.ping(), told);
    assert_eq!(
        (begun, read, told),
        (Err(DbError::Timeout), Some(Err(Ailment::Silent(DbError::Timeout))), Ok(Err(DbError::Timeout)))
    );
    assert_eq!(started.elapsed(), config().call_timeout);
    store.release();
    store.written(1).await;
    assert_eq!(store.batches(), [["settle"]]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_never_reached_the_database_says_nothing_about_it() {
    let Room { db, .. } = room(DbConfig { lane_capacity: 1, ..config() }).await;
    let place = db.reserve_settlement(fresh_id()).unwrap();
    assert_eq!(db.ping().await, None, "the lane is full");
    drop(place);

    // As in the restart of a writer.
    db.lanes[0].shut().await;
    assert_eq!(db.ping().await, None, "nobody takes it");
    db.lanes[0].open();

    let writer = child_path(PATH, "writer-0");
    while !db.tree.is_degraded(PATH) {
        db.tree.worker_exit(&writer, "killed");
    }
    assert_eq!(db.ping().await, None, "the room crashes too often");

    let Room { db, .. } = room(config()).await;
    assert_eq!(db.ping().await, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_dies_with_a_sign_of_life_in_hand_says_nothing_about_the_database() {
    let Room { db, store, .. } = room(config()).await;
    store.hold();
    let written = db.change(uuid::Uuid::nil(), Write::Probe);
    let kill = async {
        store.begun(1).await;
        db.lanes[0].bell().slot().load().unwrap().kill();
    };
    let (written, ()) = tokio::join!(written, kill);
    assert_eq!(written, Err(AskError::Died));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_callback_costs_nobody_else_their_answer() {
    let Room { db, store, .. } = room(config()).await;
    let bad = unstored();
    let permit = db.reserve_settlement(bad.turn).unwrap();
    db.settle(permit, bad, Box::new(|_| panic!("a callback that panics")));
    let good = settling(&db, unstored());
    assert_eq!(good.await, Ok(Ok(())));
    assert_eq!(store.batches(), [vec!["settle", "settle"], vec!["settle"]], "idempotent, so it ran again");
    assert_eq!(db.lanes[0].in_use(), 0);
}
