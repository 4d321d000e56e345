//! The decisions as scripts on the server, each one atomic, by the server's clock (C2).
//!
//! The scripts only decide and remember; what a caller is told is worked out here, from what a bucket held before, by the
//! same code that decides in memory.

use std::time::Duration;

use domain::{
    guessing::{Rule, Wait},
    id::TurnId,
    quota::{Micros, Quota, Span},
    session::Network,
};
use redis::{Cmd, RedisError, Value, aio::MultiplexedConnection, cmd};

use crate::rate_limit::{
    AccountTag, Decision, Scope,
    key::{Charge, Charges, Key},
    message::LookEnd,
    turn::{Hold, Kept},
};

/// The largest bucket that the scripts count with exactly, in microseconds of refilling: 35 years. Until the year 2112 the time
/// is below 2^52; a bucket that owes as much as it holds is full again two of these later, and a cost comes on top: together
/// they stay below 2^53, up to where doubles hold every whole number.
const LONGEST: u64 = 1 << 50;

/// The scripts by the names that the server gave them: hashes of their texts.
#[derive(Clone)]
pub(super) struct Scripts {
    take: String,
    settle: String,
    guess: String,
    looked: String,
    lease: String,
    renew: String,
}

impl Scripts {
    /// Has the server remember the scripts, until it restarts.
    pub(super) async fn load(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let mut load = redis::pipe();
        for text in [
            include_str!("take.lua"),
            include_str!("settle.lua"),
            include_str!("guess.lua"),
            include_str!("looked.lua"),
            include_str!("lease.lua"),
            include_str!("renew.lua"),
        ] {
            load.cmd("SCRIPT").arg("LOAD").arg(text);
        }
        let (take, settle, guess, looked, lease, renew) = load.query_async(connection).await?;
        Ok(Self { take, settle, guess, looked, lease, renew })
    }

    /// `None` for quotas without permits, which the server cannot count in.
    pub(super) fn take(&self, charges: &Charges) -> Option<Cmd> {
        let mut command = call(&self.take, 1 + charges.more.len());
        for charge in charges.iter() {
            command.arg(bucket_name(charges.first.key, charge.scope, charge.key, &charge.quota));
        }
        for charge in charges.iter() {
            let (quota, cost) = (&charge.quota, charge.cost_in(&charge.quota));
            let over = Span { micros: LONGEST + 1, part: 0 };
            let price = if cost > quota.burst { over } else { bounded(quota.price(cost)?, LONGEST) };
            let capacity = bounded(quota.price(quota.burst)?, LONGEST);
            command
                .arg(quota.permits)
                .arg(price.micros)
                .arg(price.part)
                .arg(capacity.micros)
                .arg(capacity.part);
        }
        Some(command)
    }

    /// `None` as for [`Scripts::take`].
    pub(super) fn settle(&self, payer: Key, holds: &[Hold], spent: u32) -> Option<Cmd> {
        let mut command = call(&self.settle, holds.len());
        for Hold { scope, key, quota, .. } in holds {
            command.arg(bucket_name(payer, *scope, *key, quota));
        }
        for Hold { quota, amount, .. } in holds {
            let is_debt = spent > *amount;
            let difference = bounded(quota.price(amount.abs_diff(spent))?, 2 * LONGEST);
            let capacity = bounded(quota.price(quota.burst)?, LONGEST);
            command
                .arg(quota.permits)
                .arg(u8::from(is_debt))
                .arg(difference.micros)
                .arg(difference.part)
                .arg(capacity.micros)
                .arg(capacity.part);
        }
        Some(command)
    }

    pub(super) fn guess(&self, rule: &Rule, account: &AccountTag, network: Network, is_known: bool) -> Cmd {
        let mut command = self.on_account(&self.guess, account, network);
        command
            .arg(u8::from(is_known))
            .arg(rule.free)
            .arg(micros(rule.first_wait))
            .arg(micros(rule.longest_wait));
        command.arg(rule.besieged).arg(micros(rule.memory)).arg(rule.networks);
        command
    }

    pub(super) fn looked(&self, account: &AccountTag, network: Network, end: LookEnd) -> Cmd {
        let mut command = self.on_account(&self.looked, account, network);
        command.arg(match end {
            LookEnd::Right => "right",
            LookEnd::Undone => "undone",
        });
        command
    }

    pub(super) fn lease(&self, user: Key, turn: TurnId, cap: u32, lifetime: Duration) -> Cmd {
        let mut command = call(&self.lease, 1);
        command.arg(streams_name(user)).arg(member(turn)).arg(cap).arg(millis(lifetime));
        command
    }

    /// Needs no script: it is one step, and no clock is asked.
    pub(super) fn release(user: Key, turn: TurnId) -> Cmd {
        let mut command = cmd("ZREM");
        command.arg(streams_name(user)).arg(member(turn));
        command
    }

    pub(super) fn renew(&self, user: Key, turns: &[TurnId], lifetime: Duration) -> Cmd {
        let mut command = call(&self.renew, 1);
        command.arg(streams_name(user)).arg(millis(lifetime));
        for turn in turns {
            command.arg(member(*turn));
        }
        command
    }

    fn on_account(&self, script: &str, account: &AccountTag, network: Network) -> Cmd {
        let mut command = call(script, 1);
        command.arg(format!("deepersensor:{{{:032x}}}:guess", u128::from_be_bytes(*account)));
        command.arg(network.to_string());
        command
    }
}

fn call(script: &str, keys: usize) -> Cmd {
    let mut command = cmd("EVALSHA");
    command.arg(script).arg(keys);
    command
}

/// All buckets of one payer live in one place of a cluster: what stands in braces is all that is hashed. A bucket counts
/// in the units of its quota, so under another quota it is another bucket.
fn bucket_name(payer: Key, scope: Scope, key: Key, quota: &Quota) -> String {
    let (scope, period) = (scope.as_str(), quota.period.as_micros());
    format!("deepersensor:{{{payer:x}}}:{scope}:{key:x}:{}/{period}", quota.permits)
}

/// In the same place of a cluster as the user's buckets.
fn streams_name(user: Key) -> String {
    format!("deepersensor:{{{user:x}}}:streams")
}

fn member(turn: TurnId) -> String {
    turn.to_string()
}

fn millis(lifetime: Duration) -> u64 {
    micros(lifetime).div_ceil(1_000).max(1)
}

fn bounded(span: Span, longest: u64) -> Span {
    if span.micros < longest { span } else { Span { micros: longest, part: 0 } }
}

fn micros(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST))
}

/// What [`Scripts::take`] answered; `None` when it is no such answer.
pub(super) fn decision(charges: &Charges, reply: Value) -> Option<Decision> {
    let numbers: Vec<u64> = redis::from_redis_value(reply).ok()?;
    let [_paid, now, held @ ..] = numbers.as_slice() else { return None };
    let (held, []) = held.as_chunks::<2>() else { return None };
    if held.len() != 1 + charges.more.len() {
        return None;
    }
    Some(charges.decide(|at, charge| {
        let [micros, part] = held[at];
        let full_at = Span { micros, part: u32::try_from(part).unwrap_or(u32::MAX) };
        let quota = &charge.quota;
        quota.take(&mut quota.bucket(full_at), Micros(*now), charge.cost_in(quota))
    }))
}

/// What was reserved of charges that were paid on the server.
pub(super) fn holds(charges: &Charges) -> Vec<Hold> {
    let reserved = charges.iter().filter(|charge| charge.scope.counts_tokens());
    let hold = |charge: &Charge| {
        let Charge { scope, key, quota, .. } = *charge;
        Hold { scope, key, quota, amount: charge.cost_in(&quota), kept: Kept::Server }
    };
    reserved.map(hold).collect()
}

/// What [`Scripts::guess`] answered; `None` when it is no such answer.
pub(super) fn judgement(reply: Value) -> Option<Result<(), Wait>> {
    let (wait, by_account_alone, _now): (u64, bool, u64) = redis::from_redis_value(reply).ok()?;
    let retry_after = Duration::from_micros(wait);
    Some(if wait == 0 { Ok(()) } else { Err(Wait { retry_after, by_account_alone }) })
}

/// What [`Scripts::lease`] answered; `None` when it is no such answer.
pub(super) fn is_granted(reply: Value) -> Option<bool> {
    redis::from_redis_value(reply).ok()
}
