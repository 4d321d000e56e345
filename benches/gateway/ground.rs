//! The systems of one experiment side by side, and the rounds that compare them.
//!
//! Rounds are short and interleave the systems, each round beginning with another one, so that what else happens on
//! the machine meets all of them; ratios are taken inside a round.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use support::{client::Connection, nginx::Nginx, postgres::Cluster};
use tokio::time::timeout;

use crate::{
    process::{CpuSnapshot, Family},
    request::{Dialect, Kind, Request},
    servers::{FakeOllama, Gateway, Pace, Place, start_nginx},
    table::{GATEWAY, NGINX, Row},
};

/// For a first answer, which may have to wait for a model that is not loaded.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// A round takes a few seconds; one that takes longer hangs.
const ROUND_PATIENCE: Duration = Duration::from_secs(60);

/// Everything an experiment needs to be run.
pub struct Run<'a> {
    pub place: &'a Place,
    pub access_token: &'a str,
    pub rounds: usize,
    /// How long a system is measured in a round.
    pub window: Duration,
    pub is_quick: bool,
}

/// Where the gateway keeps what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    /// A cluster of its own, whose commits wait for the disk. It shares the load's core.
    Postgres,
}

/// One of the compared systems.
pub struct System {
    pub name: &'static str,
    pub dialect: Dialect,
    pub addr: SocketAddr,
    /// `None` for the model server itself, which shares its core with the load.
    family: Option<Family>,
}

/// The servers of an experiment; they end with it.
pub struct Ground {
    _fake: FakeOllama,
    _nginx: Nginx,
    pub gateway: Gateway,
    pub systems: Vec<System>,
    access_token: String,
    _cluster: Option<Cluster>,
}

impl Ground {
    pub async fn start(run: &Run<'_>, pace: Pace, slots: usize) -> Result<Self> {
        Self::start_on(run, Store::Sqlite, pace, slots).await
    }

    pub async fn start_on(run: &Run<'_>, store: Store, pace: Pace, slots: usize) -> Result<Self> {
        const DATABASE: &str = "bench";
        let cluster = match store {
            Store::Sqlite => None,
            Store::Postgres => {
                let cluster = Cluster::start().await?;
                cluster.create_database(DATABASE).await?;
                Some(cluster)
            }
        };
        let database_url = cluster.as_ref().map(|cluster| cluster.url(DATABASE));
        let fake = FakeOllama::start(run.place, pace, slots).await?;
        let (nginx, nginx_family) = start_nginx(run.place, fake.addr).await?;
        let gateway = Gateway::start_on(run.place, fake.addr, slots, database_url.as_deref()).await?;
        let access_token = match store {
            Store::Sqlite => run.access_token.to_owned(),
            Store::Postgres => {
                gateway.sign_up().await?;
                gateway.log_in().await?
            }
        };
        let systems = vec![
            System { name: "no proxy", dialect: Dialect::Ollama, addr: fake.addr, family: None },
            System { name: NGINX, dialect: Dialect::Ollama, addr: nginx.addr(), family: Some(nginx_family) },
            System {
                name: GATEWAY,
                dialect: Dialect::Gateway,
                addr: gateway.addr,
                family: Some(gateway.family()),
            },
        ];
        Ok(Self { _fake: fake, _nginx: nginx, gateway, systems, access_token, _cluster: cluster })
    }

    /// The same request for each system, after each has answered one like it.
    pub async fn requests(&self, kind: Kind, tokens: u64) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        for system in &self.systems {
            let mut request = system.request(&self.access_token, kind, tokens);
            let mut connection = Connection::open(system.addr).await?;
            let answer = async {
                if kind.is_stamped() {
                    system.request(&self.access_token, kind, 1).send(&mut connection, |_| {}).await
                } else {
                    request.verify(&mut connection).await
                }
            };
            let answered = timeout(ANSWER_PATIENCE, answer).await;
            let answered = answered.with_context(|| format!("{} does not answer", system.name))?;
            answered.with_context(|| format!("{} answers wrongly", system.name))?;
            requests.push(request);
        }
        Ok(requests)
    }

    /// Leaves the others out of what follows.
    pub fn keep_only(&mut self, name: &str) {
        self.systems.retain(|system| system.name == name);
    }
}

impl System {
    fn request(&self, access_token: &str, kind: Kind, tokens: u64) -> Request {
        Request::new(self.dialect, kind, tokens, self.addr, access_token)
    }

    /// The same under another name, to be asked for something else.
    pub fn named(&self, name: &'static str) -> Self {
        Self { name, dialect: self.dialect, addr: self.addr, family: self.family.clone() }
    }

    /// Starts to count its processor time.
    pub fn meter(&self) -> Result<Meter<'_>> {
        let start = self.family.as_ref().map(|family| Ok::<_, anyhow::Error>((family, family.cpu()?)));
        Ok(Meter(start.transpose()?))
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        self.family.as_ref().context("the model server's memory is not measured")?.resident_bytes()
    }
}

pub struct Meter<'a>(Option<(&'a Family, CpuSnapshot)>);

impl Meter<'_> {
    /// Microseconds of processor time so far; NaN for a system that is not measured.
    pub fn micros(&self) -> Result<f64> {
        let Some((family, start)) = &self.0 else { return Ok(f64::NAN) };
        Ok(family.cpu()?.since(start).as_secs_f64() * 1e6)
    }
}

/// Measures every system once per round.
pub async fn interleave(
    run: &Run<'_>,
    systems: &[System],
    mut measure: impl AsyncFnMut(usize, &System) -> Result<Vec<f64>>,
) -> Result<Vec<Row>> {
    let mut rows: Vec<_> =
        systems.iter().map(|system| Row { name: system.name, rounds: Vec::new() }).collect();
    for round in 0..run.rounds {
        for at in (0..systems.len()).map(|turn| (round + turn) % systems.len()) {
            let figures = timeout(ROUND_PATIENCE, measure(at, &systems[at])).await;
            let figures = figures.with_context(|| format!("{} hangs", systems[at].name))?;
            rows[at].rounds.push(figures.with_context(|| systems[at].name)?);
        }
    }
    Ok(rows)
}
