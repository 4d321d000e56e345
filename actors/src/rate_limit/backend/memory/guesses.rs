//! The guesses at the accounts of one shard.
//!
//! A full table forgets first the accounts that were hardly guessed at, then those nobody waits for at this moment, however
//! many failures they had: whoever fills it with accounts of [`Rule::free`] failures each gets as many free tries again at
//! one that waited longer. Each failure of the filling is itself counted and paid for.

use std::collections::VecDeque;

use domain::{
    guessing::{Guesses, Rule, Wait},
    quota::Micros,
    session::Network,
};

use super::table::{Place, Table, Worth};
use crate::rate_limit::{AccountTag, message::LookEnd, metrics::TableMetrics};

pub(super) struct Accounts {
    table: Table<AccountTag, Guesses>,
    /// Whose latest try was counted in the shared entry; at most [`SHARED`], oldest first.
    shared: VecDeque<AccountTag>,
}

const RULE: Rule = Rule::DEFAULT;

/// Accounts without an entry of their own whose tries can be taken back; those of further ones stay failures.
const SHARED: usize = 1_024;

impl Accounts {
    pub(super) fn new(capacity: usize, metrics: TableMetrics) -> Self {
        Self { table: Table::new(capacity, Guesses::default(), 1, metrics), shared: VecDeque::new() }
    }

    /// Judges a try by [`Rule::admit`]. `now` must not run backwards between calls.
    pub(super) fn admit(
        &mut self,
        now: Micros,
        account: AccountTag,
        network: Network,
        is_known: bool,
    ) -> Result<(), Wait> {
        let place = self.table.place(now, account, 0, Guesses::default, |guesses| worth(guesses, now));
        let (is_shared, guesses) = match place {
            Place::Own(guesses) => (false, guesses),
            Place::Shared(guesses) => (true, guesses),
        };
        RULE.admit(guesses, now, network, is_known)?;
        self.shared.retain(|other| *other != account);
        if is_shared {
            if self.shared.len() >= SHARED {
                self.shared.pop_front();
            }
            self.shared.push_back(account);
        }
        Ok(())
    }

    /// Takes a try back from where it was counted; nothing when that was forgotten meanwhile.
    pub(super) fn looked(&mut self, account: AccountTag, network: Network, end: LookEnd) {
        if self.shared.contains(&account) {
            // What is shared is not cleared by one who knows one password.
            return RULE.undo(self.table.shared(0), network);
        }
        match (self.table.own(&account), end) {
            (Some(guesses), LookEnd::Right) => RULE.right(guesses, network),
            (Some(guesses), LookEnd::Undone) => RULE.undo(guesses, network),
            (None, _) => {}
        }
    }
}

fn worth(guesses: &Guesses, now: Micros) -> Worth {
    if RULE.is_slight(guesses, now) {
        Worth::Nothing
    } else if RULE.is_idle(guesses, now) {
        Worth::Little
    } else {
        Worth::InUse
    }
}
