//! The leases of running turns of the users of one shard.

use std::time::Duration;

use domain::{id::TurnId, quota::Micros};

use super::table::{Place, Table, Worth};
use crate::rate_limit::{key::Key, metrics::TableMetrics};

pub(super) struct Streams {
    table: Table<Key, Vec<Lease>>,
    lifetime_micros: u64,
}

#[derive(Clone, Copy)]
struct Lease {
    turn: TurnId,
    until: Micros,
}

impl Streams {
    pub(super) fn new(users: usize, lifetime: Duration, metrics: TableMetrics) -> Self {
        let lifetime_micros = u64::try_from(lifetime.as_micros()).unwrap_or(u64::MAX);
        Self { table: Table::new(users, Vec::new(), 1, metrics), lifetime_micros }
    }

    /// Grants `turn` a lease if fewer than `cap` others live. `now` must not run backwards between calls.
    pub(super) fn lease(&mut self, now: Micros, user: Key, turn: TurnId, cap: u32) -> bool {
        let until = self.until(now);
        let leases = self.of(now, user);
        leases.retain(|lease| lease.until > now && lease.turn != turn);
        let is_granted = u32::try_from(leases.len()).is_ok_and(|others| others < cap);
        if is_granted {
            leases.push(Lease { turn, until });
        }
        is_granted
    }

    /// Ends a lease, if there is one.
    pub(super) fn release(&mut self, user: Key, turn: TurnId) {
        let is_other = |lease: &Lease| lease.turn != turn;
        if let Some(leases) = self.table.own(&user) {
            leases.retain(is_other);
        }
        self.table.shared(0).retain(is_other);
    }

    /// Lets leases live on, whether they are known or were forgotten.
    pub(super) fn renew(&mut self, now: Micros, user: Key, turns: &[TurnId]) {
        let until = self.until(now);
        let leases = self.of(now, user);
        leases.retain(|lease| lease.until > now && !turns.contains(&lease.turn));
        leases.extend(turns.iter().map(|turn| Lease { turn: *turn, until }));
    }

    fn of(&mut self, now: Micros, user: Key) -> &mut Vec<Lease> {
        let worth = |leases: &Vec<Lease>| {
            if leases.iter().any(|lease| lease.until > now) { Worth::InUse } else { Worth::Nothing }
        };
        let (Place::Own(leases) | Place::Shared(leases)) = self.table.place(now, user, 0, Vec::new, worth);
        leases
    }

    fn until(&self, now: Micros) -> Micros {
        Micros(now.0.saturating_add(self.lifetime_micros))
    }
}
