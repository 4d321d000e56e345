//! Residency on paused time, over a server that notes what should never be done to it.

use std::sync::atomic::{AtomicUsize, Ordering};

use domain::{
    chat::{ChatMessage, ChatRequest, Role},
    model_name::ModelName,
};
use futures_util::{FutureExt, future::join_all};
use tokio::time::{sleep, timeout};

use super::*;
use crate::model::{
    provider::scripted::{Script, Step as Say},
    upstream::Upstream,
};

const LOAD: Duration = Duration::from_secs(5);
const MIN: Duration = Duration::from_secs(30);
/// Beyond every wait of a test.
const FOR_EVER: Duration = Duration::from_secs(36_000);

#[derive(Clone)]
struct Site {
    script: Script,
    upstream: Arc<Upstream>,
    opened: Instant,
}

impl Site {
    /// A server that takes [`LOAD`] for a load, and may hold as many models as it is asked to.
    fn holding(limit: usize) -> Self {
        Self::with(Some(limit), MIN)
    }

    fn with(limit: Option<usize>, min_residence: Duration) -> Self {
        let script = Script::new(&["a", "b", "c"], vec![Say::Stall]);
        script.memory(LOAD, limit.unwrap_or(usize::MAX));
        let upstream = script.upstream_with(|rules| {
            rules.residency = ResidencyRules { limit, min_residence };
            rules.breaker_failures = u32::MAX;
        });
        Self { script, upstream, opened: Instant::now() }
    }

    async fn enter(&self, model: &str) -> Result<Stay, UpstreamError> {
        self.upstream.enter(&model.into(), |_| ()).await
    }

    /// A turn that keeps its slot for `takes`; returns when it entered, counted from the opening.
    async fn turn(&self, model: &str, takes: Duration) -> Result<Duration, UpstreamError> {
        let _stay = timeout(FOR_EVER, self.enter(model)).await.expect("nobody waits for ever")?;
        let entered = self.opened.elapsed();
        let request =
            ChatRequest::new(ModelName::parse(model).unwrap(), vec![ChatMessage::text(Role::User, "hi")]);
        let _answer = self.upstream.provider().chat(model, &request).await?;
        sleep(takes).await;
        Ok(entered)
    }

    async fn turn_at(&self, at: Duration, model: &str, takes: Duration) -> Result<Duration, UpstreamError> {
        sleep(at).await;
        self.turn(model, takes).await
    }

    /// Asserts that nobody waits and nothing was done that should not be.
    fn is_at_rest(&self) {
        assert_eq!(self.upstream.occupancy().waiting, 0);
        assert_eq!(self.script.wrongs(), [""; 0]);
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_model_is_loaded_once_for_all_who_wait_and_entered_at_once_by_who_comes_later() {
    let site = Site::holding(1);
    let first = join_all((0..10).map(|_| site.turn("a", seconds(60)))).await;
    assert!(first.iter().all(|entered| *entered == Ok(LOAD)), "{first:?}");
    assert_eq!(site.turn("a", seconds(1)).await, Ok(LOAD + seconds(60)));
    assert_eq!(site.script.deeds(), ["load a"]);
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_model_is_drained_before_another_is_loaded_and_its_newcomers_wait_behind() {
    let site = Site::holding(1);
    let (running, wanted, early, late) = tokio::join!(
        site.turn("a", seconds(100)),
        site.turn_at(seconds(10), "b", seconds(1)),
        // Before its time is over nobody is kept from a model that is there.
        site.turn_at(seconds(30), "a", seconds(1)),
        site.turn_at(seconds(40), "a", seconds(1)),
    );
    assert_eq!((running, early), (Ok(LOAD), Ok(seconds(30))));
    assert_eq!(wanted, Ok(LOAD + seconds(100) + LOAD), "when the running turn has ended");
    assert_eq!(late, Ok(wanted.unwrap() + MIN + LOAD), "the newcomer waits its turn");
    assert_eq!(site.script.deeds(), ["load a", "unload a", "load b", "unload b", "load a"]);
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_stays_its_time_and_then_goes() {
    let site = Site::holding(1);
    site.turn("a", seconds(1)).await.unwrap();
    assert_eq!(site.turn("b", seconds(1)).await, Ok(LOAD + MIN + LOAD));
    sleep(seconds(300)).await;
    assert_eq!(site.turn("a", seconds(1)).await, Ok(site.opened.elapsed() - seconds(1)));
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn two_users_who_take_turns_do_not_thrash() {
    let site = Site::holding(1);
    let served = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let all_the_time = |model: &'static str, served| {
        let site = &site;
        async move {
            let served: &AtomicUsize = served;
            while site.opened.elapsed() < seconds(3_600) {
                site.turn(model, Duration::from_millis(200)).await.unwrap();
                served.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::join!(
        all_the_time("a", &served[0]),
        all_the_time("a", &served[0]),
        all_the_time("b", &served[1]),
        all_the_time("b", &served[1])
    );
    let [a, b] = served.map(AtomicUsize::into_inner);
    assert!(a > 10_000 && b > 10_000, "an hour gave {a} and {b} turns");
    let loads = site.script.deeds().iter().filter(|deed| deed.starts_with("load")).count();
    // One for each minimum of residence, and the first.
    let most = (site.opened.elapsed().as_secs() / (MIN + LOAD).as_secs()) as usize + 1;
    assert!((most / 2..=most).contains(&loads), "{loads} loads in an hour, {most} at most");
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn the_one_idle_longest_goes_first_and_when_all_are_busy_the_one_resident_longest() {
    let site = Site::holding(2);
    let (a, b, c) = tokio::join!(
        site.turn("a", seconds(200)),
        site.turn("b", seconds(10)),
        site.turn_at(seconds(60), "c", seconds(400)),
    );
    assert_eq!((a, b), (Ok(LOAD), Ok(LOAD * 2)));
    assert_eq!(c, Ok(seconds(60) + LOAD), "b is idle, a is not");
    assert_eq!(site.script.deeds(), ["load a", "load b", "unload b", "load c"]);

    let begun = site.opened.elapsed();
    let (a, c, d) = tokio::join!(
        site.turn("a", seconds(50)),
        site.turn("c", seconds(90)),
        site.turn_at(seconds(1), "b", seconds(1)),
    );
    assert_eq!((a, c), (Ok(begun), Ok(begun)));
    assert_eq!(d, Ok(begun + seconds(50) + LOAD), "a was there before c");
    assert_eq!(site.script.deeds()[4..], ["unload a", "load b"]);
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_model_that_falls_idle_goes_in_place_of_the_one_being_drained() {
    let site = Site::holding(2);
    let (_, _, wanted, newcomer) = tokio::join!(
        site.turn("a", seconds(1_000)),
        site.turn("b", seconds(100)),
        site.turn_at(seconds(50), "c", seconds(1)),
        site.turn_at(seconds(60), "a", seconds(1)),
    );
    assert_eq!(wanted, Ok(LOAD * 2 + seconds(100) + LOAD), "b ended long before a");
    assert_eq!(newcomer, Ok(LOAD * 2 + seconds(100)), "and who waited to enter a was let in then");
    assert_eq!(site.script.deeds()[2..], ["unload b", "load c"]);
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn when_nobody_waits_any_more_the_drain_is_called_off() {
    let site = Site::holding(1);
    let impatient = async {
        sleep(seconds(40)).await;
        timeout(seconds(20), site.enter("b")).await.err()
    };
    let (running, left, newcomer) =
        tokio::join!(site.turn("a", seconds(100)), impatient, site.turn_at(seconds(50), "a", seconds(1)),);
    assert_eq!(running, Ok(LOAD));
    assert!(left.is_some(), "b was not loaded in time");
    assert_eq!(newcomer, Ok(seconds(60)), "let in at the moment the other left");
    assert_eq!(site.script.deeds(), ["load a"]);
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_leaves_nothing_and_the_load_it_began_goes_on() {
    let site = Site::holding(1);
    assert!(timeout(LOAD / 2, site.enter("a")).await.is_err());
    assert_eq!(site.upstream.occupancy().waiting, 0);
    assert_eq!(site.turn("a", seconds(1)).await, Ok(LOAD), "it joined the load");
    assert_eq!(site.script.deeds(), ["load a"]);
    // One that is let in as it leaves gives its stay back.
    let mut waits = Box::pin(site.enter("b"));
    assert!((&mut waits).now_or_never().is_none());
    sleep(MIN + LOAD * 2).await;
    drop(waits);
    assert_eq!(site.turn("c", seconds(1)).await, Ok(site.opened.elapsed() - seconds(1)));
    assert_eq!(site.script.deeds()[1..], ["unload a", "load b", "unload b", "load c"]);
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_is_told_to_those_who_wait_for_it_and_holds_up_nobody_else() {
    let site = Site::holding(1);
    site.script.then_load(Err(UpstreamError::Busy));
    let (one, two, other) =
        tokio::join!(site.turn("a", seconds(1)), site.turn("a", seconds(1)), site.turn("b", seconds(1)),);
    assert_eq!((one, two), (Err(UpstreamError::Busy), Err(UpstreamError::Busy)));
    assert_eq!(other, Ok(LOAD * 2));
    assert_eq!(site.turn("a", seconds(1)).await, Ok(LOAD * 2 + MIN + LOAD));
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_failed_unload_is_told_to_those_it_was_for_and_the_model_is_entered_again() {
    let site = Site::holding(1);
    site.turn("a", MIN).await.unwrap();
    site.script.then_unload(Err(UpstreamError::Busy));
    assert_eq!(site.turn("b", seconds(1)).await, Err(UpstreamError::Busy));
    let again = site.opened.elapsed();
    assert_eq!(site.turn("a", seconds(1)).await, Ok(again));
    assert_eq!(site.turn("b", seconds(1)).await, Ok(again + seconds(1) + LOAD));
    // A model that the server has no more needs no room.
    site.script.then_unload(Err(UpstreamError::NoSuchModel));
    site.script.holds(&[]);
    assert!(site.turn("a", seconds(1)).await.is_ok());
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_dies_leaves_nobody_waiting_and_gets_a_successor() {
    let residents = Residents::new(ResidencyRules { limit: Some(1), min_residence: MIN });
    let model: Arc<str> = "a".into();
    let waiting = residents.enter(&model).err().unwrap();
    let mut driver = residents.driver().unwrap();
    assert!(residents.driver().is_none(), "there is one");
    assert_eq!(driver.next(), Step::Load(model.clone()));
    drop(driver);
    assert_eq!(waiting.entered(|_| ()).await.err(), Some(UpstreamError::Busy));
    let waiting = residents.enter(&model).err().unwrap();
    let mut driver = residents.driver().unwrap();
    assert_eq!(driver.next(), Step::Load(model.clone()));
    driver.loaded(&model, Ok(()));
    assert!(waiting.entered(|_| ()).await.is_ok());
    assert_eq!(driver.next(), Step::Rest);
    assert_eq!(residents.occupancy().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_corrects_what_is_believed() {
    let site = Site::holding(1);
    site.turn("a", seconds(1)).await.unwrap();
    // It expired, and somebody else had another loaded: no time of ours is over, but room is made at once.
    sleep(seconds(1)).await;
    site.script.holds(&["x"]);
    site.upstream.list().await.unwrap();
    let standing = |model| site.upstream.standing(model);
    assert_eq!((standing("a").is_loaded, standing("x").is_loaded), (false, true));
    let now = site.opened.elapsed();
    assert_eq!(site.turn("a", seconds(1)).await, Ok(now + LOAD));
    assert_eq!(site.script.deeds()[1..], ["unload x", "load a"]);
    // What somebody waits for may be loaded by somebody else.
    let theirs = async {
        sleep(seconds(1)).await;
        site.script.holds(&["b"]);
        site.upstream.list().await.unwrap();
    };
    let now = site.opened.elapsed();
    let (entered, ()) = tokio::join!(site.turn("b", seconds(1)), theirs);
    assert_eq!(entered, Ok(now + seconds(1)));
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn what_the_server_said_before_a_load_of_ours_or_of_a_model_in_use_is_not_believed() {
    let residents = Residents::new(ResidencyRules { limit: Some(1), min_residence: MIN });
    let model: Arc<str> = "a".into();
    let before = Instant::now();
    let waiting = residents.enter(&model).err().unwrap();
    let mut driver = residents.driver().unwrap();
    driver.next();
    residents.learn(vec!["x".to_owned()], before);
    sleep(LOAD).await;
    driver.loaded(&model, Ok(()));
    residents.learn(Vec::new(), before);
    let is_loaded = |model| residents.standing(model).is_loaded;
    assert!(is_loaded("a") && !is_loaded("x"));
    let stay = waiting.entered(|_| ()).await.unwrap();
    sleep(LOAD).await;
    let asked_at = Instant::now();
    residents.learn(Vec::new(), asked_at);
    assert!(is_loaded("a"), "somebody uses it");
    sleep(LOAD).await;
    drop(stay);
    residents.learn(Vec::new(), asked_at);
    assert!(is_loaded("a"), "somebody used it meanwhile");
    sleep(LOAD).await;
    residents.learn(Vec::new(), Instant::now());
    assert!(!is_loaded("a"));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_is_unloaded_and_loads_are_done_one_at_a_time() {
    let site = Site::with(None, MIN);
    let entered = join_all(["a", "b", "c"].map(|model| site.turn(model, seconds(100)))).await;
    assert_eq!(entered, [Ok(LOAD), Ok(LOAD * 2), Ok(LOAD * 3)]);
    assert_eq!(site.script.deeds(), ["load a", "load b", "load c"]);
    site.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_how_long_it_should_take_once_that_was_measured() {
    let site = Site::holding(1);
    let told = Mutex::new(Vec::new());
    let ask = async |model: &str| {
        told.lock().clear();
        let stay = site.upstream.enter(&model.into(), |eta| told.lock().push(eta)).await.unwrap();
        drop(stay);
        told.lock().clone()
    };
    let standing = |model| site.upstream.standing(model);
    assert_eq!(ask("a").await, [None, None]);
    assert_eq!(ask("b").await, [None, None]);
    let both = async {
        sleep(MIN).await;
        (standing("a"), standing("b"))
    };
    let (again, standings) = tokio::join!(ask("a"), both);
    assert_eq!(again, [Some(MIN + LOAD), Some(LOAD)], "first the other's time has to be over");
    let awaited = Standing { is_loaded: false, is_awaited: true };
    assert_eq!(standings.0, awaited);
    assert!(!standings.1.is_loaded || !standings.1.is_awaited);
    assert_eq!(ask("a").await, [], "who enters at once is told nothing");
    site.is_at_rest();
}

/// Seeded schedules of turns that come, stay and leave as they like, with loads that fail.
#[tokio::test(start_paused = true)]
async fn whatever_comes_and_goes_nobody_waits_for_ever_and_nothing_wrong_is_done() {
    for seed in 1..=40_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % most
        };
        let limit = usize::try_from(1 + below(3)).unwrap();
        let site = Site::with(Some(limit), seconds(below(20)));
        for _ in 0..below(5) {
            site.script.then_load(Err(UpstreamError::Busy));
            site.script.then_load(Ok(()));
            site.script.then_unload(Err(UpstreamError::Busy));
        }
        let turns = (0..60).map(|_| {
            let (at, model, takes) = (below(200), below(5), below(30));
            let patience = if below(4) == 0 { seconds(below(60)) } else { FOR_EVER };
            let site = site.clone();
            async move {
                let model = ["a", "b", "c", "d", "e"][usize::try_from(model).unwrap()];
                sleep(seconds(at)).await;
                let begun = Instant::now();
                let turn = async {
                    while site.turn(model, seconds(takes)).await == Err(UpstreamError::Busy) {
                        sleep(seconds(1)).await;
                    }
                };
                let _ = timeout(patience, turn).await;
                begun.elapsed()
            }
        });
        let longest = join_all(turns).await.into_iter().max().unwrap();
        assert!(longest < seconds(3_600), "seed {seed}: somebody waited {longest:?}");
        assert_eq!(site.script.wrongs(), [""; 0], "seed {seed}");
        assert_eq!(site.upstream.occupancy().waiting, 0, "seed {seed}");
        assert!(site.upstream.occupancy().residents <= limit, "seed {seed}");
    }
}
