mod choice;
mod holds;
mod streams;

use super::{
    backlog::{CHARGE, COST_MIN},
    *,
};
use crate::{
    clock::fresh_id,
    handle::Slot,
    model::{
        provider::scripted::{Script, answer},
        server::ModelServer,
        turn::{Progress, Work},
    },
    reply::{Event, OnDisconnect, Outcome, ReplyBudget, ReplyReader, channel},
};
use Priority::{Batch, Interactive};
use domain::{
    chat::{ChatMessage, ChatRequest, Role},
    model_name::ModelName,
};
use proptest::prelude::*;
use std::task::{Context, Poll, Waker};

const SECOND: Duration = Duration::from_secs(1);

fn list(places: usize, per_user: usize) -> Arc<WaitingList> {
    list_of(Limits { places, per_user, adaptive: false }, 1)
}

fn list_of(limits: Limits, slots: usize) -> Arc<WaitingList> {
    let server = ModelServer::new(Script::new(&["m"], answer("x")).upstream(), "m".into());
    let stations = (0..slots).map(|_| station(&server)).collect();
    WaitingList::new(limits, stations, Arc::default())
}

fn station(server: &Arc<ModelServer>) -> Station {
    Station { bell: Bell::new(Slot::new(), || WorkerMessage::Wake), server: server.clone() }
}

fn job(user: UserId, priority: Priority, deadline: Option<Instant>) -> (Job, ReplyReader) {
    let (writer, reader) = channel(&ReplyBudget::new(1 << 20), 1 << 10, OnDisconnect::Cancel);
    let request = ChatRequest::new(ModelName::parse("m").unwrap(), vec![ChatMessage::text(Role::User, "hi")]);
    let progress = Arc::new(Progress::new(request.estimated_prompt_tokens()));
    let streams = 4;
    let _memory = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    let job = Job {
        carrier: crate::trace::Carrier::default(),
        waiting: crate::trace::Span::default(),
        turn: fresh_id(),
        user,
        priority,
        deadline,
        streams,
        work: Work::Chat(Box::new(request)),
        _memory,
        failed_at: None,
        stored: None,
        progress,
        writer,
    };
    (job, reader)
}

fn add(list: &Arc<WaitingList>, user: UserId) -> ReplyReader {
    add_to(list, user, Interactive)
}

fn add_to(list: &Arc<WaitingList>, user: UserId, priority: Priority) -> ReplyReader {
    let (job, reader) = job(user, priority, None);
    list.reserve(user, priority, None).unwrap().fill(job);
    reader
}

fn refusal(list: &Arc<WaitingList>, user: UserId, priority: Priority) -> Refusal {
    list.reserve(user, priority, None).err().expect("a refusal")
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
    running.finished(cost(CHARGE));
    let user = job.user;
    job.writer.end(End::Cancelled);
    user
}

fn cost(tokens: u64) -> Cost {
    Cost { tokens, service_time: SECOND, first_token: None }
}

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
        running.finished(cost(if job.user == costly { 768 } else { 256 }));
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
    assert!(matches!(refusal(&list, user, Interactive), Refusal::UserFull(_)));
    drop(reader);
    assert_eq!((list.waiting(), list.places()), (1, 1));
    assert_eq!(state(&mut second), "1");
}

#[test]
fn an_unfilled_place_is_given_back() {
    let list = list(1, 1);
    let user = fresh_id();
    let place = list.reserve(user, Interactive, None).unwrap();
    assert!(matches!(refusal(&list, fresh_id(), Interactive), Refusal::Full(_)));
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
    let refused = refusal(&list, modest, Interactive);
    assert!(matches!(refused, Refusal::Full(_)), "equal backlogs do not rob each other: {refused:?}");
}

#[test]
fn closing_ends_all_who_wait_and_refuses_newcomers() {
    let list = list(4, 4);
    let user = fresh_id();
    let mut reader = add(&list, user);
    list.close(FailureCode::ServerShuttingDown);
    assert_eq!(state(&mut reader), "server_shutting_down");
    assert_eq!(refusal(&list, user, Interactive), Refusal::Closed(FailureCode::ServerShuttingDown));
    assert_eq!(list.places(), 0);
}

/// Ends what `serve` gave out after as long as it says, on paused time.
async fn serve_for(list: &Arc<WaitingList>, time: Duration) -> UserId {
    let (job, running) = list.next(0).unwrap();
    tokio::time::advance(time).await;
    running.finished(Cost { service_time: time, ..cost(CHARGE) });
    let user = job.user;
    job.writer.end(End::Cancelled);
    user
}

/// A list of one slot whose turns are known to take `time`.
fn measured(places: usize, per_user: usize, time: Duration) -> Arc<WaitingList> {
    let list = list(places, per_user);
    list.inner.lock().service.measured(time);
    list
}

#[test]
fn no_batch_turn_is_given_out_while_an_interactive_one_waits() {
    let list = list(256, 64);
    let (batch, other): (UserId, UserId) = (fresh_id(), fresh_id());
    let _batch: Vec<_> = (0..16).map(|_| add_to(&list, batch, Batch)).collect();
    assert_eq!(serve(&list), batch);
    for _ in 0..5 {
        let _readers = [add(&list, other), add(&list, batch), add(&list, other)];
        let mut served: Vec<Priority> = Vec::new();
        for _ in 0..4 {
            let (job, running) = list.next(0).unwrap();
            served.push(job.priority);
            running.finished(cost(CHARGE));
            job.writer.end(End::Cancelled);
        }
        assert_eq!(served, [Interactive, Interactive, Interactive, Batch]);
    }
}

#[test]
fn places_in_line_and_expected_waits_count_the_class() {
    let list = measured(256, 64, SECOND);
    let (batch, other): (UserId, UserId) = (fresh_id(), fresh_id());
    let _in_the_slot = add(&list, batch);
    let (job, running) = list.next(0).unwrap();
    let mut first = add_to(&list, batch, Batch);
    let mut second = add_to(&list, batch, Batch);
    assert_eq!((state(&mut first), state(&mut second)), ("1".into(), "2".into()));
    let mut interactive = add(&list, other);
    let states = [&mut interactive, &mut first, &mut second].map(state);
    assert_eq!(states, ["1", "2", "3"]);
    assert_eq!(list.wait(), Some(2 * SECOND), "one interactive turn is ahead, batch turns do not count");
    running.finished(cost(CHARGE));
    job.writer.end(End::Cancelled);
}

#[test]
fn before_an_interactive_turn_the_longest_batch_backlog_pays() {
    let list = list(5, 5);
    let (long, short, other): (UserId, UserId, UserId) = (fresh_id(), fresh_id(), fresh_id());
    let mut longest: Vec<_> = (0..3).map(|_| add_to(&list, long, Batch)).collect();
    let mut shorter: Vec<_> = (0..2).map(|_| add_to(&list, short, Batch)).collect();
    let mut interactive: Vec<_> = (0..4).map(|_| add(&list, other)).collect();
    let ended: Vec<String> = longest.iter_mut().chain(&mut shorter).map(state).collect();
    assert_eq!(ended.iter().filter(|state| *state == "overloaded").count(), 4, "{ended:?}");
    assert_eq!(ended[2], "overloaded", "the newest of the longest is the first");
    let refused = refusal(&list, short, Batch);
    assert!(
        matches!(refused, Refusal::Full(_)),
        "a batch turn costs no interactive one its place: {refused:?}"
    );
    let _last = add(&list, fresh_id());
    assert_eq!(list.inner.lock().backlogs.waiting(), 5);
    let interactive: Vec<String> = interactive.iter_mut().map(state).collect();
    assert!(!interactive.contains(&"overloaded".to_owned()), "{interactive:?}");
}

#[test]
fn what_is_used_in_one_class_counts_in_the_other_up_to_a_debt() {
    let list = list(256, 256);
    let (heavy, light): (UserId, UserId) = (fresh_id(), fresh_id());
    for _ in 0..50 {
        let _reader = add(&list, heavy);
        let (job, running) = list.next(0).unwrap();
        running.finished(cost(100_000));
        job.writer.end(End::Cancelled);
    }
    let _light: Vec<_> = (0..100).map(|_| add_to(&list, light, Batch)).collect();
    let _heavy = add_to(&list, heavy, Batch);
    let waited = (0..).take_while(|_| serve(&list) == light).count();
    assert!((63..=65).contains(&waited), "sixty-four turns of debt, not five million tokens: {waited}");
}

#[tokio::test(start_paused = true)]
async fn d04_a_turn_that_cannot_start_before_its_deadline_is_refused_and_may_come_when_it_could() {
    let list = list(256, 64);
    let (ada, bob): (UserId, UserId) = (fresh_id(), fresh_id());
    let _adas: Vec<_> = (0..6).map(|_| add(&list, ada)).collect();
    let patience = || Some(Instant::now() + 15 * SECOND);
    drop(list.reserve(ada, Interactive, patience()).expect("nothing is measured yet, so nothing is known"));
    serve_for(&list, 10 * SECOND).await;
    let (job, running) = list.next(0).unwrap();
    // Of the four that wait two are done after the one that runs and another one, at 20 s.
    let refused = list.reserve(ada, Interactive, patience()).err();
    assert_eq!(refused, Some(Refusal::TooLate(35 * SECOND)), "five turns ahead take 50 s");
    drop(list.reserve(bob, Interactive, patience()).expect("by fairness only the running turn is ahead"));
    assert!(list.reserve(bob, Interactive, Some(Instant::now() + 9 * SECOND)).is_err(), "it takes 10 s");
    let batch = list.reserve(bob, Batch, patience()).err();
    assert_eq!(
        batch,
        Some(Refusal::TooLate(35 * SECOND)),
        "all are ahead, and nothing was promised meanwhile"
    );
    tokio::time::advance(10 * SECOND).await;
    running.finished(Cost { service_time: 10 * SECOND, ..cost(CHARGE) });
    job.writer.end(End::Cancelled);
    for _ in 0..3 {
        serve_for(&list, 10 * SECOND).await;
    }
    drop(list.reserve(ada, Interactive, patience()).expect("35 s later it can start in time"));
}

#[tokio::test(start_paused = true)]
async fn d04_a_turn_whose_deadline_passes_while_it_waits_is_never_given_out() {
    let list = list(256, 64);
    let user = fresh_id();
    let (job, mut late) = job(user, Interactive, Some(Instant::now() + SECOND));
    list.reserve(user, Interactive, job.deadline).unwrap().fill(job);
    let mut other = add(&list, user);
    tokio::time::advance(SECOND).await;
    let (given, _running) = list.next(0).unwrap();
    assert_eq!(given.deadline, None);
    assert_eq!((state(&mut late), state(&mut other)), ("deadline_exceeded".into(), "2".into()));
    assert_eq!((list.waiting(), list.places()), (0, 0));
    assert!(list.inner.lock().backlogs.places_of(user) == 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_the_list_full_is_told_when_there_will_be_a_place_and_finds_one_then() {
    let list = measured(8, 8, SECOND);
    let mut readers: Vec<_> = (0..8).map(|_| add(&list, fresh_id())).collect();
    let refused: Vec<UserId> = (0..3).map(|_| fresh_id()).collect();
    let told = |user: &UserId| match refusal(&list, *user, Interactive) {
        Refusal::Full(wait) => wait,
        other => panic!("{other:?}"),
    };
    let waits: Vec<u64> = refused.iter().map(|user| told(user).as_secs()).collect();
    assert_eq!(waits, [1, 3, 4], "one after another");
    let mut seconds = 0;
    for (user, wait) in refused.into_iter().zip(waits) {
        while seconds < wait {
            serve_for(&list, SECOND).await;
            seconds += 1;
            take_all_there_is(&list, fresh_id(), &mut readers);
        }
        let (job, reader) = job(user, Interactive, None);
        list.reserve(user, Interactive, None).expect("as promised").fill(job);
        readers.push(reader);
    }
}

fn take_all_there_is(list: &Arc<WaitingList>, user: UserId, readers: &mut Vec<ReplyReader>) {
    while let Ok(place) = list.reserve(user, Interactive, None) {
        let (job, reader) = job(user, Interactive, None);
        place.fill(job);
        readers.push(reader);
    }
}

#[test]
fn at_most_half_of_the_places_are_kept_for_those_who_were_promised_one() {
    let list = measured(8, 8, SECOND);
    let mut readers: Vec<_> = (0..8).map(|_| add(&list, fresh_id())).collect();
    for _ in 0..10 {
        refusal(&list, fresh_id(), Interactive);
    }
    for _ in 0..6 {
        serve(&list);
    }
    assert_eq!(list.places(), 2);
    take_all_there_is(&list, fresh_id(), &mut readers);
    assert_eq!(list.places(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_ran_empty_keeps_no_places() {
    let list = measured(4, 4, SECOND);
    let readers: Vec<_> = (0..4).map(|_| add(&list, fresh_id())).collect();
    refusal(&list, fresh_id(), Interactive);
    drop(readers);
    assert!(list.next(0).is_none());
    let _readers: Vec<_> = (0..4).map(|_| add(&list, fresh_id())).collect();
    assert!(matches!(refusal(&list, fresh_id(), Interactive), Refusal::Full(wait) if wait == SECOND));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_all_its_places_taken_is_told_when_its_own_next_turn_should_start() {
    let list = measured(256, 3, 10 * SECOND);
    let (ada, bob): (UserId, UserId) = (fresh_id(), fresh_id());
    let _bobs: Vec<_> = (0..3).map(|_| add(&list, bob)).collect();
    assert_eq!(serve_for(&list, 10 * SECOND).await, bob);
    let _adas: Vec<_> = (0..3).map(|_| add(&list, ada)).collect();
    let (job, _running) = list.next(0).unwrap();
    // Whoever it was, all of hers are taken again.
    let _third = (job.user == ada).then(|| add(&list, ada));
    let user_full = |user| match refusal(&list, user, Interactive) {
        Refusal::UserFull(wait) => wait.as_secs(),
        other => panic!("{other:?}"),
    };
    let own = {
        let inner = list.inner.lock();
        inner.backlogs.ahead_of_first(ada, &inner.holds).unwrap()
    };
    assert_eq!(user_full(ada), 10 * (own as u64 + 1));
    assert_eq!(user_full(ada), 10 * (own as u64 + 1) + 20, "of two users each starts a turn every 20 s");
}

#[test]
fn whoever_gives_way_is_told_when_to_come_back() {
    let list = measured(2, 2, 30 * SECOND);
    let (greedy, modest) = (fresh_id(), fresh_id());
    let mut readers = [add_to(&list, greedy, Batch), add_to(&list, greedy, Batch)];
    let _reader = add(&list, modest);
    let mut told = None;
    let cx = &mut Context::from_waker(Waker::noop());
    let _ = readers[1].poll_events(cx, &mut |event| {
        if let Event::Ended { ending, .. } = event {
            told = Some(ending.outcome.clone());
        }
    });
    let Some(Outcome::Failed { code: FailureCode::Overloaded, retry_after: Some(wait), .. }) = told else {
        panic!("{told:?}");
    };
    assert_eq!(wait, 30 * SECOND);
}

#[test]
fn d05_no_more_turns_are_given_out_than_the_limit_and_a_raised_one_lets_the_idle_go_on() {
    let limits = Limits { places: 256, per_user: 256, adaptive: true };
    let list = list_of(limits, 4);
    let user = fresh_id();
    let _readers: Vec<_> = (0..200).map(|_| add(&list, user)).collect();
    let mut running: [Option<Running>; 4] = [None, None, None, None];
    let mut rounds = |count: usize, first_token: u64| {
        for round in 0..count {
            let busy: Vec<usize> = (0..4).filter(|worker| running[*worker].is_some()).collect();
            if let Some(turn) = busy.get(round % 4).and_then(|worker| running[*worker].take()) {
                let first_token = Some(Duration::from_millis(first_token));
                turn.finished(Cost { first_token, ..cost(CHARGE) });
            }
            // Every worker that is neither at work nor asleep looks at the list: who just ended a turn, and whom the list woke.
            for (worker, turn) in running.iter_mut().enumerate() {
                if turn.is_none() && !list.inner.lock().idle.contains(&worker) {
                    *turn = list.next(worker).map(|(_, running)| running);
                }
            }
            let idle = list.inner.lock().idle.len();
            assert_eq!(list.running() + idle, 4);
            // Turns in hand when the limit falls are let go on.
            assert!(idle == 0 || list.running() == list.concurrency_limit());
        }
        list.concurrency_limit()
    };
    assert_eq!(rounds(40, 100), 4);
    let low = rounds(40, 400);
    assert!(low < 4, "answers that begin late lower it: {low}");
    assert_eq!(rounds(100, 100), 4, "and those who slept are at work again");
}

#[derive(Debug, Clone)]
enum Act {
    Add(usize, Priority),
    /// Takes a place and gives it back unfilled.
    TryPlace(usize),
    Hold(usize),
    LetGo(usize),
    Leave(usize),
    Serve(usize),
    Finish(usize, u64),
}

fn act() -> impl Strategy<Value = Act> {
    let priority = || prop_oneof![Just(Interactive), Just(Batch)];
    prop_oneof![
        6 => (0usize..5, priority()).prop_map(|(user, priority)| Act::Add(user, priority)),
        1 => (0usize..5).prop_map(Act::TryPlace),
        1 => (0usize..5).prop_map(Act::Hold),
        1 => (0usize..8).prop_map(Act::LetGo),
        2 => (0usize..32).prop_map(Act::Leave),
        3 => (0usize..3).prop_map(Act::Serve),
        3 => (0usize..3, 0u64..5_000).prop_map(|(worker, tokens)| Act::Finish(worker, tokens)),
    ]
}

/// What the list must always hold to.
fn check(list: &WaitingList, users: &[UserId], held: usize) {
    let inner = list.inner.lock();
    let (places, waiting) = (inner.backlogs.places(), inner.backlogs.waiting());
    assert_eq!(places, waiting + held, "a place leaked");
    assert!(places <= inner.limits.places && inner.running_here() <= inner.open_posts());
    assert_eq!(users.iter().map(|user| inner.backlogs.places_of(*user)).sum::<usize>(), places);
    assert!(users.iter().all(|user| inner.backlogs.places_of(*user) <= inner.limits.per_user));
    let line: Vec<(Priority, usize)> =
        inner.backlogs.positions(&inner.holds).map(|(job, position)| (job.priority, position)).collect();
    assert!(line.iter().map(|(_, position)| *position).eq(1..=waiting), "{line:?}");
    assert!(line.is_sorted_by_key(|(priority, _)| *priority), "a batch turn is ahead: {line:?}");
    for user in users {
        let first = inner.backlogs.positions(&inner.holds).find(|(job, _)| job.user == *user);
        assert_eq!(
            inner.backlogs.ahead_of_first(*user, &inner.holds).map(|ahead| ahead + 1),
            first.map(|(_, position)| position)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_no_place_leaks_and_everybody_stands_where_they_are_told(
        acts in prop::collection::vec(act(), 1..200),
    ) {
        let list = list_of(Limits { places: 12, per_user: 4, adaptive: false }, 3);
        let users: Vec<UserId> = (0..5).map(|_| fresh_id()).collect();
        let (mut readers, mut held) = (Vec::new(), Vec::new());
        let mut running: [Option<(Job, Running)>; 3] = [None, None, None];
        for act in acts {
            match act {
                Act::Add(user, priority) => {
                    if let Ok(place) = list.reserve(users[user], priority, None) {
                        let (job, reader) = job(users[user], priority, None);
                        place.fill(job);
                        readers.push(reader);
                    }
                }
                Act::TryPlace(user) => drop(list.reserve(users[user], Interactive, None)),
                Act::Hold(user) => held.extend(list.reserve(users[user], Batch, None)),
                Act::LetGo(index) if index < held.len() => drop(held.swap_remove(index)),
                Act::Leave(index) if index < readers.len() => drop(readers.swap_remove(index)),
                Act::Serve(worker) if running[worker].is_none() => {
                    let line: Vec<(TurnId, usize)> = {
                        let inner = list.inner.lock();
                        let line = inner.backlogs.positions(&inner.holds);
                        line.map(|(job, place)| (job.turn, place)).collect()
                    };
                    running[worker] = list.next(worker);
                    let given = running[worker].as_ref().map(|(job, _)| (job.turn, 1));
                    prop_assert_eq!(given, line.first().copied(), "the first in line is given out");
                }
                Act::Finish(worker, tokens) => {
                    if let Some((job, turn)) = running[worker].take() {
                        turn.finished(cost(tokens));
                        job.writer.end(End::Cancelled);
                    }
                }
                _ => {}
            }
            check(&list, &users, held.len());
        }
        drop((readers, held));
        prop_assert_eq!((list.places(), list.waiting()), (0, 0));
    }

    /// The theorem of start-time fair queueing: over any time in which two both wait, what they got differs by no more than
    /// the largest turn of each.
    #[test]
    fn whoever_waits_gets_as_much_as_any_other_who_waits_in_its_class(
        costs in prop::collection::vec(0u64..2_000, 100),
        users in 2usize..5,
        priority in prop_oneof![Just(Interactive), Just(Batch)],
    ) {
        let list = list(256, 256);
        let users: Vec<UserId> = (0..users).map(|_| fresh_id()).collect();
        let _readers: Vec<_> =
            (0..100).map(|turn| add_to(&list, users[turn % users.len()], priority)).collect();
        let mut got = vec![vec![0; users.len()]];
        for tokens in costs {
            if users.iter().any(|user| list.inner.lock().backlogs.places_of(*user) == 0) {
                break;
            }
            let (job, running) = list.next(0).unwrap();
            let mut now = got[got.len() - 1].clone();
            now[users.iter().position(|user| *user == job.user).unwrap()] += tokens.max(COST_MIN);
            got.push(now);
            running.finished(cost(tokens));
            job.writer.end(End::Cancelled);
        }
        for (from, start) in got.iter().enumerate() {
            for end in &got[from..] {
                let gains: Vec<u64> = end.iter().zip(start).map(|(end, start)| end - start).collect();
                let (most, least) = (gains.iter().max(), gains.iter().min());
                prop_assert!(most.unwrap() - least.unwrap() <= 2 * 2_000, "{gains:?}");
            }
        }
    }
}

#[test]
fn d07_when_the_service_stops_only_a_turn_whose_slot_is_free_is_served() {
    let list = list(4, 4);
    let user = fresh_id();
    let mut served = add(&list, user);
    let mut late = add(&list, user);
    let reserved = list.reserve(user, Interactive, None).unwrap();
    list.stop_waiting(true);
    assert_eq!((state(&mut served), state(&mut late)), ("1".into(), "server_shutting_down".into()));
    let (refused, mut reader) = job(user, Interactive, None);
    reserved.fill(refused);
    assert_eq!(state(&mut reader), "server_shutting_down", "there was no slot for it when it came");

    let (first, running) = list.next(0).unwrap();
    assert_eq!(refusal(&list, user, Interactive), Refusal::Closed(FailureCode::ServerShuttingDown));
    first.writer.end(End::Cancelled);
    drop(running);
    let _reader = add(&list, user);
    assert_eq!(refusal(&list, user, Interactive), Refusal::Closed(FailureCode::ServerShuttingDown));
    assert_eq!(serve(&list), user);
    assert_eq!(list.places(), 0);
}

#[test]
fn d07_when_the_service_stops_nobody_waits_for_a_server_that_is_away() {
    let list = list(4, 4);
    let mut waiting = add(&list, fresh_id());
    list.stop_waiting(false);
    assert_eq!(state(&mut waiting), "server_shutting_down");
}

#[test]
fn whoever_was_served_a_moment_ago_does_not_wait_behind_every_stranger_still_to_come() {
    const WAITING: usize = 10;
    let list = list(256, 64);
    let regular = fresh_id();
    let mut readers = Vec::new();
    let serve_cheaply = |list: &Arc<WaitingList>, readers: &mut Vec<ReplyReader>| {
        let (job, running) = list.next(0).unwrap();
        running.finished(cost(20));
        let user = job.user;
        job.writer.end(End::Cancelled);
        readers.push(add(list, fresh_id()));
        user
    };
    readers.push(add(&list, regular));
    readers.extend((1..WAITING).map(|_| add(&list, fresh_id())));
    while serve_cheaply(&list, &mut readers) != regular {}
    readers.push(add(&list, regular));
    let before = (0..20 * WAITING).take_while(|_| serve_cheaply(&list, &mut readers) != regular).count();
    assert!(before <= 2 * WAITING, "{before} strangers went first");
}
