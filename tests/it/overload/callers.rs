//! Who asks: many users, each with an API key, from many addresses behind one proxy.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
};

use aws_lc_rs::digest::{SHA256, digest};
use domain::token_text::{TokenKind, compose, recognisable};
use serde_json::json;
use support::client::with_body;

use crate::harness::{Database, MODEL, Random};

/// Where they call from: enough that nobody shares one for long.
const ADDRESSES: usize = 4_096;

/// Tokens of an answer: few, since it is not their writing that is measured.
pub(super) const TOKENS: u64 = 8;

pub(super) const PROMPT: &str = "Why is the sky blue?";

pub(super) struct Callers {
    addr: SocketAddr,
    keys: Vec<String>,
    body: String,
}

impl Callers {
    /// Creates `count` users with a key each beside the service at `addr`: it would let strangers sign up too slowly.
    pub(super) async fn create(count: usize, addr: SocketAddr, database: &Database) -> Self {
        let secrets: Vec<_> = (0..count).map(|number| compose(TokenKind::ApiKey, &bytes(number))).collect();
        let users = (0..count).map(|number| {
            format!("(x'{}', 'caller-{number}@example.org', 'no password', 'user', 0)", id(number))
        });
        let keys = secrets.iter().enumerate().map(|(number, secret)| {
            let hash = hex(digest(&SHA256, secret.reveal().as_bytes()).as_ref());
            let (id, prefix) = (id(number), recognisable(secret));
            format!("(x'{id}', x'{id}', 'load', '{prefix}', x'{hash}', 'chat models', 0)")
        });
        let users = users.collect::<Vec<_>>().join(", ");
        let keys = keys.collect::<Vec<_>>().join(", ");
        for insert in [
            format!("users (id, email, password_hash, role, created_at) VALUES {users}"),
            format!("api_keys (id, user_id, name, prefix, hash, scopes, created_at) VALUES {keys}"),
        ] {
            let made = database.texts(&format!("INSERT INTO {insert} RETURNING hex(id)")).await;
            assert_eq!(made.len(), count);
        }
        let body = json!({
            "model": MODEL,
            "messages": [{"role": "user", "content": PROMPT}],
            "store": false,
            "options": {"num_predict": TOKENS},
        });
        let keys = secrets.iter().map(|secret| secret.reveal().clone()).collect();
        Self { addr, keys, body: body.to_string() }
    }

    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// A chat of `caller`, from somewhere.
    pub(super) fn chat(&self, caller: usize, random: &mut Random) -> String {
        self.request("POST /v1/chat", caller, random.below(ADDRESSES), &self.body)
    }

    /// A look of somebody at the model and its queue.
    pub(super) fn look(&self) -> String {
        self.request(&format!("GET /v1/models/{MODEL}"), 0, 0, "")
    }

    fn request(&self, what: &str, caller: usize, address: usize, body: &str) -> String {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + address as u32);
        let headers = format!("X-Api-Key: {}\r\nX-Forwarded-For: {address}\r\n", self.keys[caller]);
        with_body(self.addr, what, &headers, body)
    }
}

/// Draws one caller after the other, none again before half of the others: people wait for an answer before they ask again.
///
/// Who has two turns waiting loses the newer one when the queue is full and somebody comes who has none. That is as it
/// should be, and another matter than being refused at the door.
pub(super) struct Turns {
    ready: Vec<usize>,
    resting: VecDeque<usize>,
}

impl Turns {
    pub(super) fn of(callers: usize) -> Self {
        Self { ready: (0..callers).collect(), resting: VecDeque::new() }
    }

    pub(super) fn next(&mut self, random: &mut Random) -> usize {
        if self.resting.len() >= self.ready.len() {
            self.ready.extend(self.resting.pop_front());
        }
        let caller = self.ready.swap_remove(random.below(self.ready.len()));
        self.resting.push_back(caller);
        caller
    }
}

#[test]
fn nobody_has_another_turn_before_half_of_the_others_and_everybody_has_some() {
    let (mut turns, mut random) = (Turns::of(20), Random::new(1));
    let drawn: Vec<usize> = (0..400).map(|_| turns.next(&mut random)).collect();
    for (at, caller) in drawn.iter().enumerate() {
        assert!(!drawn[at + 1..].iter().take(9).any(|next| next == caller), "{caller} at {at}");
    }
    assert!((0..20).all(|caller| drawn.contains(&caller)));
}

/// What a caller's key is composed of, and what tells the callers apart.
fn bytes(number: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    bytes
}

/// The first bytes of an identity are the time of its making: theirs is the beginning of 1970.
fn id(number: usize) -> String {
    hex(&bytes(number)[16..])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
