//! Load: as much as the service can take (a closed loop), or as much as we like (an open loop, which never waits for an
//! answer before it asks again).

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use serde_json::Value;
use support::{client::Connection, fake_ollama::Tokens};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    callers::{Callers, PROMPT, TOKENS, Turns},
    sockets::Sockets,
};
use crate::harness::{PATIENCE, Random};

pub(super) struct Generator {
    callers: Callers,
    turns: Turns,
    sockets: Arc<Sockets>,
    random: Random,
}

/// A request that was answered, or refused as it should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) due: Instant,
    /// When it was sent.
    pub(super) sent: Instant,
    /// When its reply was whole.
    pub(super) done: Instant,
    pub(super) status: u16,
}

impl Seen {
    pub(super) const fn is_answered(&self) -> bool {
        self.status == 200
    }

    /// From the moment it was due: a caller who could not even ask was waiting too.
    pub(super) fn took(&self) -> Duration {
        self.done - self.due
    }
}

impl Generator {
    pub(super) fn new(callers: Callers, sockets: Arc<Sockets>, seed: u64) -> Self {
        Self { turns: Turns::of(callers.count()), callers, sockets, random: Random::new(seed) }
    }

    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// How many turns the model has, running and waiting, as callers are told.
    pub(super) async fn queue(&self) -> Result<u64> {
        let mut socket = self.sockets.take().await?;
        let (status, card) = exchange(&mut socket.connection, &self.callers.look()).await?;
        self.sockets.give_back(socket);
        let queue = &serde_json::from_slice::<Value>(&card)?["queue"];
        let turns = || Some(queue["running"].as_u64()? + queue["waiting"].as_u64()?);
        turns().with_context(|| format!("{status} without a queue: {}", String::from_utf8_lossy(&card)))
    }

    /// One chat while nobody else asks.
    pub(super) async fn ask(&mut self) -> Result<Seen> {
        let request = self.chat();
        ask(&self.sockets, &request, Instant::now()).await
    }

    fn chat(&mut self) -> String {
        let caller = self.turns.next(&mut self.random);
        self.callers.chat(caller, &mut self.random)
    }

    /// Has `clients` ask again as soon as they were answered, while `goes_on`.
    pub(super) async fn saturate(&mut self, clients: usize, goes_on: impl Fn() -> bool) -> Result<Vec<Seen>> {
        let randoms: Vec<_> = (0..clients).map(|_| self.random.split()).collect();
        let client = async |mut random: Random| -> Result<Vec<Seen>> {
            let mut seen = Vec::new();
            while goes_on() {
                let caller = random.below(self.callers.count());
                let request = self.callers.chat(caller, &mut random);
                seen.push(ask(&self.sockets, &request, Instant::now()).await?);
            }
            Ok(seen)
        };
        let seen: Result<Vec<_>> = join_all(randoms.into_iter().map(client)).await.into_iter().collect();
        Ok(seen?.concat())
    }

    /// Sends a request at each of `due` after `begin`, whatever comes back, and returns when all have their reply.
    pub(super) async fn offer(&mut self, begin: Instant, due: &[Duration]) -> Vec<Result<Seen>> {
        let mut asking = JoinSet::new();
        let mut seen = Vec::with_capacity(due.len());
        for due in due {
            let due = begin + *due;
            let request = self.chat();
            sleep_until(due).await;
            let sockets = self.sockets.clone();
            asking.spawn(async move { ask(&sockets, &request, due).await });
            while let Some(replied) = asking.try_join_next() {
                seen.push(replied.unwrap());
            }
        }
        seen.extend(asking.join_all().await);
        seen
    }
}

/// Sends a chat that was due, and judges the reply.
///
/// # Errors
///
/// With what is wrong with the reply, or why there is none.
async fn ask(sockets: &Sockets, request: &str, due: Instant) -> Result<Seen> {
    let sent = Instant::now();
    let mut socket = sockets.take().await?;
    let (status, body) = exchange(&mut socket.connection, request).await?;
    let done = Instant::now();
    judge(status, &socket.connection, &body)
        .with_context(|| format!("{status} {}", String::from_utf8_lossy(&body)))?;
    sockets.give_back(socket);
    Ok(Seen { due, sent, done, status })
}

async fn exchange(connection: &mut Connection, request: &str) -> Result<(u16, Vec<u8>)> {
    let mut body = Vec::new();
    let asked = connection.ask(request.as_bytes(), |piece| body.extend_from_slice(piece));
    let status = timeout(PATIENCE, asked).await.context("no whole reply in time")??;
    Ok((status, body))
}

/// What a reply may be: the whole answer, or a refusal that says when to come back.
fn judge(status: u16, connection: &Connection, body: &[u8]) -> Result<()> {
    let header = |name| connection.header(name).with_context(|| format!("no {name}"));
    ensure!(header("content-type")?.starts_with("application/json"), "no JSON");
    let body: Value = serde_json::from_slice(body)?;
    if status == 200 {
        let expected = Tokens::new(PROMPT, -1).text(TOKENS);
        ensure!(body["message"]["content"] == expected, "not what the model said");
        return Ok(());
    }
    let code = if status == 429 { "rate_limited" } else { "overloaded" };
    ensure!(matches!(status, 429 | 503) && body["error"]["code"] == code, "no refusal for load");
    ensure!(header("retry-after")?.parse::<u64>()? >= 1, "come back at once");
    ensure!(body["error"]["request_id"] == header("x-request-id")?, "another request's id");
    Ok(())
}
