use std::time::Duration;

use super::*;
use crate::{clock::fresh_id, handle::Gate};

fn carrier(name: &str) -> Carrier {
    Carrier::new(Errand::new(name, "192.0.2.1".parse().unwrap()), &Span::default())
}

fn named() -> Option<String> {
    with_current(|errand, _| errand.request_id().to_owned())
}

#[tokio::test(start_paused = true)]
async fn work_knows_its_request_wherever_it_is_taken_and_nobody_else_does() {
    let work = async |wanted: &str| {
        for _ in 0..3 {
            assert_eq!(named().as_deref(), Some(wanted));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (one, other) = (carrier("one"), carrier("other"));
    let outside = async {
        for _ in 0..3 {
            assert_eq!(named(), None);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(one.around(work("one")), other.around(work("other")), outside);
    assert_eq!(named(), None);
}

#[test]
fn a_permit_tells_the_actor_whom_the_message_is_for() {
    let gate = Gate::new("told", 2);
    let permit = {
        let _entered = carrier("r-1").enter();
        gate.try_enter().unwrap()
    };
    assert_eq!(permit.carrier().errand().map(Errand::request_id), Some("r-1"));
    let nobodys = gate.try_enter().unwrap();
    assert!(nobodys.carrier().errand().is_none());
}

#[test]
fn what_is_learnt_of_a_request_is_known_by_everybody_who_works_for_it() {
    let carrier = carrier("r-1");
    let user = fresh_id();
    {
        let _entered = carrier.clone().enter();
        with_current(|errand, trace| {
            errand.is_for(user);
            assert_eq!(trace, None);
        });
    }
    assert_eq!(carrier.errand().and_then(Errand::user), Some(user));
    carrier.errand().unwrap().is_for(fresh_id());
    assert_eq!(carrier.errand().and_then(Errand::user), Some(user), "the first word counts");
}

#[test]
fn where_nobody_records_spans_are_empty_and_nothing_is_told_upstream() {
    let root = Span::root(None, || unreachable!("nobody wants the name"));
    let carrier = Carrier::new(Errand::new("r-1", "192.0.2.1".parse().unwrap()), &root);
    let _entered = carrier.enter();
    let span = Span::named(|| unreachable!("nobody wants the name"));
    assert!(!span.is_recorded() && !carrier.is_recorded());
    let mut headers = http::HeaderMap::new();
    tell_upstream(&mut headers);
    assert!(headers.is_empty(), "{headers:?}");
}
