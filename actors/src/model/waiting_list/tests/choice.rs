//! Which slot takes which turn, where a model is on several servers.

use std::collections::BTreeMap;

use domain::id::ConversationId;

use super::*;
use crate::model::{provider::UpstreamError, turn::FailedTry, upstream::Upstream};

const LIMITS: Limits = Limits { places: 4_096, per_user: 4_096, adaptive: false };

/// A model on two servers with slots of their own: the first ones on `near`, the rest on `far`.
struct Fleet {
    list: Arc<WaitingList>,
    near: Arc<Upstream>,
    far: Arc<Upstream>,
    slots: usize,
}

impl Fleet {
    fn new(weights: [u32; 2], slots: usize) -> Self {
        let [near, far] = [("near", weights[0]), ("far", weights[1])].map(|(name, weight)| {
            Script::new(&["m"], answer("x")).upstream_with(|rules| {
                (rules.name, rules.weight, rules.breaker_failures) = (name.into(), weight, 1);
            })
        });
        let stations = [&near, &far].into_iter().flat_map(|host| {
            let server = ModelServer::new(host.clone(), "m".into());
            (0..slots).map(move |_| station(&server))
        });
        let list = WaitingList::new(LIMITS, stations.collect(), Arc::default());
        Self { list, near, far, slots }
    }

    /// Has both hold the model.
    async fn load(&self) {
        load(&self.near).await;
        load(&self.far).await;
    }

    fn slots_of(&self, host: &Arc<Upstream>) -> std::ops::Range<usize> {
        if Arc::ptr_eq(host, &self.near) { 0..self.slots } else { self.slots..2 * self.slots }
    }

    /// Lets all workers look, so that those who find nothing are idle, and gives what they found.
    fn look(&self) -> BTreeMap<usize, (Job, Running)> {
        (0..2 * self.slots).filter_map(|slot| Some((slot, self.list.next(slot)?))).collect()
    }

    /// Where a turn of this user and conversation goes while all slots are free.
    fn goes_to(&self, user: UserId, conversation: Option<ConversationId>) -> &Arc<Upstream> {
        let _reader = self.add(user, conversation, None);
        let (slot, (job, running)) = self.look().pop_first().expect("somebody takes it");
        running.finished(cost(CHARGE));
        job.writer.end(End::Cancelled);
        if self.slots_of(&self.near).contains(&slot) { &self.near } else { &self.far }
    }

    fn add(
        &self,
        user: UserId,
        conversation: Option<ConversationId>,
        failed_at: Option<&Arc<Upstream>>,
    ) -> ReplyReader {
        let (mut job, reader) = job(user, Interactive, None);
        job.stored =
            conversation.map(|conversation| domain::turn::StoredReply { conversation, message: fresh_id() });
        job.failed_at = failed_at.map(|server| FailedTry { server: server.clone(), end: failed() });
        self.list.reserve(user, Interactive, None).unwrap().fill(job);
        reader
    }

    /// Somebody whose turns go to `host` while all slots are free.
    fn friend_of(&self, host: &Arc<Upstream>) -> UserId {
        let mut users = std::iter::repeat_with(fresh_id::<UserId>);
        users.find(|user| Arc::ptr_eq(self.goes_to(*user, None), host)).unwrap()
    }
}

async fn load(host: &Arc<Upstream>) {
    drop(host.enter(&"m".into(), |_| ()).await.unwrap());
}

fn failed() -> End {
    End::Failed { code: FailureCode::UpstreamError, message: "it failed".to_owned() }
}

fn open_breaker(host: &Arc<Upstream>) {
    host.failed(&UpstreamError::Connect("refused".to_owned()));
}

#[tokio::test]
async fn servers_share_turns_in_proportion_to_their_weights() {
    let fleet = Fleet::new([1, 3], 1);
    fleet.load().await;
    let far = (0..1_000).filter(|_| Arc::ptr_eq(fleet.goes_to(fresh_id(), None), &fleet.far)).count();
    // Four standard deviations of 1,000 draws.
    assert!(far.abs_diff(750) <= 55, "{far} of 1,000 for three quarters of the weight");
}

#[tokio::test]
async fn a_conversation_stays_where_it_was_and_so_does_who_has_none() {
    let fleet = Fleet::new([1, 1], 2);
    let mut seen = [0, 0];
    for _ in 0..50 {
        let (user, conversation) = (fresh_id(), Some(fresh_id()));
        for conversation in [conversation, None] {
            let first = fleet.goes_to(user, conversation);
            for _ in 0..5 {
                assert!(Arc::ptr_eq(fleet.goes_to(user, conversation), first));
            }
            seen[usize::from(Arc::ptr_eq(first, &fleet.far))] += 1;
        }
        // Whoever asks in the same conversation.
        let other = fleet.goes_to(fresh_id(), conversation);
        assert!(Arc::ptr_eq(fleet.goes_to(user, conversation), other));
    }
    assert!(seen.iter().all(|count| *count > 10), "both are used: {seen:?}");
}

#[tokio::test]
async fn a_server_that_holds_the_model_goes_before_one_that_would_have_to_load_it() {
    let fleet = Fleet::new([1, 100], 1);
    load(&fleet.near).await;
    for _ in 0..50 {
        assert!(Arc::ptr_eq(fleet.goes_to(fresh_id(), None), &fleet.near));
    }
    // But nobody waits for it while another slot is free.
    let _readers = [fleet.add(fresh_id(), None, None), fleet.add(fresh_id(), None, None)];
    assert_eq!(fleet.look().into_keys().collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn each_of_two_turns_has_the_slot_that_suits_it_whichever_worker_comes_first() {
    let fleet = Fleet::new([1, 1], 1);
    let (near, far) = (fleet.friend_of(&fleet.near), fleet.friend_of(&fleet.far));
    for line in [[near, far], [far, near]] {
        let _readers = line.map(|user| fleet.add(user, None, None));
        let taken: Vec<_> = fleet.look().into_iter().map(|(slot, (job, _))| (slot, job.user)).collect();
        assert_eq!(taken, [(0, near), (1, far)]);
    }
}

#[tokio::test]
async fn where_the_slot_that_suits_is_busy_the_first_free_one_takes_the_turn() {
    let fleet = Fleet::new([1, 1], 1);
    let near = fleet.friend_of(&fleet.near);
    let _readers: Vec<_> = (0..3).map(|_| fleet.add(near, None, None)).collect();
    let mut running = fleet.look();
    assert_eq!(running.len(), 2, "nobody waits for a certain server");
    assert!(fleet.list.next(1).is_none());
    let (_, (_, far)) = running.pop_last().unwrap();
    far.finished(cost(CHARGE));
    assert_eq!(fleet.list.next(1).unwrap().0.user, near);
}

#[tokio::test]
async fn a_server_that_drains_or_is_away_takes_nothing_and_its_free_slots_count_for_nobody() {
    for drains in [true, false] {
        let fleet = Fleet::new([100, 1], 1);
        fleet.load().await;
        if drains {
            assert!(fleet.near.set_draining(true) && !fleet.near.set_draining(true));
        } else {
            open_breaker(&fleet.near);
        }
        for _ in 0..20 {
            assert!(Arc::ptr_eq(fleet.goes_to(fresh_id(), None), &fleet.far));
        }
        let _running = fleet.add(fresh_id(), None, None);
        let taken = fleet.look();
        let mut waits = fleet.add(fresh_id(), None, None);
        assert_eq!(state(&mut waits), "1", "it waits, for the only slot that serves is busy");
        assert!(fleet.look().is_empty());
        assert!(fleet.list.has_elsewhere(&fleet.near) && !fleet.list.has_elsewhere(&fleet.far));
        if drains {
            assert!(fleet.near.set_draining(false));
            fleet.list.look_again();
            assert_eq!(fleet.look().into_keys().collect::<Vec<_>>(), [0], "it serves again");
        }
        drop(taken);
    }
}

#[tokio::test]
async fn where_no_server_takes_turns_workers_wait_at_the_doors_and_turns_in_line() {
    let fleet = Fleet::new([1, 1], 1);
    assert!(fleet.look().is_empty(), "both are idle");
    fleet.near.set_draining(true);
    open_breaker(&fleet.far);
    let _readers = [fleet.add(fresh_id(), None, None), fleet.add(fresh_id(), None, None)];
    assert!(fleet.list.inner.lock().idle.is_empty(), "both are called, to be there when their server is");
    assert_eq!(fleet.list.waiting(), 2);
}

#[tokio::test]
async fn a_turn_that_a_server_failed_is_left_to_the_others_and_holds_nobody_up() {
    let fleet = Fleet::new([100, 1], 1);
    fleet.load().await;
    let (ada, bob) = (fresh_id(), fresh_id());
    let _busy = fleet.add(fleet.friend_of(&fleet.near), None, Some(&fleet.near));
    let on_far = fleet.look();
    assert_eq!(on_far.keys().collect::<Vec<_>>(), [&1]);
    let (mut moved, _other) = (fleet.add(ada, None, Some(&fleet.near)), fleet.add(bob, None, None));
    let on_near = fleet.look();
    assert_eq!(on_near.values().map(|(job, _)| job.user).collect::<Vec<_>>(), [bob]);
    drop(on_near);
    assert!(fleet.look().is_empty(), "it waits for the other server");
    // Nobody else serves any more: it comes back to be ended as it was.
    fleet.far.set_draining(true);
    let (job, _running) = fleet.look().remove(&0).expect("the first server takes it");
    job.end_as_failed();
    assert_eq!(state(&mut moved), "upstream_error");
}

#[tokio::test]
async fn a_turn_that_moves_on_is_charged_nothing_and_goes_next() {
    let fleet = Fleet::new([1, 1], 1);
    let (ada, bob) = (fleet.friend_of(&fleet.near), fleet.friend_of(&fleet.near));
    let _readers: Vec<_> =
        [ada, bob].into_iter().cycle().take(6).map(|user| fleet.add(user, None, None)).collect();
    let mut taken = fleet.look();
    let (_, (mut first, mut running)) = taken.pop_first().unwrap();
    running.begin();
    let (turn, user, places) = (first.turn, first.user, fleet.list.places());
    first.failed_at = Some(FailedTry { server: fleet.near.clone(), end: failed() });
    running.move_on(first);
    assert_eq!((fleet.list.places(), fleet.near.moved()), (places + 1, 1));
    let (_, (_, far)) = taken.pop_first().unwrap();
    far.finished(cost(CHARGE));
    let (job, _running) = fleet.list.next(1).unwrap();
    assert_eq!((job.turn, job.user), (turn, user), "the other server takes it before all who came later");
    let next = [0, 0].map(|slot| {
        let (job, running) = fleet.list.next(slot).unwrap();
        running.finished(cost(CHARGE));
        job.user
    });
    assert!(next.contains(&ada) && next.contains(&bob), "users take turns as if it had begun once");
}

#[tokio::test]
async fn a_turn_cannot_move_on_in_a_list_that_lets_nobody_wait() {
    let fleet = Fleet::new([1, 1], 1);
    let mut reader = fleet.add(fresh_id(), None, None);
    let (_, (mut job, mut running)) = fleet.look().pop_first().unwrap();
    running.begin();
    fleet.list.stop_waiting(true);
    job.failed_at = Some(FailedTry { server: fleet.near.clone(), end: failed() });
    running.move_on(job);
    assert_eq!(
        (state(&mut reader).as_str(), fleet.list.places(), fleet.list.running()),
        ("upstream_error", 0, 0)
    );
}

proptest! {
    /// Whatever comes, goes, fails and drains: as long as a server takes turns, no turn is left beside a slot that it may have.
    #[test]
    fn no_turn_waits_beside_a_free_slot_that_it_may_have(
        steps in prop::collection::vec((0_u8..6, 0_usize..4), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let fleet = Fleet::new([1, 2], 2);
        let users: Vec<UserId> = (0..4).map(|_| fresh_id()).collect();
        let (mut readers, mut running) = (Vec::new(), fleet.look());
        for (step, which) in steps {
            match step {
                0 | 1 => readers.push(fleet.add(users[which], None, None)),
                2 => readers.push(fleet.add(users[which], None, Some(&fleet.near))),
                3 => {
                    if let Some((_, (job, ran))) = running.pop_first() {
                        ran.finished(cost(CHARGE));
                        job.writer.end(End::Cancelled);
                    }
                }
                4 => {
                    if let Some((slot, (mut job, mut ran))) = running.pop_last() {
                        ran.begin();
                        let host = if fleet.slots_of(&fleet.near).contains(&slot) { &fleet.near } else { &fleet.far };
                        if job.failed_at.is_none() && fleet.list.has_elsewhere(host) {
                            job.failed_at = Some(FailedTry { server: host.clone(), end: failed() });
                            ran.move_on(job);
                        } else {
                            ran.finished(cost(CHARGE));
                            job.writer.end(End::Cancelled);
                        }
                    }
                }
                _ => {
                    let host = if which % 2 == 0 { &fleet.near } else { &fleet.far };
                    host.set_draining(which < 2 && !host.is_draining());
                    fleet.list.look_again();
                }
            }
            running.extend(fleet.look());
            prop_assert!(fleet.list.inner.lock().pairs(None).is_empty(), "a turn waits beside its slot");
            prop_assert_eq!((fleet.list.waiting(), fleet.list.running()), (fleet.list.places(), running.len()));
        }
    }
}
