//! Log-ins under load, against the service as a process of its own behind a proxy that it trusts.
//!
//! Small in the suite; `scripts/prove logins` runs the same at full size on the release build, where times are strict.

#![expect(clippy::print_stdout, reason = "its figures are what a proof is run for")]

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use support::{
    gateway::Gateway,
    process::{Scratch, memory},
};

use crate::harness::{Call, Database, PASSWORD, Reply, Store, asked, both_stores, start_process};

/// What one hash needs (argon2id, m = 19 MiB).
const HASH_BYTES: u64 = 19 << 20;

/// What connections, requests and the allocator may need beside them.
const SLACK_BYTES: u64 = 32 << 20;

/// Often enough to meet every moment, and seldom enough to be no load.
const PROBE_EVERY: Duration = Duration::from_millis(2);

/// How large a proof is.
struct Size {
    /// Log-ins, accounts, and tries of each kind.
    count: usize,
    /// The slowest that `/healthz` may be 99 times in 100.
    healthz_p99: Duration,
    /// How far the medians of known and unknown accounts may lie apart.
    apart: f64,
}

impl Size {
    /// The size that `PROVE_COUNT` asks for, or the suite's: neighbours on the same cores leave its times little meaning.
    fn asked() -> Self {
        match asked("PROVE_COUNT") {
            Some(count) => Self { count, healthz_p99: Duration::from_millis(50), apart: 0.05 },
            None => Self { count: 100, healthz_p99: Duration::from_secs(1), apart: 0.5 },
        }
    }
}

/// The service in a directory of its own.
struct Ground {
    gateway: Gateway,
    database: Database,
    _scratch: Scratch,
}

impl Ground {
    async fn start(store: Store, settings: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new("load", None).unwrap();
        let database = Database::make(store, &scratch.path().join("data")).await;
        // Nobody listens there: the discard port is privileged and unused.
        let settings = [&[("OLLAMA_BASE_URL", "http://127.0.0.1:9")], settings].concat();
        let gateway = start_process(&scratch, &database, &settings).await;
        let ground = Self { gateway, database, _scratch: scratch };
        let body = json!({"email": email(0), "password": PASSWORD});
        ground.post("/v1/auth/signup", &body, network(0)).await.expect_status(201);
        ground
    }

    /// Makes accounts of the numbers below `count` that have the first one's password.
    async fn populate(&self, count: usize) {
        let id = match self.database {
            Database::Sqlite(_) => "randomblob(16)",
            Database::Postgres { .. } => "gen_random_uuid()",
        };
        let sql = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count} - 1) \
             INSERT INTO users (id, email, password_hash, role, created_at) \
             SELECT {id}, 'user-' || n || '@example.org', password_hash, role, created_at \
             FROM users, numbers RETURNING email"
        );
        assert_eq!(self.database.texts(&sql).await.len(), count - 1);
    }

    async fn finish(self) {
        drop(self.gateway);
        self.database.remove().await;
    }

    async fn post(&self, path: &str, body: &Value, from: Ipv4Addr) -> Reply {
        Call::new(self.gateway.addr, "POST", path).json(body).from(IpAddr::V4(from)).send().await
    }

    async fn log_in(&self, email: &str, password: &str, from: Ipv4Addr) -> Reply {
        self.post("/v1/auth/login", &json!({"email": email, "password": password}), from).await
    }
}

fn email(number: usize) -> String {
    format!("user-{number}@example.org")
}

/// An address in the network of this number.
fn network(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + 256 * u32::try_from(number).unwrap())
}

/// Asserts a refusal that says when to come back.
fn assert_told_when(refused: Reply, status: u16, code: &str) {
    let refused = refused.expect_error(status, code);
    let wait: u64 = refused.header("retry-after").expect("when to come back").parse().unwrap();
    assert!(wait >= 1, "{refused:?}");
}

/// Asks `/healthz` again and again on one connection until `over` ends; returns how long each reply took, sorted.
///
/// On a thread of its own, so that what is measured is the service and not what else this test does.
fn probe(addr: SocketAddr, over: &Receiver<()>) -> Vec<Duration> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let mut took = Vec::new();
    while over.recv_timeout(PROBE_EVERY) == Err(RecvTimeoutError::Timeout) {
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = [0; 4096];
        // Short enough to come at once, and the next one is not asked for before.
        let length = stream.read(&mut reply).unwrap();
        assert!(
            reply[..length].starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&reply[..length])
        );
        took.push(asked.elapsed());
    }
    took.sort();
    took
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort();
    of[of.len() / 2]
}

both_stores! {
    async fn a03_log_ins_of_all_accounts_at_once_are_bounded_in_memory_and_leave_the_service_responsive(store) {
        let Size { count, healthz_p99, .. } = Size::asked();
        let ground = Ground::start(store, &[]).await;
        ground.populate(count).await;
        let pid = ground.gateway.pid();
        let before = memory(pid, "VmRSS").unwrap();
        // The peak is counted from here.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();

        let ((going_on, over), addr) = (mpsc::channel(), ground.gateway.addr);
        let prober = thread::spawn(move || probe(addr, &over));
        let log_ins =
            (0..count).map(async |number| ground.log_in(&email(number), PASSWORD, network(number)).await);
        let replies = join_all(log_ins).await;
        drop(going_on);
        let probes = prober.join().unwrap();

        let (let_in, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
        let (grown, permits) =
            (memory(pid, "VmHWM").unwrap().saturating_sub(before), available_parallelism().unwrap());
        let permits = (permits.get() as u64 - 1).max(1);
        let p99 = probes[probes.len() * 99 / 100];
        println!(
            "{count} log-ins: {} let in, {} refused; {} KiB more memory; /healthz {} times, p50 {:?}, p99 {p99:?}",
            let_in.len(),
            refused.len(),
            grown >> 10,
            probes.len(),
            probes[probes.len() / 2],
        );
        assert!(!let_in.is_empty());
        refused.into_iter().for_each(|reply| assert_told_when(reply, 503, "overloaded"));
        assert!(grown <= permits * HASH_BYTES + SLACK_BYTES, "{grown} bytes for {permits} hashes at a time");
        assert!(p99 < healthz_p99, "{p99:?}");
        ground.finish().await;
    }

    async fn a05_a_wrong_password_takes_as_long_as_an_unknown_account(store) {
        let Size { count, apart, .. } = Size::asked();
        let ground = Ground::start(store, &[("RATE_LIMIT_ENABLED", "false")]).await;
        let mut took = [Vec::new(), Vec::new()];
        for n in 0..count {
            // Whoever comes first in a pair is first in every other one only.
            for which in [n % 2, 1 - n % 2] {
                let email = ["user-0@example.org", "nobody@example.org"][which];
                let asked = Instant::now();
                ground.log_in(email, "seven noisy herons", network(0)).await.expect_status(401);
                took[which].push(asked.elapsed());
            }
        }
        let [known, unknown] = took.map(median);
        println!("{count} wrong passwords: median {known:?}; {count} unknown accounts: median {unknown:?}");
        let ratio = known.as_secs_f64() / unknown.as_secs_f64();
        assert!((1.0 - apart..=1.0 + apart).contains(&ratio), "{known:?} {unknown:?}");
        ground.finish().await;
    }

    async fn a06_of_a_thousand_wrong_passwords_from_a_hundred_networks_a_hundred_are_looked_at_and_the_owner_gets_in(store) {
        const NETWORKS: usize = 100;
        const TRIES: usize = 1_000;
        const AT_ONCE: usize = 50;
        const LOOKS: usize = 100;
        let ground = Ground::start(store, &[]).await;
        let (email, home) = (email(0), network(NETWORKS));
        ground.log_in(&email, PASSWORD, home).await.expect_status(200);

        let tries = (0..TRIES).map(|n| ground.log_in(&email, "seven noisy herons", network(n % NETWORKS)));
        let replies: Vec<Reply> = stream::iter(tries).buffer_unordered(AT_ONCE).collect().await;
        let (looked_at, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 401);
        println!("{TRIES} wrong passwords from {NETWORKS} networks: {} looked at", looked_at.len());
        for reply in refused {
            // Nobody has looked at what waited too long, either.
            if reply.status == 503 {
                assert_told_when(reply, 503, "overloaded");
            } else {
                assert_told_when(reply, 429, "rate_limited");
            }
        }
        assert!((1..=LOOKS).contains(&looked_at.len()), "{} were looked at", looked_at.len());
        ground.log_in(&email, PASSWORD, network(0)).await.expect_error(429, "rate_limited");
        ground.log_in(&email, PASSWORD, home).await.expect_status(200);
        ground.finish().await;
    }
}
