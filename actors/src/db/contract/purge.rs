//! What nobody needs any more goes, a bounded step at a time.

use chrono::TimeDelta;
use domain::{
    audit::AuditEvent,
    session::{Ending, Network, Session},
};

use super::{ground::Ground, samples::*};
use crate::db::DbError;

pub(super) async fn sessions_are_purged_long_after_their_end_and_familiar_networks_stay(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let before = noon() + TimeDelta::days(1);
    let mut started = Vec::new();
    // Expired before and after, ended before and after, alive.
    for (expires, ends) in [(0, None), (2, None), (60, Some(0)), (60, Some(2)), (60, None)] {
        let session = Session { expires_at: noon() + TimeDelta::days(expires), ..session(user.id) };
        let entry = audit(AuditEvent::AuthnLoginSuccess, user.id);
        room.db.start_session(session.clone(), password_hash(), entry).await.unwrap();
        if let Some(days) = ends {
            let (at, entry) = (noon() + TimeDelta::days(days), audit(AuditEvent::SessionEnded, user.id));
            room.db.end_sessions(user.id, Ending::One(session.id), at, entry).await.unwrap();
        }
        started.push(session.id);
    }
    for purged in [1, 1, 0] {
        assert_eq!(room.db.purge_sessions(before, 1).await, Ok(purged));
    }
    let mut left = Vec::new();
    for id in &started {
        left.push(room.db.session(*id).await.unwrap().is_some());
    }
    assert_eq!(left, [false, true, false, true, true]);

    // Whoever signed in since is known, whatever became of the session.
    let recent = Session { created_at: before, address: Some([198, 51, 100, 7].into()), ..session(user.id) };
    let entry = || audit(AuditEvent::AuthnLoginSuccess, user.id);
    room.db.start_session(recent.clone(), password_hash(), entry()).await.unwrap();
    room.db.end_sessions(user.id, Ending::One(recent.id), before, entry()).await.unwrap();
    assert_eq!(room.db.purge_sessions(before, 1_000).await, Ok(0));
    let network = Network::of([198, 51, 100, 7].into());
    assert_eq!(room.db.knows_network(user.email.clone(), network, before).await, Ok(true));
}

pub(super) async fn a_deleted_account_of_20_000_messages_goes_in_bounded_steps(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let begun = begin(user.id);
    room.db.begin_turn(begun.clone()).await.unwrap();
    let random = if ground.config.database_url.is_some() { "gen_random_uuid()" } else { "randomblob(16)" };
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <";
    for sql in [
        format!(
            "{many} 20000) INSERT INTO messages (id, conversation_id, turn_id, role, content, status, created_at)
             SELECT {random}, conversation_id, turn_id, role, content, status, created_at
             FROM messages, n WHERE role = 'user'"
        ),
        format!(
            "{many} 3000) INSERT INTO turns (id, user_id, conversation_id, model, status, created_at)
             SELECT {random}, user_id, conversation_id, model, 'complete', created_at FROM turns, n"
        ),
    ] {
        ground.execute(&sql).await.unwrap();
    }
    room.db.begin_turn(begin(other.id)).await.unwrap();
    assert_eq!(room.db.purge_conversations().await, Ok(0), "nobody is deleted");

    room.db.delete_user(user.id, noon(), audit(AuditEvent::UserDeleted, user.id)).await.unwrap();
    let again = begin_in(user.id, stored(&begun).conversation);
    assert_eq!(room.db.begin_turn(again).await, Err(DbError::NotFound), "though it is still there");
    assert_eq!(room.db.purge_conversations().await, Ok(2_000));
    // What a crash leaves is found by whoever comes next.
    room.stop().await;
    let room = ground.room().await;
    loop {
        match room.db.purge_conversations().await.unwrap() {
            0 => break,
            rows => assert!(rows <= 2_000, "{rows} rows in one transaction"),
        }
    }
    assert_eq!(ground.count("SELECT count(*) FROM conversations").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM messages").await, 2);
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE conversation_id IS NULL").await, 3_001);
}
