//! What happens between asking for a stream and holding its user.

use prometheus_client::metrics::counter::Counter;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    clock::Clock,
    model::streams::{Admission, Refused, Stream, Streams},
    rate_limit::{self, RateLimitConfig},
    room::RoomContext,
    supervisor::{SupervisorHandle, spawn_supervisor},
};

/// One turn of a user runs, another has just been refused.
struct Moment {
    list: Arc<WaitingList>,
    streams: Arc<Streams>,
    user: UserId,
    running: Stream,
    refused: (Job, Running, Refused),
    _reader: ReplyReader,
    limits: SupervisorHandle,
    tracker: TaskTracker,
}

impl Moment {
    async fn new() -> Self {
        let ctx = RoomContext::new(&format!("streams-{}", uuid::Uuid::now_v7()), Clock::system());
        let (limits, spec) = rate_limit::build(&ctx, RateLimitConfig::new(60, 20)).await.unwrap();
        let supervisor = SupervisorHandle::new();
        spawn_supervisor(None, &ctx.system, spec, ctx.tree.clone(), supervisor.clone()).await.unwrap();
        let tracker = TaskTracker::new();
        let streams = Streams::new(limits, Counter::default(), tracker.clone(), CancellationToken::new());
        let (list, user) = (list(256, 64), fresh_id());
        let (first, _first_reader) = alone(user);
        let Admission::Run(running) = streams.ask(&first).await else { panic!("nothing else runs") };
        let (waiting, reader) = alone(user);
        list.reserve(user, Interactive, None).unwrap().fill(waiting);
        let (job, taken) = list.next(0).unwrap();
        let Admission::Wait(refused) = streams.ask(&job).await else { panic!("one too many") };
        let refused = (job, taken, refused);
        Self { list, streams, user, running, refused, _reader: reader, limits: supervisor, tracker }
    }
}

/// Of a user who may run one at a time.
fn alone(user: UserId) -> (Job, ReplyReader) {
    let (job, reader) = job(user, Interactive, None);
    (Job { streams: 1, ..job }, reader)
}

#[tokio::test(start_paused = true)]
async fn c7_a_turn_that_ends_before_the_refused_one_is_held_is_not_missed() {
    let moment = Moment::new().await;
    let (job, taken, refused) = moment.refused;
    drop(moment.running);
    taken.put_back(job);
    moment.streams.hold(moment.user, &moment.list, refused);
    assert_eq!(moment.streams.held(), 0);
    assert!(moment.list.next(0).is_some(), "without a wait");
    moment.limits.stop().await;
}

#[tokio::test(start_paused = true)]
async fn c7_a_turn_that_ends_later_frees_the_user_at_once_and_its_timer_with_it() {
    let moment = Moment::new().await;
    let (job, taken, refused) = moment.refused;
    taken.put_back(job);
    moment.streams.hold(moment.user, &moment.list, refused);
    assert!(moment.list.next(0).is_none());
    assert_eq!((moment.streams.held(), moment.tracker.len()), (1, 1));
    drop(moment.running);
    assert_eq!(moment.streams.held(), 0);
    assert!(moment.list.next(0).is_some());
    moment.tracker.close();
    let begun = tokio::time::Instant::now();
    moment.tracker.wait().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    moment.limits.stop().await;
}

#[tokio::test(start_paused = true)]
async fn c7_a_user_held_in_vain_is_looked_at_again_after_a_second() {
    let moment = Moment::new().await;
    let (job, taken, refused) = moment.refused;
    taken.put_back(job);
    let held = tokio::time::Instant::now();
    moment.streams.hold(moment.user, &moment.list, refused);
    moment.tracker.close();
    moment.tracker.wait().await;
    // A paused timer may fire up to a millisecond late.
    assert!((1_000..=1_001).contains(&held.elapsed().as_millis()), "{:?}", held.elapsed());
    let (job, taken) = moment.list.next(0).expect("due");
    let Admission::Wait(_) = moment.streams.ask(&job).await else { panic!("the other one still runs") };
    taken.put_back(job);
    assert!(moment.list.next(0).is_none());
    moment.limits.stop().await;
}
