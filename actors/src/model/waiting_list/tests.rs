use super::*;
use crate::{
    clock::fresh_id,
    handle::Slot,
    model::turn::Progress,
    reply::{Event, OnDisconnect, Outcome, ReplyBudget, ReplyReader, channel},
};
use domain::{
    chat::{ChatMessage, ChatRequest, Role, Sampling},
    model_name::ModelName,
};
use std::task::{Context, Poll, Waker};

fn list(places: usize, per_user: usize) -> Arc<WaitingList> {
    WaitingList::new(Limits { places, per_user }, vec![Bell::new(Slot::new(), || WorkerMessage::Wake)])
}

fn job(user: UserId) -> (Job, ReplyReader) {
    let (writer, reader) = channel(&ReplyBudget::new(1 << 20), 1 << 10, OnDisconnect::Cancel);
    let request = ChatRequest {
        model: ModelName::parse("m").unwrap(),
        messages: vec![ChatMessage::text(Role::User, "hi")],
        sampling: Sampling::default(),
        tools: Vec::new(),
        format: None,
        think: None,
    };
    let progress = Arc::new(Progress::new(&request));
    (Job { turn: fresh_id(), user, request, stored: None, progress, writer }, reader)
}

fn add(list: &Arc<WaitingList>, user: UserId) -> ReplyReader {
    let (job, reader) = job(user);
    list.reserve(user).unwrap().fill(job);
    reader
}

/// What the reader has seen last: its position, or how it ended.
fn state(reader: &mut ReplyReader) -> String {
    let mut state = String::new();
    while let Poll::Ready(ended) =
        reader.poll_events(&mut Context::from_waker(Waker::noop()), &mut |event| match event {
            Event::Queued(notice) => state = notice.position.to_string(),
            Event::Ended { ending, .. } => {
                state = match &ending.outcome {
                    Outcome::Failed { code, .. } => code.as_str().to_owned(),
                    Outcome::Complete(_) => "complete".to_owned(),
                }
            }
            _ => {}
        })
    {
        if ended {
            break;
        }
    }
    state
}

fn serve(list: &Arc<WaitingList>) -> UserId {
    let (job, running) = list.next(0).unwrap();
    running.finished(CHARGE_OF_A_TURN, Duration::from_secs(1));
    let user = job.user;
    job.writer.end(End::Cancelled);
    user
}

const CHARGE_OF_A_TURN: u64 = 256;

#[test]
fn a_newcomer_does_not_wait_behind_anothers_backlog() {
    let list = list(256, 64);
    let (greedy, modest): (UserId, UserId) = (fresh_id(), fresh_id());
    let _greedy: Vec<_> = (0..60).map(|_| add(&list, greedy)).collect();
    for _ in 0..3 {
        assert_eq!(serve(&list), greedy);
    }
    for _ in 0..5 {
        let _reader = add(&list, modest);
        let served: Vec<UserId> = (0..2).map(|_| serve(&list)).collect();
        assert!(served.contains(&modest), "a turn of the modest user starts within two service times");
    }
}

#[test]
fn users_take_turns_weighted_by_what_their_turns_cost() {
    let list = list(256, 64);
    let (costly, cheap): (UserId, UserId) = (fresh_id(), fresh_id());
    let _readers: Vec<_> = (0..40).map(|i| add(&list, if i % 2 == 0 { costly } else { cheap })).collect();
    let mut served = [0, 0];
    for _ in 0..20 {
        let (job, running) = list.next(0).unwrap();
        running.finished(if job.user == costly { 768 } else { 256 }, Duration::from_secs(1));
        served[usize::from(job.user == cheap)] += 1;
        job.writer.end(End::Cancelled);
    }
    assert!((4..=6).contains(&served[0]), "three times the cost, a third of the turns: {served:?}");
}

#[test]
fn those_who_wait_are_told_where_they_stand() {
    let list = list(256, 64);
    let (one, two) = (fresh_id(), fresh_id());
    let mut first = add(&list, one);
    let mut second = add(&list, one);
    let mut other = add(&list, two);
    assert_eq!(
        (state(&mut first), state(&mut other), state(&mut second)),
        ("1".into(), "2".into(), "3".into())
    );
    serve(&list);
    assert_eq!((state(&mut other), state(&mut second)), ("1".into(), "2".into()));
}

#[test]
fn a_caller_that_leaves_frees_its_place_at_once() {
    let list = list(2, 2);
    let user = fresh_id();
    let reader = add(&list, user);
    let mut second = add(&list, user);
    assert_eq!(list.reserve(user).err(), Some(Refusal::UserFull));
    drop(reader);
    assert_eq!((list.waiting(), list.places()), (1, 1));
    assert_eq!(state(&mut second), "1");
}

#[test]
fn an_unfilled_place_is_given_back() {
    let list = list(1, 1);
    let user = fresh_id();
    let place = list.reserve(user).unwrap();
    assert_eq!(list.reserve(fresh_id()).err(), Some(Refusal::Full));
    drop(place);
    assert_eq!(list.places(), 0);
}

#[test]
fn when_full_the_newest_turn_of_the_longest_backlog_gives_way() {
    let list = list(4, 4);
    let (greedy, modest) = (fresh_id(), fresh_id());
    let mut readers: Vec<_> = (0..4).map(|_| add(&list, greedy)).collect();
    let mut reader = add(&list, modest);
    assert_eq!(state(&mut readers[3]), "overloaded");
    assert_eq!(state(&mut reader), "2");
    let _second = add(&list, modest);
    assert_eq!(list.reserve(modest).err(), Some(Refusal::Full), "equal backlogs do not rob each other");
}

#[test]
fn closing_ends_all_who_wait_and_refuses_newcomers() {
    let list = list(4, 4);
    let user = fresh_id();
    let mut reader = add(&list, user);
    list.close(FailureCode::ServerShuttingDown);
    assert_eq!(state(&mut reader), "server_shutting_down");
    assert_eq!(list.reserve(user).err(), Some(Refusal::Closed(FailureCode::ServerShuttingDown)));
    assert_eq!(list.places(), 0);
}

#[test]
fn retry_after_follows_the_measured_service_time() {
    let list = list(4, 4);
    let user = fresh_id();
    let _readers: Vec<_> = (0..4).map(|_| add(&list, user)).collect();
    serve(&list);
    for _ in 0..60 {
        list.inner.lock().service.measured(Duration::from_secs(10));
    }
    let wait = list.retry_after();
    assert!((Duration::from_secs(29)..=Duration::from_secs(31)).contains(&wait), "{wait:?}");
}
