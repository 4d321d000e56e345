//! Ends of turns that were left on the disk.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use domain::turn::Settlement;
use tokio::time::{sleep, timeout};

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::{
    clock::fresh_id,
    db::{
        metrics::Spilled,
        spill::{Frames, SPILL_BYTES_MAX, Spill},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Leaves them where a process does that dies in an outage.
async fn leave(ground: &Ground, settlements: &[Settlement]) {
    let data_dir = Some(ground.config.data_dir.clone());
    let spill = Arc::new(Spill::new(data_dir, SPILL_BYTES_MAX, Spilled::default()));
    assert!(spill.keep(Frames::of(settlements.iter(), SPILL_BYTES_MAX)).await);
}

/// Waits until nothing is left on the disk.
async fn replayed(room: &Running) {
    let replayed = async {
        let is_left = |metrics: &str| !metrics.contains("deepersensor_db_spill_bytes 0");
        while room.db.spilled() > 0 || is_left(&room.metrics()) {
            sleep(PATIENCE / 4_000).await;
        }
    };
    timeout(PATIENCE, replayed).await.unwrap();
}

pub(super) async fn e4_what_a_dead_process_left_on_the_disk_is_stored_once_whether_the_sweep_came_before_or_not(
    ground: Ground,
) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (swept, streaming) = (begin(user.id), begin(user.id));
    room.db.begin_turn(swept.clone()).await.unwrap();
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), noon() + TimeDelta::seconds(31)).await, Ok(1));
    room.db.begin_turn(streaming.clone()).await.unwrap();
    room.stop().await;
    let usage = Settlement { stored: None, ..settlement(&begin(user.id), "") };
    let ends = [settlement(&swept, "one"), settlement(&streaming, "two"), usage];
    // It died between the commit and the removal, and so left some of them twice.
    leave(&ground, &ends).await;
    leave(&ground, &ends[..2]).await;

    let room = ground.room().await;
    replayed_to(&ground, 3).await;
    replayed(&room).await;
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), noon() + TimeDelta::days(1)).await, Ok(0));
    let complete = "SELECT count(*) FROM turns WHERE status = 'complete' AND completion_tokens = 7";
    assert_eq!(ground.count(complete).await, 3);
    for (begun, text) in [(&swept, "one"), (&streaming, "two")] {
        let conversation = stored(begun).conversation;
        let messages = room.db.history(user.id, conversation, 100, u32::MAX).await.unwrap().unwrap();
        assert_eq!((messages.len(), messages[1].message.content.as_str()), (2, text));
    }
}

pub(super) async fn an_end_that_the_database_refuses_holds_up_none_of_the_others(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    room.stop().await;
    let of = |user| Settlement { stored: None, ..settlement(&begin(user), "") };
    leave(&ground, &[of(user.id), of(fresh_id()), of(user.id)]).await;
    let room = ground.room().await;
    replayed_to(&ground, 2).await;
    replayed(&room).await;
    assert_eq!(room.db.lost_settlements(), 1, "nobody has such an account");
}

/// Waits until so many turns are complete.
async fn replayed_to(ground: &Ground, turns: i64) {
    let complete =
        async { while ground.count("SELECT count(*) FROM turns WHERE status = 'complete'").await < turns {} };
    timeout(PATIENCE, complete).await.unwrap();
}
