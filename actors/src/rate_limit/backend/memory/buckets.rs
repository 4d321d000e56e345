//! The buckets of one shard: one table per scope, so that a flood of addresses cannot push users out of theirs.

use std::hash::{BuildHasher as _, RandomState};

use domain::quota::{Bucket, Micros, Quota, Verdict};

use super::table::{Place, Table, Worth};
use crate::rate_limit::{
    Decision, Said, Scope,
    config::LiveLimits,
    key::{Charge, Charges, Key},
    metrics::ShardMetrics,
    turn::{Hold, Kept},
};

/// Overflow buckets for the IPv6 addresses that found no room, and as many for the IPv4 addresses. Neighbours share one,
/// so a network that fills a table leaves other newcomers nearly all of theirs.
const LANES: usize = 64;

pub(super) struct Buckets {
    /// By [`Scope`].
    tables: [Table<Key, Held>; Scope::ALL.len()],
    /// What those who share a bucket may spend.
    live: LiveLimits,
    /// Nobody can choose a network to share a lane with.
    hasher: RandomState,
}

/// A bucket and the quota it is counted in.
#[derive(Clone, Copy)]
pub(super) struct Held {
    quota: Quota,
    bucket: Bucket,
}

impl Held {
    fn full(quota: Quota) -> Self {
        Self { quota, bucket: Bucket::default() }
    }

    fn take(&mut self, now: Micros, charge: &Charge) -> Verdict {
        self.quota.take(&mut self.bucket, now, charge.cost_in(&self.quota))
    }
}

impl Buckets {
    pub(super) fn new(live: &LiveLimits, metrics: &ShardMetrics) -> Self {
        let config = live.load();
        let tables = Scope::ALL.map(|scope| {
            let overflow = Held::full(config.quota(scope));
            let lanes = if scope.is_of_addresses() { 2 * LANES } else { 1 };
            Table::new(config.keys_per_shard, overflow, lanes, metrics.of(scope).clone())
        });
        Self { tables, live: live.clone(), hasher: RandomState::new() }
    }

    /// Pays all charges, or none, and tells what of it is only reserved. `now` must not run backwards between calls.
    pub(super) fn pay(&mut self, now: Micros, charges: &Charges) -> (Decision, Vec<Hold>) {
        // One charge needs no look ahead and reserves nothing, and nearly all questions are that.
        if charges.more.is_empty() {
            let charge = &charges.first;
            let (held, _) = self.held(now, charge);
            let said = Said { scope: charge.scope, verdict: held.take(now, charge) };
            return (said.into(), Vec::new());
        }
        let mut seen: Vec<_> = charges.iter().map(|charge| self.look(now, charge)).collect();
        let decision = charges.decide(|at, charge| {
            let (mut held, _) = seen[at];
            held.take(now, charge)
        });
        let mut holds = Vec::new();
        if decision.verdict.allowed {
            for (charge, (held, kept)) in charges.iter().zip(&mut seen) {
                held.take(now, charge);
                if let Some(place) = self.kept(charge.scope, &charge.key, *kept) {
                    *place = *held;
                }
                if charge.scope.counts_tokens() {
                    let Charge { scope, key, .. } = *charge;
                    let (quota, amount) = (held.quota, charge.cost_in(&held.quota));
                    holds.push(Hold { scope, key, quota, amount, kept: *kept });
                }
            }
        }
        (decision, holds)
    }

    /// Lets what is held have cost `spent`. A bucket that was forgotten was full, and one whose quota changed is another one:
    /// neither is given anything back.
    pub(super) fn settle(&mut self, now: Micros, hold: &Hold, spent: u32) {
        let Hold { scope, key, quota, amount, kept } = *hold;
        if spent > amount && kept == Kept::Own && self.kept(scope, &key, kept).is_none() {
            // A debt is remembered, though.
            self.held(now, &Charge { scope, key, quota, cost: 0 });
        }
        if let Some(held) = self.kept(scope, &key, kept)
            && held.quota == quota
        {
            quota.settle(&mut held.bucket, now, amount, spent);
        }
    }

    fn look(&mut self, now: Micros, charge: &Charge) -> (Held, Kept) {
        let (held, kept) = self.held(now, charge);
        (*held, kept)
    }

    fn held(&mut self, now: Micros, charge: &Charge) -> (&mut Held, Kept) {
        let lane = if charge.scope.is_of_addresses() { self.lane(charge.key) } else { 0 };
        let table = &mut self.tables[charge.scope as usize];
        let place = table.place(
            now,
            charge.key,
            lane,
            || Held::full(charge.quota),
            |held| if held.quota.is_full(&held.bucket, now) { Worth::Nothing } else { Worth::InUse },
        );
        match place {
            Place::Own(held) => {
                if held.quota != charge.quota {
                    *held = Held::full(charge.quota);
                }
                (held, Kept::Own)
            }
            Place::Shared(held) => {
                let quota = self.live.load().quota(charge.scope);
                if held.quota != quota {
                    *held = Held::full(quota);
                }
                (held, Kept::Shared)
            }
        }
    }

    /// The bucket that was found there before.
    fn kept(&mut self, scope: Scope, key: &Key, kept: Kept) -> Option<&mut Held> {
        let table = &mut self.tables[scope as usize];
        match kept {
            Kept::Own => table.own(key),
            // Only addresses have several, and they are never asked together with others.
            Kept::Shared => Some(table.shared(0)),
            Kept::Server => None,
        }
    }

    fn lane(&self, address: Key) -> usize {
        let (is_v6, network) = address.surroundings();
        // Below the number of lanes, which is a usize.
        let lane = (self.hasher.hash_one(network) % LANES as u64) as usize;
        if is_v6 { lane } else { LANES + lane }
    }

    #[cfg(test)]
    pub(super) fn take(&mut self, now: Micros, charges: &Charges) -> Decision {
        self.pay(now, charges).0
    }

    #[cfg(test)]
    pub(super) fn table(&self, scope: Scope) -> &Table<Key, Held> {
        &self.tables[scope as usize]
    }
}
