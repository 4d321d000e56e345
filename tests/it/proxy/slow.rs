//! Attackers who hold connections open (B1, B3): slow heads, slow bodies, slow readers, by slowhttptest. Who behaves notices
//! nothing.
//!
//! Small in the suite; `scripts/prove slow` runs the same with 1,000 connections on the release build, where times are strict.

#![expect(clippy::print_stdout, reason = "its figures are what a proof is run for")]

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use futures_util::future::join_all;
use support::{
    process::{Scratch, Service, find_program},
    stats::{Spread, percentile},
};
use tokio::time::{Instant, interval};

use super::Ground;
use crate::harness::{Call, MODEL, Options, Session, Store, asked, until};

/// How large a proof is, and what it tells from noise.
struct Size {
    connections: usize,
    /// What is looked at is the median of as many slices: what else a machine does is seen in few of them.
    slices: usize,
    /// All of them are over before the service has cut the attack off.
    slice: Duration,
    /// What may come on top of twice the time in peace.
    noise: Duration,
}

impl Size {
    fn asked() -> Self {
        match asked("PROVE_COUNT") {
            Some(connections) => Self {
                connections,
                slices: 7,
                slice: Duration::from_secs(1),
                noise: Duration::from_millis(3),
            },
            None => Self {
                connections: 240,
                slices: 3,
                slice: Duration::from_millis(400),
                noise: Duration::from_millis(400),
            },
        }
    }
}

/// An attack: its name, and its options for slowhttptest.
struct Attack {
    name: &'static str,
    /// Whether it gets as far as being counted among the requests of its network.
    is_counted: bool,
    path: &'static str,
    options: &'static [&'static str],
}

const ATTACKS: [Attack; 3] = [
    Attack {
        name: "slow heads",
        is_counted: false,
        path: "/healthz",
        options: &["-H", "-i", "4", "-x", "24"],
    },
    Attack {
        name: "slow bodies",
        is_counted: true,
        path: "/v1/auth/login",
        options: &["-B", "-i", "4", "-x", "10", "-s", "8192", "-t", "POST", "-f", "application/json"],
    },
    Attack {
        name: "slow readers",
        is_counted: true,
        path: "/openapi.json",
        options: &["-X", "-w", "256", "-y", "512", "-n", "4", "-z", "32", "-k", "3"],
    },
];

/// Well-behaved clients, and how often each asks; from a network that attacks nobody.
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(40);
const BEHAVED: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);

/// Requests that nginx lets one network have under way.
const PER_NETWORK: usize = 256;

/// Connections to this port that are established, as the kernel tells.
fn established(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|here| here.ends_with(&local)) && words.nth(1) == Some("01")
    };
    table.lines().filter(is_one).count()
}

/// Starts an attack that lasts until it is dropped.
fn attack(attack: &Attack, target: SocketAddr, connections: usize, scratch: &Scratch) -> Service {
    let program = find_program("slowhttptest", &[], "slowhttptest").unwrap();
    let count = connections.to_string();
    let mut command = Command::new(program);
    command.args(attack.options).args(["-c", &count, "-r", &count, "-l", "120", "-p", "10"]);
    command.args(["-u", &format!("http://{target}{}", attack.path)]);
    let said = File::create(scratch.path().join("said")).unwrap();
    command.stdout(said.try_clone().unwrap()).stderr(said);
    Service::start(command, None, scratch, "INT").unwrap()
}

/// What all but one in a hundred replies to well-behaved clients take at most, in milliseconds: the median of some slices. None
/// of the clients is refused.
async fn p99(target: SocketAddr, session: &Session, size: &Size) -> f64 {
    let client = async |_| {
        let (mut waits, began, mut pace) = (Vec::new(), Instant::now(), interval(PACE));
        while began.elapsed() < size.slice {
            pace.tick().await;
            let asked = Instant::now();
            let call = Call::new(target, "GET", &format!("/v1/models/{MODEL}")).bearer(&session.access);
            call.over(BEHAVED).send().await.expect_status(200);
            waits.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        waits
    };
    let mut of_slices = Vec::new();
    for _ in 0..size.slices {
        let mut waits = join_all((0..CLIENTS).map(client)).await.concat();
        waits.sort_by(f64::total_cmp);
        of_slices.push(percentile(&waits, 0.99));
    }
    Spread::of(of_slices).median
}

/// Attacks `target` in each way, and compares. `per_network` is how many requests one network may have under way there.
async fn withstand(ground: &Ground, what: &str, target: SocketAddr, per_network: usize) {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let size = Size::asked();
    let ada = ground.app.sign_up_and_in("ada@example.org").await;
    for each in &ATTACKS {
        let peace = p99(target, &ada, &size).await;
        let scratch = Scratch::new("slow", None).unwrap();
        let running = attack(each, target, size.connections, &scratch);
        let admitted = if each.is_counted { size.connections.min(per_network) } else { size.connections };
        until("the attack to be open", async || established(target.port()) >= admitted * 9 / 10).await;
        let open = established(target.port());
        let war = p99(target, &ada, &size).await;
        let still = established(target.port());
        drop(running);
        println!(
            "{what}, {}: {open} and in the end {still} connections open, p99 {peace:.1} ms in peace and {war:.1} ms attacked",
            each.name,
        );
        let said = fs::read_to_string(scratch.path().join("said")).unwrap();
        assert!(still >= admitted / 2, "the attack went on: {said}");
        let allowed = 2.0 * peace + size.noise.as_secs_f64() * 1e3;
        assert!(war < allowed, "{}: {peace} ms became {war} ms", each.name);
        until("the attack to be over", async || established(target.port()) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b03_slow_attackers_of_nginx_cost_others_nothing() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    withstand(&ground, "through nginx", ground.addr(), PER_NETWORK).await;
    ground.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b03_slow_attackers_of_the_service_itself_cost_others_nothing() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    withstand(&ground, "directly", ground.app.addr(), usize::MAX).await;
    ground.finish().await;
}
