//! The audit trail, written and read.

use chrono::TimeDelta;
use domain::{
    audit::{AuditEntry, AuditEvent, AuditFilter},
    id::UserId,
};

use super::{ground::Ground, samples::*};
use crate::clock::fresh_id;

pub(super) async fn a19_the_audit_trail_cannot_be_altered(ground: Ground) {
    let room = ground.room().await;
    some_user(&room.db).await;
    for change in ["UPDATE audit_log SET event = 'nothing'", "DELETE FROM audit_log"] {
        let error = ground.execute(change).await.unwrap_err();
        assert!(error.contains("append-only"), "{error}");
    }
    assert_eq!(ground.count("SELECT count(*) FROM audit_log WHERE event = 'user_created'").await, 1);
}

pub(super) async fn a19_every_event_is_noted_and_read_back(ground: Ground) {
    let room = ground.room().await;
    let mut noted: Vec<_> = AuditEvent::ALL.map(|event| audit(event, fresh_id())).into();
    noted[0] = AuditEntry { detail: Some("chat models".into()), ..noted[0].clone() };
    noted[1] = AuditEntry { actor: None, user: None, address: None, request_id: None, ..noted[1].clone() };
    noted[2] = AuditEntry { address: Some("2001:db8::7".parse().unwrap()), ..noted[2].clone() };
    for entry in &noted {
        room.db.note(entry.clone());
    }
    noted.reverse();
    // A room that stops writes what waits.
    room.stop().await;
    let room = ground.room().await;
    let first = room.db.audit(AuditFilter::default(), None, 10).await.unwrap();
    assert_eq!(first.items, noted[..10]);
    let rest = room.db.audit(AuditFilter::default(), first.next.map(Into::into), 90).await.unwrap();
    assert_eq!((rest.items, rest.next), (noted[10..].to_vec(), None));
}

pub(super) async fn a_filter_lets_through_what_matches_all_of_it(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve): (UserId, UserId) = (fresh_id(), fresh_id());
    let base = audit(AuditEvent::AuthnLoginFail, ada);
    let entries = [
        base.clone(),
        AuditEntry { id: fresh_id(), event: AuditEvent::AuthzFail, ..base.clone() },
        AuditEntry { id: fresh_id(), actor: Some(eve), ..base.clone() },
        AuditEntry { id: fresh_id(), user: Some(eve), ..base.clone() },
        AuditEntry { id: fresh_id(), address: Some([198, 51, 100, 1].into()), ..base.clone() },
        AuditEntry { id: fresh_id(), at: noon() - TimeDelta::hours(1), ..base.clone() },
        AuditEntry { id: fresh_id(), at: noon() + TimeDelta::hours(1), ..base.clone() },
    ];
    for entry in &entries {
        room.db.note(entry.clone());
    }
    room.stop().await;
    let room = ground.room().await;
    let all = AuditFilter::default;
    let one = AuditFilter {
        event: Some(base.event),
        actor: base.actor,
        user: base.user,
        address: base.address,
        since: Some(base.at),
        until: Some(base.at + TimeDelta::seconds(1)),
    };
    for (filter, expected) in [
        (one, vec![0]),
        (AuditFilter { event: Some(AuditEvent::AuthzFail), ..all() }, vec![1]),
        (AuditFilter { actor: Some(eve), ..all() }, vec![2]),
        (AuditFilter { user: Some(eve), ..all() }, vec![3]),
        (AuditFilter { address: entries[4].address, ..all() }, vec![4]),
        (AuditFilter { until: Some(noon()), ..all() }, vec![5]),
        (AuditFilter { since: Some(entries[6].at), ..all() }, vec![6]),
        (AuditFilter { user: Some(eve), event: Some(AuditEvent::AuthzFail), ..all() }, vec![]),
        (all(), vec![6, 5, 4, 3, 2, 1, 0]),
    ] {
        let asked = format!("{filter:?}");
        let found = room.db.audit(filter, None, 100).await.unwrap().items;
        let expected: Vec<_> = expected.into_iter().map(|n: usize| entries[n].clone()).collect();
        assert_eq!(found, expected, "{asked}");
    }
}
