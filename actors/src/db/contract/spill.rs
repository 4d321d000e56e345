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
    assert_eq!((set_aside(&room), room.db.lost_settlements()), (1, 0), "nobody has such an account");
}

fn set_aside(room: &Running) -> u64 {
    room.db.metrics.spilled.set_aside.get()
}

/// As after the restore of a backup that was made before these turns.
pub(super) async fn ends_of_turns_that_the_database_never_knew_are_set_aside_and_not_lost(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (known, thrown_away, unknown) = (begin(user.id), begin(user.id), begin(user.id));
    for begun in [&known, &thrown_away] {
        room.db.begin_turn(begun.clone()).await.unwrap();
    }
    let conversation = stored(&thrown_away).conversation;
    room.db.delete_conversation(user.id, conversation, noon()).await.unwrap();
    purge_conversations(&room.db).await;
    room.stop().await;
    // Who was told that nothing begins has no text to lose.
    let refused = settlement(&begin(user.id), "");
    let ends = [
        settlement(&known, "in its row"),
        settlement(&thrown_away, "gone with its conversation"),
        settlement(&unknown, "in no row"),
        refused,
    ];
    leave(&ground, &ends).await;

    let room = ground.room().await;
    replayed_to(&ground, 3).await;
    replayed(&room).await;
    assert_eq!((set_aside(&room), room.db.lost_settlements()), (1, 0));
    let kept = "SELECT count(*) FROM messages WHERE content = 'in its row'";
    assert_eq!(ground.count(kept).await, 1);
    let spill = ground.config.data_dir.join("spill");
    let files: Vec<_> = std::fs::read_dir(&spill).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [refused] = &files[..] else { panic!("{files:?}") };
    assert_eq!(refused.extension().unwrap(), "refused");
    let bytes = std::fs::read(refused).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("in no row") && text.contains(&unknown.turn.to_string()), "{text}");
    assert!(!text.contains("in its row") && !text.contains("gone with"), "{text}");
    room.stop().await;

    // Given to the database that it is of, it is as good as any other.
    let room = ground.room().await;
    room.db.begin_turn(unknown.clone()).await.unwrap();
    room.stop().await;
    std::fs::rename(refused, refused.with_extension("spill")).unwrap();
    let room = ground.room().await;
    replayed_to(&ground, 4).await;
    let (_, answer) = room.db.turn(user.id, unknown.turn).await.unwrap().unwrap();
    assert_eq!(answer.content, "in no row");
}

/// Waits until so many turns are complete.
async fn replayed_to(ground: &Ground, turns: i64) {
    let complete =
        async { while ground.count("SELECT count(*) FROM turns WHERE status = 'complete'").await < turns {} };
    timeout(PATIENCE, complete).await.unwrap();
}
