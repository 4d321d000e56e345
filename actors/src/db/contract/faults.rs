//! Killing things on purpose.

use domain::audit::AuditEvent;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{ground::Ground, samples::*};
use crate::db::DbError;

pub(super) async fn a_killed_reader_fails_one_read_and_is_replaced(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (begun, has_begun) = oneshot::channel();
    let stuck = room.db.read::<(), _>(move |_| {
        Box::pin(async move {
            begun.send(()).unwrap();
            std::future::pending().await
        })
    });
    let kill = async {
        has_begun.await.unwrap();
        for worker in room.db.reads.slot().load().unwrap().get_children() {
            worker.kill();
        }
    };
    let (answer, ()) = tokio::join!(stuck, kill);
    assert!(matches!(answer, Err(DbError::Unavailable(_))), "{answer:?}");
    // All workers died, and all came back.
    let reads = join_all((0..20).map(|_| room.db.user(user.id))).await;
    assert!(reads.into_iter().all(|read| read == Ok(Some(user.clone()))));
    assert_eq!(room.db.reads.gate().in_use(), 0);
}

pub(super) async fn a_killed_writer_repeats_settlements_and_answers_everybody_else(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begun = begin(user.id);
    room.db.begin_turn(begun.clone()).await.unwrap();

    let hold = ground.hold_writes().await;
    let settled = settling(&room.db, settlement(&begun, "the answer"));
    // The same lane, so that one writer has both in hand.
    let begins =
        async { room.db.begin_turn(domain::turn::BeginTurn { turn: begun.turn, ..begin(user.id) }).await };
    let kill = async {
        room.lanes_taken().await;
        for lane in room.db.lanes.iter() {
            lane.bell().slot().load().unwrap().kill();
        }
    };
    let (answer, ()) = tokio::join!(begins, kill);
    assert!(matches!(answer, Err(DbError::Unavailable(_))), "{answer:?}");
    hold.release().await;

    assert_eq!(settled.await.unwrap(), Ok(()));
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE status = 'complete'").await, 1);
    let messages =
        room.db.history(user.id, stored(&begun).conversation, 10, u32::MAX).await.unwrap().unwrap();
    assert_eq!(messages[1].message.content, "the answer");
    assert!(room.db.lanes.iter().all(|lane| lane.in_use() == 0));
}

pub(super) async fn a_fault_in_a_batch_leaves_the_others_committed(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let first = begin(ada.id);
    room.db.begin_turn(first.clone()).await.unwrap();

    let hold = ground.hold_writes().await;
    // The writers are busy with these when the others arrive, which then share a transaction.
    let busy = join_all((0..16).map(|_| room.db.begin_turn(begin(ada.id))));
    let mixed = async {
        room.lanes_taken().await;
        let twice = domain::turn::BeginTurn { turn: first.turn, ..begin(ada.id) };
        let foreign = begin_in(eve.id, stored(&first).conversation);
        let stranger = begin(crate::clock::fresh_id());
        let good = join_all((0..16).map(|_| room.db.begin_turn(begin(ada.id))));
        let answers = async {
            tokio::join!(
                room.db.begin_turn(twice),
                room.db.begin_turn(foreign),
                room.db.begin_turn(stranger),
                good
            )
        };
        let (answers, ()) = tokio::join!(answers, hold.release());
        answers
    };
    let (busy, (twice, foreign, stranger, good)) = tokio::join!(busy, mixed);
    assert_eq!(twice, Err(DbError::Conflict("row")));
    assert_eq!(foreign, Err(DbError::NotFound));
    assert_eq!(stranger, Err(DbError::NotFound));
    assert!(busy.into_iter().chain(good).all(|answer| answer == Ok(domain::turn::Begun::New)));
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 33);
}

pub(super) async fn refusals_harm_nothing_beside_them(ground: Ground) {
    let room = ground.room().await;
    let admin = some_admin(&room.db).await;
    let hash = some_invite(&room.db, &invite()).await;
    let entry = || audit(AuditEvent::UserUpdated, admin.id);
    let stranger = crate::clock::fresh_id();
    let before = room.db.metrics.refused_transactions();
    let refused = async {
        let taken = || account(admin.email.as_str());
        tokio::join!(
            room.db.create_user(taken(), entry()),
            room.db.create_invited_user(taken(), hash, noon(), entry()),
            room.db.create_invited_user(account("bob@example.org"), some_hash(), noon(), entry()),
            room.db.delete_user(admin.id, noon(), entry()),
            room.db.set_password(password(stranger, "second")),
            room.db.start_session(session(stranger), password_hash(), entry()),
            room.db.create_api_key(api_key(stranger), some_hash(), entry()),
            room.db.revoke_api_key(None, crate::clock::fresh_id(), noon(), entry()),
        )
    };
    let good = join_all((0..32).map(|_| room.db.begin_turn(begin(admin.id))));
    let (refused, good) = tokio::join!(refused, good);
    assert_eq!(refused.0, Err(DbError::Conflict("e-mail")));
    assert_eq!(refused.1, Err(DbError::Conflict("e-mail")));
    assert_eq!(refused.2, Err(DbError::NotFound));
    assert_eq!(refused.3, Err(DbError::Conflict("last administrator")));
    assert_eq!(refused.4, Err(DbError::NotFound));
    assert_eq!(refused.5, Err(DbError::NotFound));
    assert_eq!(refused.6, Err(DbError::NotFound));
    assert_eq!(refused.7, Err(DbError::NotFound));
    assert!(good.iter().all(Result::is_ok));
    assert_eq!(room.db.metrics.refused_transactions(), before, "no transaction was begun twice");
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'user_updated'").await, 0);
}

pub(super) async fn many_callers_share_few_commits(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let before = room.db.metrics.commits();
    let answers = join_all((0..64).map(|_| room.db.begin_turn(begin(user.id)))).await;
    assert!(answers.iter().all(Result::is_ok));
    let commits = room.db.metrics.commits() - before;
    assert!(commits <= 12, "64 turns took {commits} commits");
    assert_eq!(ground.count("SELECT count(*) FROM messages").await, 128);
}

pub(super) async fn e1_callers_that_leave_lose_nothing_of_others(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let mut acknowledged = 0;
    for patience in 0..200 {
        let leaves = room.db.begin_turn(begin(user.id));
        let mut polls = patience % 20;
        // Gives up after some number of turns of the runtime, wherever the transaction stands then.
        let leave = async {
            while polls > 0 {
                polls -= 1;
                tokio::task::yield_now().await;
            }
        };
        let stays = room.db.begin_turn(begin(user.id));
        let (left, stayed) = tokio::join!(
            async {
                tokio::select! { biased; () = leave => false, answer = leaves => answer.is_ok() }
            },
            stays
        );
        acknowledged += i64::from(left) + i64::from(stayed.is_ok());
        assert_eq!(stayed, Ok(domain::turn::Begun::New));
    }
    assert!(ground.count("SELECT count(*) FROM turns").await >= acknowledged);
    if ground.config.database_url.is_some() {
        let idle = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        assert_eq!(ground.count(idle).await, 0);
    }
    assert!(room.db.lanes.iter().all(|lane| lane.in_use() == 0));
}
