//! Two instances on one store behind one proxy, restarted one after the other while clients go on.
//!
//! Small in the suite, where running answers have a short grace; `scripts/prove restart` runs the same with the usual one.

use std::{collections::BTreeSet, env, time::Duration};

use futures_util::future::join_all;
use support::{gateway::Gateway, nginx::Proxy};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::instances::{AFTER_GRACE, Client, ENDLESS, Ground, Instance};
use crate::{harness::MODEL, turn::prompt};

/// Clients that ask one short question after the other: some for the whole answer, some for a stream.
const WHOLE_ASKERS: usize = 4;
const STREAM_ASKERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(10);

/// Endless answers under way at each restart, two of each user.
const ENDLESS_STREAMS: usize = 4;

/// How long the load goes on before and after each restart.
const BETWEEN: Duration = Duration::from_millis(500);

/// How large a proof is.
struct Size {
    rounds: usize,
    /// In seconds; `None` is the service's own.
    grace: Option<u64>,
}

impl Size {
    #[expect(clippy::disallowed_methods, reason = "scripts/prove has no other way to tell a test its size")]
    fn asked() -> Self {
        match env::var("PROVE_COUNT") {
            Ok(rounds) => Self { rounds: rounds.parse().expect("PROVE_COUNT is a number"), grace: None },
            Err(_) => Self { rounds: 1, grace: Some(3) },
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(self.grace.unwrap_or(30))
    }
}

/// Ends an instance and starts it again where it was; returns how long the end took.
async fn restart(ground: &Ground, instance: Instance, grace: Duration) -> (Instance, Duration) {
    let Instance { gateway, scratch } = instance;
    let port = gateway.addr.port();
    let (status, took) = gateway.terminate(grace + 2 * AFTER_GRACE).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(took <= grace + AFTER_GRACE, "{took:?}");
    let gateway = Gateway::start_on(ground.command(), &scratch, port).await.unwrap();
    (Instance { gateway, scratch }, took)
}

/// Asks short questions until `over`, each of them once; returns the ids of the answers. None may fail.
async fn ask(client: Client, streams: bool, over: watch::Receiver<()>) -> Vec<String> {
    let mut answers = Vec::new();
    // An error means that the other end is gone.
    while over.has_changed().is_ok() {
        let question = format!("{} asks for the {}th time", client.name, answers.len());
        let answer = if streams {
            let done = client.stream(MODEL, &question).await.last().await;
            assert_eq!(done.event, "done", "{question}: {done:?}");
            done.data
        } else {
            client.post("/v1/chat", &prompt(MODEL, &question)).send().await.expect_status(200).json()
        };
        assert_eq!(answer["stored"], true, "{question}");
        answers.push(answer["message_id"].as_str().unwrap().to_owned());
        sleep(PAUSE).await;
    }
    answers
}

/// Endless answers: each the id of its message and its text, once somebody cut it short.
type Endless = JoinSet<(String, String)>;

/// Begins endless answers on whatever instances the proxy chooses, and returns when all of them say something.
async fn endless(of: &[Client; 2], round: usize) -> Endless {
    let mut answers = JoinSet::new();
    for number in 0..ENDLESS_STREAMS {
        let mut stream = of[number % 2].stream(ENDLESS, &format!("story {number} of {round}")).await;
        stream.until("chunk").await;
        answers.spawn(async move {
            assert_eq!(stream.failure().await, "server_shutting_down");
            (stream.start()["message_id"].as_str().unwrap().to_owned(), stream.text())
        });
    }
    answers
}

#[derive(Default)]
struct Tally {
    cut: Vec<(String, String)>,
    spared: usize,
    ends: Vec<Duration>,
}

impl Tally {
    /// Counts the endless answers after a restart: those of the instance that ended were told, the others go on until their
    /// client leaves.
    fn see(&mut self, mut answers: Endless) {
        while let Some(cut) = answers.try_join_next() {
            self.cut.push(cut.unwrap());
        }
        self.spared += answers.len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d07_a_rolling_restart_fails_no_request_and_tells_every_stream_it_cuts() {
    let size = Size::asked();
    let ground = Ground::lay(size.grace).await;
    let mut instances = vec![ground.start().await, ground.start().await];
    let addresses = [instances[0].gateway.addr, instances[1].gateway.addr];
    let proxy = Proxy::start(&addresses).await.unwrap();
    let client = async |name: &str| Client::sign_up(proxy.addr(), name).await;
    let listeners = [client("lea").await, client("leo").await];
    let (going_on, over) = watch::channel(());
    let mut askers = JoinSet::new();
    for number in 0..WHOLE_ASKERS + STREAM_ASKERS {
        let client = client(&format!("asker-{number}")).await;
        let (streams, over) = (number >= WHOLE_ASKERS, over.clone());
        askers.spawn(async move { (streams, ask(client, streams, over).await) });
    }

    let (began, mut tally) = (Instant::now(), Tally::default());
    for round in 0..2 * size.rounds {
        sleep(BETWEEN).await;
        let streams = endless(&listeners, round).await;
        let (instance, took) = restart(&ground, instances.remove(0), size.grace()).await;
        instances.push(instance);
        tally.ends.push(took);
        tally.see(streams);
        // Before the end nobody stops asking but who failed.
        let failed = askers.try_join_next();
        assert!(failed.is_none(), "{failed:?}\n{}", proxy.error_log());
    }
    sleep(BETWEEN).await;
    drop((going_on, over));
    let answered: Vec<(bool, Vec<String>)> = askers.join_all().await;
    let count = |of: bool| -> usize {
        answered.iter().filter(|(streams, _)| *streams == of).map(|(_, answers)| answers.len()).sum()
    };
    let (whole, streamed) = (count(false), count(true));
    println!(
        "{} restarts in {:?}: {whole} whole answers and {streamed} short streams, none failed; of {} endless streams {} \
         were cut and told, {} went on; ends took {:?}",
        tally.ends.len(),
        began.elapsed(),
        tally.ends.len() * ENDLESS_STREAMS,
        tally.cut.len(),
        tally.spared,
        tally.ends,
    );

    assert!(answered.iter().all(|(_, answers)| !answers.is_empty()));
    // Which instance a stream is on is the proxy's choice: a single restart may meet none.
    assert!(!tally.cut.is_empty(), "no restart cut anything");
    let texts = async |sql: &str| ground.database.texts(sql).await;
    let complete =
        texts("SELECT id::text FROM messages WHERE role = 'assistant' AND status = 'complete'").await;
    let (complete, answered): (BTreeSet<_>, BTreeSet<_>) =
        (complete.into_iter().collect(), answered.into_iter().flat_map(|(_, answers)| answers).collect());
    assert_eq!(complete, answered, "what was answered is stored, and nothing else was done");
    let twice =
        texts("SELECT content FROM messages WHERE role = 'user' GROUP BY content HAVING count(*) > 1").await;
    assert!(twice.is_empty(), "asked once, done twice: {twice:?}");
    for (message, text) in &tally.cut {
        let kept =
            format!("SELECT content FROM messages WHERE id::text = '{message}' AND status = 'interrupted'");
        let kept = texts(&kept).await;
        assert!(
            kept.len() == 1 && !text.is_empty() && kept[0].starts_with(text),
            "{message}: {kept:?} {text:?}"
        );
    }
    let ends = instances.into_iter().map(|instance| instance.gateway.terminate(size.grace() + AFTER_GRACE));
    for end in join_all(ends).await {
        assert!(end.unwrap().0.success());
    }
    assert_eq!(ground.database.number("SELECT count(*) FROM turns WHERE status = 'streaming'").await, 0);
    ground.database.remove().await;
}
