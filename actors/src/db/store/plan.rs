//! In which order, and in how few statements, the changes of one transaction are written.

use std::collections::{HashMap, HashSet};

use domain::{
    audit::AuditEntry,
    id::{ConversationId, MessageId, TurnId},
    reply::Position,
    turn::{BeginTurn, Begun, Checkpoint, Settlement},
};

use super::Applied;
use crate::db::{
    DbError,
    message::{Write, Written},
};

/// Whether there is no text of it that could be lost.
fn says_nothing(settlement: &Settlement) -> bool {
    settlement.answer.end() == Position::default()
}

/// Which turn the key of one that wants to begin stands for: that one, or another.
pub(super) struct Standing {
    pub asked: TurnId,
    pub turn: TurnId,
    pub same_request: bool,
}

/// A batch sorted by table. What is not in `others` is written with one statement per table.
pub(super) struct Plan<'a> {
    /// Each with its place in the batch; written first, in order, one statement each.
    pub others: Vec<(usize, &'a Write)>,
    pub begins: Vec<(usize, &'a BeginTurn)>,
    /// None that is settled here, too: its end writes the row.
    pub opens: Vec<&'a BeginTurn>,
    /// The highest of each message: a statement must meet no row twice.
    pub checkpoints: Vec<&'a Checkpoint>,
    /// The first of each turn: an end is written once.
    pub settlements: Vec<&'a Settlement>,
    pub notes: Vec<&'a AuditEntry>,
    /// Those from the disk whose answer needs a row that must be there already; each with its place.
    pub replays: Vec<(usize, &'a Settlement)>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(batch: &[&'a Write]) -> Self {
        let mut others = Vec::new();
        let mut begins = Vec::new();
        let mut opens = Vec::new();
        let mut notes = Vec::new();
        let mut replays = Vec::new();
        let mut checkpoints = HashMap::<MessageId, &Checkpoint>::new();
        let mut settlements = HashMap::<TurnId, &Settlement>::new();
        for (place, write) in batch.iter().copied().enumerate() {
            match write {
                Write::BeginTurn(begin) => begins.push((place, begin.as_ref())),
                Write::OpenTurn(begin) => opens.push(begin.as_ref()),
                Write::Checkpoint(new) => {
                    let kept = checkpoints.entry(new.reply).or_insert(new);
                    if kept.seq < new.seq {
                        *kept = new;
                    }
                }
                Write::Settle(settlement) => {
                    settlements.entry(settlement.turn).or_insert(settlement);
                }
                Write::Replay(settlement) if settlement.stored.is_none() || says_nothing(settlement) => {
                    settlements.entry(settlement.turn).or_insert(settlement);
                }
                Write::Replay(settlement) => replays.push((place, settlement.as_ref())),
                Write::Note(entry) => notes.push(entry.as_ref()),
                _ => others.push((place, write)),
            }
        }
        // Two lanes that touch the same rows meet them in one order, and so wait for each other rather than deadlock.
        begins.sort_by_key(|(_, begin)| begin.stored().map(|stored| stored.conversation));
        opens.retain(|begin| !settlements.contains_key(&begin.turn));
        let mut checkpoints: Vec<_> = checkpoints.into_values().collect();
        checkpoints.sort_by_key(|checkpoint| checkpoint.reply);
        let mut settlements: Vec<_> = settlements.into_values().collect();
        settlements.sort_by_key(|settlement| settlement.turn);
        Self { others, begins, opens, checkpoints, settlements, notes, replays }
    }

    /// Settles the turns from the disk that the store knows, and refuses the others.
    pub(super) fn keep_known(&mut self, known: &[TurnId], answers: &mut Applied) {
        for (place, settlement) in self.replays.drain(..) {
            if !known.contains(&settlement.turn) {
                if let Some(answer) = answers.get_mut(place) {
                    *answer = Err(DbError::NotFound);
                }
            } else if self.settlements.iter().all(|other| other.turn != settlement.turn) {
                self.settlements.push(settlement);
            }
        }
        self.settlements.sort_by_key(|settlement| settlement.turn);
    }

    /// The conversations that the batch touches, in the order in which they are held, if it changes any of them for itself.
    pub(super) fn shared_conversations(&self) -> Vec<ConversationId> {
        let changed = self.others.iter().filter_map(|(_, write)| match write {
            Write::UpdateConversation { conversation, .. }
            | Write::DeleteConversation { conversation, .. } => Some(*conversation),
            _ => None,
        });
        let mut touched: Vec<_> = changed.collect();
        if !touched.is_empty() {
            let begun = self.begins.iter().filter_map(|(_, begin)| begin.stored());
            touched.extend(begun.map(|stored| stored.conversation));
            touched.sort_unstable();
            touched.dedup();
        }
        touched
    }

    /// The answers of a batch of `length`, all good until told otherwise.
    pub(super) fn answers(length: usize) -> Applied {
        vec![Ok(Written::Done); length]
    }

    /// The turns that want to begin with a key, in the order in which all lanes take keys; of two with one key the first to
    /// come goes first.
    pub(super) fn with_keys(&self) -> Vec<&'a BeginTurn> {
        let mut with_keys: Vec<_> = self.begins.iter().filter(|(_, begin)| begin.claim.is_some()).collect();
        with_keys.sort_by_key(|(place, begin)| (begin.user, begin.claim.map(|claim| claim.key), *place));
        with_keys.into_iter().map(|(_, begin)| *begin).collect()
    }

    /// Takes out the turns whose key stands for another, and tells them which. One whose key stands for none has met somebody
    /// who frees it, twice.
    pub(super) fn keep_holders(&mut self, standings: &[Standing], answers: &mut Applied) {
        let standings: HashMap<_, _> = standings.iter().map(|standing| (standing.asked, standing)).collect();
        self.begins.retain(|(place, begin)| {
            let lost = match standings.get(&begin.turn) {
                _ if begin.claim.is_none() => return true,
                Some(Standing { turn, .. }) if *turn == begin.turn => return true,
                Some(Standing { turn, same_request, .. }) => {
                    Ok(Begun::Exists { turn: *turn, same_request: *same_request }.into())
                }
                None => Err(DbError::LOST_RACE),
            };
            if let Some(answer) = answers.get_mut(*place) {
                *answer = lost;
            }
            false
        });
    }

    /// Takes out, and refuses, the turns whose conversation is not their user's, or whose user is deleted; returns those
    /// among them that hold a key. Who asks for the same with such a key is refused with them.
    pub(super) fn keep_admitted(&mut self, admitted: &[TurnId], answers: &mut Applied) -> Vec<TurnId> {
        let admitted: HashSet<_> = admitted.iter().collect();
        let mut holders = Vec::new();
        self.begins.retain(|(place, begin)| {
            let is_admitted = admitted.contains(&begin.turn);
            if let Some(answer) = answers.get_mut(*place) {
                *answer = if is_admitted { Ok(Begun::New.into()) } else { Err(DbError::NotFound) };
            }
            if !is_admitted && begin.claim.is_some() {
                holders.push(begin.turn);
            }
            is_admitted
        });
        for answer in answers {
            if let Ok(Written::Begun(begun)) = answer
                && let Begun::Exists { turn, same_request: true } = **begun
                && holders.contains(&turn)
            {
                *answer = Err(DbError::NotFound);
            }
        }
        holders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::fresh_id,
        db::contract::samples::{begin_with, settlement, unstored},
    };

    #[test]
    fn a_row_that_is_settled_in_the_batch_is_not_opened() {
        let (ended, running) = (unstored(fresh_id()), unstored(fresh_id()));
        let batch = [
            Write::OpenTurn(Box::new(ended.clone())),
            Write::OpenTurn(Box::new(running.clone())),
            Write::Settle(Box::new(settlement(&ended, ""))),
        ];
        let plan = Plan::of(&batch.iter().collect::<Vec<_>>());
        assert_eq!(plan.opens.iter().map(|begin| begin.turn).collect::<Vec<_>>(), [running.turn]);
        assert_eq!(plan.settlements.len(), 1);
    }

    #[test]
    fn keys_are_taken_in_one_order_and_by_the_first_to_come() {
        let (user, low, high) = (fresh_id(), [1; 32], [2; 32]);
        let turns = [high, low, high, low].map(|key| begin_with(user, key, "sky"));
        let batch: Vec<_> = turns.iter().map(|turn| Write::BeginTurn(Box::new(turn.clone()))).collect();
        let other = Write::BeginTurn(Box::new(unstored(user)));
        let plan = Plan::of(&batch.iter().chain([&other]).collect::<Vec<_>>());
        let order: Vec<_> = plan.with_keys().iter().map(|begin| begin.turn).collect();
        assert_eq!(order, [1, 3, 0, 2].map(|place: usize| turns[place].turn));
    }
}
