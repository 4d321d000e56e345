//! Holds what clients were told against what is stored and what the model server was asked.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    kept::{Kept, Row},
    told::{End, Told},
};

/// A checkpoint is made after this long or this much, whichever comes first.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
const CHECKPOINT_BYTES: usize = 4 << 10;
/// What it may take from there to the commit; the suite's machine does much else.
const COMMITTED_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });

/// What became of a turn whose client was cut off, in the order of a turn's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// Not stored, and never promised to be.
    BeforeItsCommit,
    /// Stored, and not sent to the model server, of which its client heard that it waits.
    InTheQueue,
    /// The same, with a slot for it.
    BetweenCommitAndCall,
    BeforeTheFirstCheckpoint,
    MidStream,
    /// Settled, and the last word was lost.
    AfterItsSettlement,
}

#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What must not be; empty if all is well.
    pub(super) faults: Vec<String>,
    pub(super) fates: BTreeMap<Fate, usize>,
    /// Turns acknowledged, and those of them of which the end was told.
    pub(super) acknowledged: usize,
    pub(super) completed: usize,
    pub(super) refused: usize,
    pub(super) failed: usize,
    /// The most bytes a client had that were not stored when its service was killed.
    pub(super) behind_bytes: usize,
}

/// `told` is one list for each caller, `calls` the questions that reached the model server, `kills` when each life ended.
pub(super) fn check(told: &[Vec<Told>], kept: &Kept, calls: &[String], kills: &[Instant]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut called = BTreeMap::<&str, usize>::new();
    for question in calls {
        *called.entry(question).or_default() += 1;
    }
    for (question, times) in &called {
        let rows = kept.rows.get(*question).map_or(0, Vec::len);
        if *times != 1 || rows != 1 {
            verdict.faults.push(format!("{times} calls of the model server and {rows} turns: {question}"));
        }
    }
    let asked: BTreeMap<&str, &Told> =
        told.iter().flatten().map(|told| (told.asked.question.as_str(), told)).collect();
    for (question, rows) in &kept.rows {
        if !asked.contains_key(question.as_str()) {
            verdict.faults.push(format!("nobody asked this: {question} {rows:?}"));
        }
    }
    let gave_up = |told: &&&Told| matches!(told.end, End::Left | End::Refused);
    verdict.faults.extend(kept.faults(asked.values().filter(gave_up).count()));
    for told in asked.into_values() {
        let rows = kept.rows.get(&told.asked.question).map_or(&[][..], Vec::as_slice);
        let is_called = called.contains_key(told.asked.question.as_str());
        verdict.count(told, rows, is_called);
        let faults = match rows {
            [] if told.is_accepted => vec!["acknowledged and lost".to_owned()],
            [] => vec![],
            [row] => faults_of(told, row, kills.get(told.life).copied(), &mut verdict.behind_bytes),
            _ => vec![],
        };
        verdict.faults.extend(faults.into_iter().map(|fault| format!("{fault}: {told:?} {rows:?}")));
    }
    verdict
}

impl Verdict {
    fn count(&mut self, told: &Told, rows: &[Row], is_called: bool) {
        self.acknowledged += usize::from(told.is_accepted);
        match told.end {
            End::Done { .. } => self.completed += 1,
            End::Refused => self.refused += 1,
            End::Broken => {
                let fate = match rows.first() {
                    None => Fate::BeforeItsCommit,
                    Some(row) if row.status == "complete" => Fate::AfterItsSettlement,
                    Some(_) if !is_called && told.has_waited => Fate::InTheQueue,
                    Some(_) if !is_called => Fate::BetweenCommitAndCall,
                    Some(row) if row.answer.is_empty() => Fate::BeforeTheFirstCheckpoint,
                    Some(_) => Fate::MidStream,
                };
                *self.fates.entry(fate).or_default() += 1;
            }
            End::Failed(_) => self.failed += 1,
            End::Left => {}
        }
    }
}

fn faults_of(told: &Told, row: &Row, killed: Option<Instant>, behind_bytes: &mut usize) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |is_so: bool, otherwise: &str| {
        if !is_so {
            faults.push(otherwise.to_owned());
        }
    };
    let whole = told.asked.whole_answer();
    expect(row.status == row.answer_status, "turn and answer do not agree");
    expect(row.status != "streaming", "it streams for ever");
    expect(whole.starts_with(&row.answer), "the stored text is not what the model said");
    expect(row.answer.starts_with(&told.text) || told.text.starts_with(&row.answer), "two different texts");
    expect(row.status != "complete" || row.answer == whole, "complete without its end");
    if let Some(names) = &told.names {
        let is_it = |ours: &str, theirs: &str| ours.replace('-', "") == theirs;
        expect(is_it(&names.turn, &row.turn), "another turn than was said");
        expect(is_it(&names.conversation, &row.conversation), "another conversation than was said");
        expect(is_it(&names.message, &row.message), "another message than was said");
    }
    if let Some(conversation) = &told.asked.continues {
        expect(conversation.replace('-', "") == row.conversation, "not where it was asked");
    }
    match &told.end {
        End::Done { stored } => {
            expect(*stored == Some(true), "done and not stored");
            expect(row.status == "complete" && told.text == row.answer, "not what the client got");
        }
        End::Failed(code) => {
            expect(code == "internal" && row.status == "interrupted", "failed of something else");
            expect(!told.asked.is_streamed || told.text == row.answer, "not what the client got");
        }
        End::Refused => expect(row.status != "complete" && row.answer.is_empty(), "refused and run"),
        End::Left if told.asked.stays => {
            // Who leaves while a turn begins, before anything was said of it, takes it along.
            let never_began = !told.is_accepted && row.status == "cancelled" && row.answer.is_empty();
            let went_on = matches!(row.status.as_str(), "complete" | "interrupted");
            expect(went_on || never_began, "ended though it was to go on");
        }
        End::Left | End::Broken => {}
    }
    if let Some(killed) = killed {
        let committed = killed - COMMITTED_WITHIN;
        let by_size = told.heard_by(committed).saturating_sub(CHECKPOINT_BYTES);
        let by_age = told.heard_by(committed - CHECKPOINT_EVERY);
        expect(row.answer.len() >= by_size.max(by_age), "more than a checkpoint behind");
        *behind_bytes = (*behind_bytes).max(told.heard_by(killed).saturating_sub(row.answer.len()));
    }
    faults
}
