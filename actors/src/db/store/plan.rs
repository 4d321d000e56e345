//! In which order, and in how few statements, the changes of one transaction are written.

use std::collections::HashMap;

use domain::{
    audit::AuditEntry,
    id::{MessageId, TurnId},
    turn::{BeginTurn, Begun, Checkpoint, Settlement},
};

use super::Applied;
use crate::db::{
    DbError,
    message::{Write, Written},
};

/// A batch sorted by table. What is not in `others` is written with one statement per table.
pub(super) struct Plan<'a> {
    /// Each with its place in the batch; written first, in order, one statement each.
    pub others: Vec<(usize, &'a Write)>,
    pub begins: Vec<(usize, &'a BeginTurn)>,
    /// The highest of each message: a statement must meet no row twice.
    pub checkpoints: Vec<&'a Checkpoint>,
    /// The first of each turn: an end is written once.
    pub settlements: Vec<&'a Settlement>,
    pub notes: Vec<&'a AuditEntry>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(batch: &[&'a Write]) -> Self {
        let mut others = Vec::new();
        let mut begins = Vec::new();
        let mut notes = Vec::new();
        let mut checkpoints = HashMap::<MessageId, &Checkpoint>::new();
        let mut settlements = HashMap::<TurnId, &Settlement>::new();
        for (place, write) in batch.iter().copied().enumerate() {
            match write {
                Write::BeginTurn(begin) => begins.push((place, begin.as_ref())),
                Write::Checkpoint(new) => {
                    let kept = checkpoints.entry(new.reply).or_insert(new);
                    if kept.seq < new.seq {
                        *kept = new;
                    }
                }
                Write::Settle(settlement) => {
                    settlements.entry(settlement.turn).or_insert(settlement);
                }
                Write::Note(entry) => notes.push(entry.as_ref()),
                _ => others.push((place, write)),
            }
        }
        // Two lanes that touch the same rows meet them in one order, and so wait for each other rather than deadlock.
        begins.sort_by_key(|(_, begin)| begin.stored().map(|stored| stored.conversation));
        let mut checkpoints: Vec<_> = checkpoints.into_values().collect();
        checkpoints.sort_by_key(|checkpoint| checkpoint.reply);
        let mut settlements: Vec<_> = settlements.into_values().collect();
        settlements.sort_by_key(|settlement| settlement.turn);
        Self { others, begins, checkpoints, settlements, notes }
    }

    /// The answers of a batch of `length`, all good until told otherwise.
    pub(super) fn answers(length: usize) -> Applied {
        vec![Ok(Written::Done); length]
    }

    /// Takes out, and refuses, the turns whose conversation is not their user's.
    pub(super) fn keep_admitted(&mut self, admitted: &[TurnId], answers: &mut Applied) {
        self.begins.retain(|(place, begin)| {
            let is_admitted = begin.exchange.is_none() || admitted.contains(&begin.turn);
            if let Some(answer) = answers.get_mut(*place) {
                *answer = if is_admitted { Ok(Begun::New.into()) } else { Err(DbError::NotFound) };
            }
            is_admitted
        });
    }
}
