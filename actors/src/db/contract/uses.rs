//! Sessions as their owner sees them: listed, ended, used, and known by where they came from.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    account::User,
    audit::AuditEvent,
    id::SessionId,
    session::{Ending, Network, Rotation, SESSIONS_PER_USER, Session},
};

use super::{ground::Ground, samples::*};
use crate::{
    clock::fresh_id,
    db::{DbError, DbHandle, Touched},
};

const IDLE: Duration = Duration::from_hours(14 * 24);

pub(super) async fn a12_live_sessions_are_listed_most_lately_used_first(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let now = noon() + TimeDelta::days(1);
    let start = |session: Session| {
        let entry = audit(AuditEvent::AuthnLoginSuccess, user.id);
        room.db.start_session(session, password_hash(), entry)
    };
    let used = some_session(&room.db, user.id).await;
    let unused = some_session(&room.db, user.id).await;
    let rested = Session { rotated_at: now - TimeDelta::days(14), ..session(user.id) };
    let expired = Session { expires_at: now, ..session(user.id) };
    for gone in [rested, expired] {
        start(gone).await.unwrap();
    }
    let ended = some_session(&room.db, user.id).await;
    let entry = audit(AuditEvent::SessionEnded, user.id);
    room.db.end_sessions(user.id, Ending::One(ended.id), noon(), entry).await.unwrap();
    some_session(&room.db, some_user(&room.db).await.id).await;
    room.db.touch(Touched { sessions: vec![(used.id, now)], keys: vec![] }).await.unwrap();

    let used = Session { last_used_at: now, ..used };
    assert_eq!(room.db.sessions(user.id, now, IDLE).await, Ok(vec![used, unused]));
}

pub(super) async fn a12_sessions_end_one_by_one_all_but_one_or_all(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let mut mine = Vec::new();
    for _ in 0..5 {
        mine.push(some_session(&room.db, user.id).await.id);
    }
    let foreign = some_session(&room.db, other.id).await;
    let end = |which| room.db.end_sessions(user.id, which, noon(), audit(AuditEvent::SessionEnded, user.id));
    assert_eq!(end(Ending::One(foreign.id)).await, Err(DbError::NotFound));
    assert_eq!(end(Ending::One(mine[0])).await, Ok(vec![mine[0]]));
    assert_eq!(end(Ending::One(mine[0])).await, Err(DbError::NotFound), "ended already");
    let mut ended = end(Ending::AllBut(mine[4])).await.unwrap();
    ended.sort();
    assert_eq!(ended, mine[1..4]);
    assert_eq!(end(Ending::All).await, Ok(vec![mine[4]]));
    assert_eq!(end(Ending::All).await, Ok(vec![]));
    assert_eq!(room.db.session(foreign.id).await, Ok(Some((foreign, other))));
    let entries = "SELECT count(*) FROM audit_log WHERE event = 'session_ended'";
    assert_eq!(ground.count(entries).await, 3);
}

pub(super) async fn one_session_too_many_ends_the_one_that_rested_longest(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let entry = || audit(AuditEvent::AuthnLoginSuccess, user.id);
    let mut sessions = Vec::new();
    for n in 0..SESSIONS_PER_USER {
        let at = noon() + TimeDelta::seconds(n as i64);
        sessions.push(Session { created_at: at, rotated_at: at, ..session(user.id) });
        assert_eq!(room.db.start_session(sessions[n].clone(), password_hash(), entry()).await, Ok(vec![]));
    }
    let now = noon() + TimeDelta::hours(1);
    // The oldest is in use.
    room.db.touch(Touched { sessions: vec![(sessions[0].id, now)], keys: vec![] }).await.unwrap();
    let another = || Session { created_at: now, rotated_at: now, ..session(user.id) };
    for rested in &sessions[1..3] {
        assert_eq!(room.db.start_session(another(), password_hash(), entry()).await, Ok(vec![rested.id]));
    }
    assert_eq!(room.db.sessions(user.id, now, IDLE).await.unwrap().len(), SESSIONS_PER_USER);
}

pub(super) async fn a06_a_network_is_known_by_the_sign_ins_from_it(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let session = some_session(&room.db, user.id).await;
    let knows = |user: &User, address: [u8; 4], since| {
        room.db.knows_network(user.email.clone(), Network::of(address.into()), since)
    };
    assert_eq!(knows(&user, [192, 0, 2, 1], noon()).await, Ok(true), "a neighbour of 192.0.2.77");
    assert_eq!(knows(&user, [192, 0, 3, 77], noon()).await, Ok(false), "another network");
    assert_eq!(knows(&other, [192, 0, 2, 77], noon()).await, Ok(false), "another account");
    let later = noon() + TimeDelta::seconds(1);
    assert_eq!(knows(&user, [192, 0, 2, 77], later).await, Ok(false), "too long ago");
    let entry = audit(AuditEvent::SessionEnded, user.id);
    room.db.end_sessions(user.id, Ending::One(session.id), noon(), entry).await.unwrap();
    assert_eq!(knows(&user, [192, 0, 2, 77], noon()).await, Ok(true), "though it has ended");
}

pub(super) async fn a_use_only_moves_forward_and_only_of_what_lives(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (live, dead) = (some_session(&room.db, user.id).await, some_session(&room.db, user.id).await);
    let (key, hash) = some_key(&room.db, user.id).await;
    let (revoked, revoked_hash) = some_key(&room.db, user.id).await;
    let entry = || audit(AuditEvent::AuthnTokenRevoked, user.id);
    room.db.end_sessions(user.id, Ending::One(dead.id), noon(), entry()).await.unwrap();
    room.db.revoke_api_key(None, revoked.id, noon(), entry()).await.unwrap();

    let at = |seconds| noon() + TimeDelta::seconds(seconds);
    for seconds in [60, 30] {
        let touched = Touched {
            sessions: vec![
                (live.id, at(seconds)),
                (live.id, at(seconds - 1)),
                (dead.id, at(seconds)),
                (fresh_id(), at(seconds)),
            ],
            keys: vec![(key.id, at(seconds)), (revoked.id, at(seconds))],
        };
        room.db.touch(touched).await.unwrap();
        assert_eq!(last_used(&room.db, live.id).await, at(60));
        assert_eq!(last_used(&room.db, dead.id).await, noon());
        let (key, _) = room.db.api_key(hash).await.unwrap().unwrap();
        assert_eq!(key.last_used_at, Some(at(60)));
        let (revoked, _) = room.db.api_key(revoked_hash).await.unwrap().unwrap();
        assert_eq!(revoked.last_used_at, None);
    }
    room.db.touch(Touched::default()).await.unwrap();
}

async fn last_used(db: &DbHandle, session: SessionId) -> DateTime<Utc> {
    db.session(session).await.unwrap().unwrap().0.last_used_at
}

pub(super) async fn a_session_from_before_it_had_a_device_is_read_well(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    some_session(&room.db, user.id).await;
    // What the first release wrote; the user's id serves as that of a session.
    let old = "INSERT INTO sessions (id, user_id, counter, created_at, rotated_at, expires_at)
               SELECT user_id, user_id, 3, created_at, rotated_at, expires_at FROM sessions";
    ground.execute(old).await.unwrap();
    let id = user.id.as_uuid().into();
    let expected = Session { id, counter: 3, device: None, address: None, ..session(user.id) };
    assert_eq!(room.db.session(id).await, Ok(Some((expected, user.clone()))));
    let rotated = room.db.rotate_session(rotation(&Session { id, ..session(user.id) }, 3, noon())).await;
    assert!(matches!(rotated, Ok(Rotation::Rotated { .. })), "{rotated:?}");
}
