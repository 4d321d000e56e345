//! The buckets of one shard: one table per scope, so that a flood of addresses cannot push users out of theirs.

use domain::quota::{Bucket, Micros, Quota, Verdict};

use super::table::{Place, Table, Worth};
use crate::rate_limit::{
    Decision, RateLimitConfig, Scope,
    key::{Charge, Charges, Key},
    metrics::ShardMetrics,
};

pub(super) struct Buckets {
    /// By [`Scope`].
    tables: [Table<Key, Held>; Scope::ALL.len()],
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

    fn take(&mut self, now: Micros, cost: u32) -> Verdict {
        self.quota.take(&mut self.bucket, now, cost)
    }
}

impl Buckets {
    pub(super) fn new(config: &RateLimitConfig, metrics: &ShardMetrics) -> Self {
        let tables = Scope::ALL.map(|scope| {
            let overflow = Held::full(config.quota(scope));
            Table::new(config.keys_per_shard, overflow, metrics.of(scope).clone())
        });
        Self { tables }
    }

    /// Pays all charges, or none. `now` must not run backwards between calls.
    pub(super) fn take(&mut self, now: Micros, charges: &Charges) -> Decision {
        // One charge needs no look ahead, and nearly all questions are that.
        if !charges.more.is_empty() {
            let looked = charges.judge(|charge| {
                let mut held = *self.held(now, charge);
                held.take(now, charge.cost)
            });
            if !looked.verdict.allowed {
                return looked;
            }
        }
        charges.judge(|charge| self.held(now, charge).take(now, charge.cost))
    }

    fn held(&mut self, now: Micros, charge: &Charge) -> &mut Held {
        let table = &mut self.tables[charge.scope as usize];
        let place = table.place(
            now,
            charge.key,
            || Held::full(charge.quota),
            |held| if held.quota.is_full(&held.bucket, now) { Worth::Nothing } else { Worth::InUse },
        );
        match place {
            Place::Own(held) => {
                if held.quota != charge.quota {
                    *held = Held::full(charge.quota);
                }
                held
            }
            Place::Shared(held) => held,
        }
    }

    #[cfg(test)]
    pub(super) fn table(&self, scope: Scope) -> &Table<Key, Held> {
        &self.tables[scope as usize]
    }
}
