//! Users who have as many turns running as may.

use super::*;

/// Takes the next turn, as a worker that is refused a stream for it does.
fn refuse(list: &Arc<WaitingList>) -> TurnId {
    let (job, running) = list.next(0).unwrap();
    let turn = job.turn;
    running.put_back(job);
    turn
}

/// Takes the next turn, begins it and ends it.
fn run(list: &Arc<WaitingList>) -> (UserId, TurnId) {
    let (job, mut running) = list.next(0).unwrap();
    let ran = (job.user, job.turn);
    running.begin();
    running.finished(cost(CHARGE));
    job.writer.end(End::Cancelled);
    ran
}

fn held(list: &WaitingList) -> usize {
    list.inner.lock().holds.len()
}

#[test]
fn c7_a_held_user_is_passed_over_and_goes_on_where_it_was() {
    let list = list(256, 64);
    let (ada, bob): (UserId, UserId) = (fresh_id(), fresh_id());
    let _readers: Vec<_> = [ada, ada, bob, bob].map(|user| add(&list, user)).into();
    let first = refuse(&list);
    assert_eq!((list.waiting(), list.places(), list.running()), (4, 4, 0));
    assert_eq!([run(&list).0, run(&list).0], [bob, bob]);
    assert!(list.next(0).is_none());
    assert_eq!(list.inner.lock().idle, [0]);

    list.retry(ada);
    assert!(list.inner.lock().idle.is_empty(), "its worker is called");
    assert_eq!(run(&list), (ada, first));
    assert_eq!(run(&list).0, ada, "the user is free again");
    assert_eq!((list.waiting(), list.places(), held(&list)), (0, 0, 0));
}

#[test]
fn c7_a_user_is_held_again_as_often_as_it_is_refused() {
    let list = list(256, 64);
    let ada = fresh_id();
    let _readers = [add(&list, ada), add(&list, ada)];
    let first = refuse(&list);
    for _ in 0..3 {
        assert!(list.next(0).is_none());
        list.retry(ada);
        assert_eq!(refuse(&list), first);
    }
    assert_eq!((list.waiting(), list.places()), (2, 2));
}

#[test]
fn c7_turns_come_back_in_their_order_whoever_brings_them_first() {
    let list = list_of(Limits { places: 256, per_user: 64, adaptive: false }, 3);
    let ada = fresh_id();
    let _readers: Vec<_> = (0..4).map(|_| add(&list, ada)).collect();
    let taken: Vec<_> = (0..3).map(|worker| list.next(worker).unwrap()).collect();
    let order: Vec<TurnId> = taken.iter().map(|(job, _)| job.turn).collect();
    for (job, running) in taken {
        running.put_back(job);
    }
    list.retry(ada);
    let ran: Vec<TurnId> = (0..4).map(|_| run(&list).1).collect();
    assert_eq!(ran[..3], order);
}

#[test]
fn c7_a_try_that_fails_is_free_of_charge() {
    let list = list(256, 64);
    let (ada, bob): (UserId, UserId) = (fresh_id(), fresh_id());
    let _adas: Vec<_> = (0..4).map(|_| add(&list, ada)).collect();
    for _ in 0..10 {
        refuse(&list);
        list.retry(ada);
    }
    let _bobs: Vec<_> = (0..4).map(|_| add(&list, bob)).collect();
    let served = [run(&list).0, run(&list).0];
    assert!(served.contains(&ada) && served.contains(&bob), "one each: {served:?}");
}

#[test]
fn c7_who_is_held_saves_nothing_up() {
    let list = list(256, 64);
    let (ada, bob): (UserId, UserId) = (fresh_id(), fresh_id());
    let _adas: Vec<_> = (0..10).map(|_| add(&list, ada)).collect();
    refuse(&list);
    let _bobs: Vec<_> = (0..20).map(|_| add(&list, bob)).collect();
    for _ in 0..10 {
        assert_eq!(run(&list).0, bob);
    }
    list.retry(ada);
    let adas = (0..6).map(|_| run(&list).0).filter(|user| *user == ada).count();
    assert!((3..=4).contains(&adas), "turn about from now on, not all that was missed at once: {adas} of 6");
}

#[test]
fn c7_held_turns_stand_last_and_are_not_told_of_tries_that_fail() {
    let list = list(256, 64);
    let (ada, bob) = (fresh_id(), fresh_id());
    let mut adas = [add(&list, ada), add(&list, ada)];
    refuse(&list);
    let mut bobs = [add(&list, bob), add(&list, bob)];
    assert_eq!(adas.each_mut().map(state), ["3", "4"]);
    assert_eq!(bobs.each_mut().map(state), ["1", "2"]);
    let mut late = add(&list, ada);
    assert_eq!(state(&mut late), "5");

    list.retry(ada);
    // Ada is not behind Bob now, and of two who are equal the older identity is first.
    refuse(&list);
    for reader in adas.iter_mut().chain(&mut bobs).chain([&mut late]) {
        assert_eq!(state(reader), "", "nothing has changed");
    }
    run(&list);
    assert_eq!(bobs.each_mut().map(state), ["cancelled", "1"]);
    assert_eq!(adas.each_mut().map(state), ["2", "3"]);
}

#[test]
fn c7_a_user_that_may_run_again_is_told_where_it_stands() {
    let list = list(256, 64);
    let ada = fresh_id();
    let mut readers = [add(&list, ada), add(&list, ada), add(&list, ada)];
    refuse(&list);
    list.retry(ada);
    assert_eq!(readers.each_mut().map(state), ["1", "2", "3"]);
    let (job, mut running) = list.next(0).unwrap();
    assert_eq!(state(&mut readers[1]), "", "not before it is certain");
    running.begin();
    assert_eq!([state(&mut readers[1]), state(&mut readers[2])], ["1", "2"]);
    drop(job);
}

#[test]
fn c7_held_turns_are_withdrawn_evicted_and_closed_like_others() {
    let list = list(3, 3);
    let (ada, bob) = (fresh_id(), fresh_id());
    let first = add(&list, ada);
    let mut others = [add(&list, ada), add(&list, ada)];
    refuse(&list);
    assert!(matches!(refusal(&list, ada, Interactive), Refusal::UserFull(_)), "it keeps its places");
    let mut newcomer = add(&list, bob);
    assert_eq!(state(&mut others[1]), "overloaded", "the longest backlog pays");
    drop(first);
    assert_eq!((list.waiting(), list.places(), held(&list)), (2, 2, 1));
    list.close(FailureCode::ServerShuttingDown);
    assert_eq!(state(&mut others[0]), "server_shutting_down");
    assert_eq!(state(&mut newcomer), "server_shutting_down");
    assert_eq!((list.waiting(), list.places(), held(&list)), (0, 0, 0));
}

#[test]
fn c7_nothing_is_held_of_a_user_without_a_turn() {
    let list = list(256, 64);
    let ada = fresh_id();
    let reader = add(&list, ada);
    refuse(&list);
    drop(reader);
    assert_eq!((list.places(), held(&list)), (0, 0), "its last turn left");

    let reader = add(&list, ada);
    refuse(&list);
    list.retry(ada);
    let (job, running) = list.next(0).unwrap();
    drop((job, running));
    assert_eq!((list.running(), held(&list)), (0, 0), "its worker died while it asked");
    drop(reader);

    let reader = add(&list, ada);
    let (job, running) = list.next(0).unwrap();
    drop(reader);
    running.put_back(job);
    assert_eq!(
        (list.waiting(), list.places(), held(&list)),
        (0, 0, 0),
        "its reader left while it was asked for"
    );
}

#[test]
fn c7_a_turn_that_comes_back_to_a_closed_list_ends() {
    let list = list(256, 64);
    let mut reader = add(&list, fresh_id());
    let (job, running) = list.next(0).unwrap();
    list.close(FailureCode::ServerShuttingDown);
    running.put_back(job);
    assert_eq!(state(&mut reader), "server_shutting_down");
    assert_eq!((list.running(), list.places()), (0, 0));
}

#[test]
fn c7_turns_of_a_held_user_wake_nobody() {
    let list = list(256, 64);
    let ada = fresh_id();
    let _first = add(&list, ada);
    refuse(&list);
    assert!(list.next(0).is_none());
    let _second = add(&list, ada);
    assert_eq!(list.inner.lock().idle, [0]);
    let _other = add(&list, fresh_id());
    assert!(list.inner.lock().idle.is_empty(), "others are taken as ever");
}

#[test]
fn c7_a_freed_user_calls_one_worker_after_the_other() {
    let list = list_of(Limits { places: 256, per_user: 64, adaptive: false }, 3);
    let ada = fresh_id();
    let _readers: Vec<_> = (0..5).map(|_| add(&list, ada)).collect();
    refuse(&list);
    for worker in 0..3 {
        assert!(list.next(worker).is_none());
    }
    list.retry(ada);
    let idle = || list.inner.lock().idle.len();
    assert_eq!(idle(), 2, "one sees whether one may run");
    let (_job, mut running) = list.next(2).unwrap();
    assert_eq!(idle(), 2);
    running.begin();
    assert_eq!(idle(), 1, "and then the next one whether one more may");
    let (job, running) = list.next(1).unwrap();
    running.put_back(job);
    assert_eq!(idle(), 1, "which ends it");
}

#[test]
fn d07_a_turn_that_may_not_run_beside_the_others_of_its_user_does_not_wait_while_the_service_stops() {
    let list = list(4, 4);
    list.stop_waiting(true);
    let mut reader = add(&list, fresh_id());
    refuse(&list);
    assert_eq!(state(&mut reader), "server_shutting_down");
    assert_eq!((list.places(), list.running()), (0, 0));
}

#[test]
fn c7_who_is_passed_over_is_ahead_of_nobody() {
    let list = list_of(Limits { places: 256, per_user: 64, adaptive: false }, 2);
    list.inner.lock().service.measured(30 * SECOND);
    let (ada, bob): (UserId, UserId) = (fresh_id(), fresh_id());
    let _adas: Vec<_> = (0..60).map(|_| add(&list, ada)).collect();
    refuse(&list);
    for priority in Priority::ALL {
        let soon = Some(Instant::now() + SECOND);
        assert!(list.reserve(bob, priority, soon).is_ok(), "both slots are free for {priority:?}");
    }
    assert_eq!(list.wait(), Some(Duration::ZERO));
}
