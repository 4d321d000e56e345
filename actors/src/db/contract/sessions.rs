//! Sign-ins and the refresh rule.

use chrono::TimeDelta;
use domain::session::Rotation;
use futures_util::future::join_all;
use proptest::{prelude::Strategy, strategy::ValueTree, test_runner::TestRunner};

use super::{ground::Ground, samples::*};
use crate::clock::fresh_id;

pub(super) async fn a_session_is_read_back_with_its_user(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    assert_eq!(room.db.session(session.id).await.unwrap(), Some((session, user)));
    assert_eq!(room.db.session(fresh_id()).await.unwrap(), None);
}

pub(super) async fn a10_fifty_parallel_rotations_make_one_successor(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    let now = noon() + TimeDelta::minutes(5);
    let answers = join_all((0..50).map(|_| room.db.rotate_session(rotation(&session, 0, now)))).await;
    let mut rotated = 0;
    for answer in answers {
        match answer.unwrap() {
            Rotation::Rotated { session, .. } => {
                rotated += 1;
                assert_eq!(session.counter, 1);
            }
            Rotation::Repeated { session, .. } => assert_eq!(session.counter, 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rotated, 1);
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'authn_token_reuse'").await, 0);
}

pub(super) async fn a11_the_direct_parent_repeats_within_the_grace_and_is_reuse_after_it(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    let rotated = room.db.rotate_session(rotation(&session, 0, noon())).await.unwrap();
    let Rotation::Rotated { session: successor, user: owner } = rotated else { panic!("{rotated:?}") };
    assert_eq!((successor.counter, successor.rotated_at, owner), (1, noon(), user.clone()));

    let late = noon() + TimeDelta::seconds(10);
    let repeated = room.db.rotate_session(rotation(&session, 0, late)).await.unwrap();
    assert_eq!(repeated, Rotation::Repeated { session: successor.clone(), user: user.clone() });

    let too_late = noon() + TimeDelta::seconds(11);
    assert_eq!(
        room.db.rotate_session(rotation(&session, 0, too_late)).await,
        Ok(Rotation::Reused { user: user.id })
    );
    assert_eq!(room.db.rotate_session(rotation(&session, 1, too_late)).await, Ok(Rotation::Dead));
    let (dead, _) = room.db.session(session.id).await.unwrap().unwrap();
    assert_eq!(dead.revoked_at, Some(too_late));
}

pub(super) async fn a10_an_older_token_revokes_the_family_and_is_audited_once(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    for counter in 0..2 {
        let rotated = room.db.rotate_session(rotation(&session, counter, noon())).await.unwrap();
        assert!(matches!(rotated, Rotation::Rotated { .. }), "{rotated:?}");
    }
    // The grandparent, well within the grace of its child.
    let answers = join_all((0..10).map(|_| room.db.rotate_session(rotation(&session, 0, noon())))).await;
    let reused = answers.iter().filter(|answer| **answer == Ok(Rotation::Reused { user: user.id })).count();
    let dead = answers.iter().filter(|answer| **answer == Ok(Rotation::Dead)).count();
    assert_eq!((reused, dead), (1, 9));
    assert_eq!(room.db.rotate_session(rotation(&session, 2, noon())).await, Ok(Rotation::Dead));
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'authn_token_reuse'").await, 1);
}

pub(super) async fn a10_idle_expired_unknown_and_future_tokens_are_dead(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    let rotate = |counter, now| room.db.rotate_session(rotation(&session, counter, now));
    assert_eq!(rotate(0, noon() + TimeDelta::days(14)).await, Ok(Rotation::Dead), "idle");
    assert_eq!(rotate(0, noon() + TimeDelta::days(30)).await, Ok(Rotation::Dead), "expired");
    assert_eq!(rotate(1, noon()).await, Ok(Rotation::Dead), "a counter that was never given out");
    let mut unknown = rotation(&session, 0, noon());
    unknown.session = fresh_id();
    assert_eq!(room.db.rotate_session(unknown).await, Ok(Rotation::Dead));
    // None of these did any harm.
    assert!(matches!(rotate(0, noon() + TimeDelta::days(13)).await, Ok(Rotation::Rotated { .. })));
}

pub(super) async fn a12_a_session_of_a_disabled_user_is_dead(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let session = some_session(&room.db, user.id).await;
    ground.execute("UPDATE users SET disabled = TRUE").await.unwrap();
    assert_eq!(room.db.rotate_session(rotation(&session, 0, noon())).await, Ok(Rotation::Dead));
    let (session, user) = room.db.session(session.id).await.unwrap().unwrap();
    assert!(user.disabled);
    assert_eq!(session.counter, 0);
}

/// Plays random tokens at random times against a model of the rule.
pub(super) async fn a10_random_rotations_never_leave_two_live_successors(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec((0u32..4, 0i64..15), 12);
    for _ in 0..16 {
        let played = steps.new_tree(&mut runner).unwrap().current();
        let session = some_session(&room.db, user.id).await;
        let (mut live, mut rotated_at, mut is_revoked, mut now) = (0, noon(), false, noon());
        for (age, seconds) in played {
            now += TimeDelta::seconds(seconds);
            let counter = u32::saturating_sub(live, age);
            let answer = room.db.rotate_session(rotation(&session, counter, now)).await.unwrap();
            match answer {
                Rotation::Rotated { session, .. } => {
                    assert!(!is_revoked && counter == live);
                    live += 1;
                    rotated_at = now;
                    assert_eq!(session.counter, live);
                }
                Rotation::Repeated { session, .. } => {
                    assert!(!is_revoked && counter + 1 == live && now - rotated_at <= TimeDelta::seconds(10));
                    assert_eq!(session.counter, live, "the same successor, not another");
                }
                Rotation::Reused { .. } => {
                    assert!(!is_revoked && counter < live);
                    is_revoked = true;
                }
                Rotation::Dead => assert!(is_revoked),
            }
        }
    }
}
