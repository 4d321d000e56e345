//! The decisions as scripts on the server, each one atomic, by the server's clock (C2).
//!
//! The scripts only decide and remember; what a caller is told is worked out here, from what a bucket held before, by the
//! same code that decides in memory.

use std::time::Duration;

use domain::{
    guessing::{Rule, Wait},
    quota::{Micros, Span},
    session::Network,
};
use redis::{Cmd, RedisError, Value, aio::MultiplexedConnection, cmd};

use crate::rate_limit::{
    AccountTag, Decision,
    key::{Charge, Charges},
    message::LookEnd,
};

/// The longest span that the scripts count with exactly, in microseconds: 71 years.
const LONGEST: u64 = 1 << 51;

/// The scripts by the names that the server gave them: hashes of their texts.
#[derive(Clone)]
pub(super) struct Scripts {
    take: String,
    guess: String,
    looked: String,
}

impl Scripts {
    /// Has the server remember the scripts, until it restarts.
    pub(super) async fn load(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let mut load = redis::pipe();
        for text in [include_str!("take.lua"), include_str!("guess.lua"), include_str!("looked.lua")] {
            load.cmd("SCRIPT").arg("LOAD").arg(text);
        }
        let (take, guess, looked) = load.query_async(connection).await?;
        Ok(Self { take, guess, looked })
    }

    /// `None` for quotas without permits, which the server cannot count in.
    pub(super) fn take(&self, charges: &Charges) -> Option<Cmd> {
        let mut command = call(&self.take, 1 + charges.more.len());
        for charge in charges.iter() {
            command.arg(bucket_name(charges, charge));
        }
        for Charge { quota, cost, .. } in charges.iter() {
            let over = Span { micros: LONGEST + 1, part: 0 };
            let price = if *cost > quota.burst { over } else { bounded(quota.price(*cost)?) };
            let capacity = bounded(quota.price(quota.burst)?);
            command
                .arg(quota.permits)
                .arg(price.micros)
                .arg(price.part)
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
fn bucket_name(charges: &Charges, Charge { scope, key, quota, .. }: &Charge) -> String {
    let (payer, scope, period) = (charges.first.key, scope.as_str(), quota.period.as_micros());
    format!("deepersensor:{{{payer:x}}}:{scope}:{key:x}:{}/{period}", quota.permits)
}

fn bounded(span: Span) -> Span {
    if span.micros < LONGEST { span } else { Span { micros: LONGEST, part: 0 } }
}

fn micros(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST))
}

/// What [`Scripts::take`] answered; `None` when it is no such answer.
pub(super) fn decision(charges: &Charges, reply: Value) -> Option<Decision> {
    let numbers: Vec<u64> = redis::from_redis_value(reply).ok()?;
    let [_paid, now, held @ ..] = numbers.as_slice() else { return None };
    let mut held = held.chunks_exact(2);
    if held.len() != 1 + charges.more.len() {
        return None;
    }
    Some(charges.judge(|Charge { quota, cost, .. }| {
        // As many as there are charges.
        let full_at = held.next().unwrap_or(&[0, 0]);
        let full_at = Span { micros: full_at[0], part: u32::try_from(full_at[1]).unwrap_or(u32::MAX) };
        quota.take(&mut quota.bucket(full_at), Micros(*now), *cost)
    }))
}

/// What [`Scripts::guess`] answered; `None` when it is no such answer.
pub(super) fn judgement(reply: Value) -> Option<Result<(), Wait>> {
    let (wait, by_account_alone, _now): (u64, bool, u64) = redis::from_redis_value(reply).ok()?;
    let retry_after = Duration::from_micros(wait);
    Some(if wait == 0 { Ok(()) } else { Err(Wait { retry_after, by_account_alone }) })
}
