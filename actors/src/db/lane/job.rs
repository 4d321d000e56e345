//! A change on its way to the database, and who is to hear of it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::unsettled::{Counted, Unsettled};
use crate::{
    db::{
        DbError, OnSettled,
        message::{Write, Written},
        metrics::{Kept, ShownKept},
    },
    handle::Permit,
    trace::Span,
};

pub(in crate::db) enum Answer {
    /// A caller waits for what the database says; when it no longer does, the change is not begun. Dropped unanswered, the
    /// change is lost, and whether it was written is unknown.
    Caller(oneshot::Sender<Result<Written, DbError>>),
    /// Called once; what happens to a settlement after that is between the lane, the disk and the database.
    Settled(OnSettled),
    Nobody,
}

pub(in crate::db) struct Job {
    pub(in crate::db) write: Write,
    answer: Answer,
    size_bytes: usize,
    /// Its place in the lane.
    _permit: Permit,
    /// Held by settlements.
    counted: Option<Counted>,
    /// Held by those that were kept.
    shown: Option<ShownKept>,
    /// From now until it is answered, in the trace of whoever took the place.
    span: Span,
}

impl Job {
    pub(in crate::db) fn new(write: Write, answer: Answer, permit: Permit) -> Self {
        let size_bytes = write.size_bytes();
        let span = permit.carrier().call(write.span_name());
        Self { write, answer, size_bytes, _permit: permit, counted: None, shown: None, span }
    }

    /// Counts it as unsettled for as long as it lives, if it is a settlement.
    pub(super) fn count(&mut self, unsettled: &Arc<Unsettled>) {
        if self.is_settlement() {
            self.counted = Some(unsettled.one_more());
        }
    }

    /// Shows it as kept for as long as it lives.
    pub(super) fn show_kept(&mut self, kept: &Kept) {
        let size_bytes = self.size_bytes;
        self.shown.get_or_insert_with(|| kept.show(size_bytes));
    }

    pub(in crate::db) const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether it is the end of a turn that nobody else keeps.
    pub(in crate::db) const fn is_settlement(&self) -> bool {
        matches!(self.write, Write::Settle(_))
    }

    /// Whether it may wait for company: the ledger's row, opened or settled, of a turn that is not stored.
    pub(in crate::db) fn may_linger(&self) -> bool {
        match &self.write {
            Write::OpenTurn(_) => true,
            Write::Settle(settlement) => settlement.stored.is_none(),
            _ => false,
        }
    }

    /// Whether its caller left before it was begun.
    pub(in crate::db) fn is_abandoned(&self) -> bool {
        matches!(&self.answer, Answer::Caller(caller) if caller.is_closed())
    }

    pub(in crate::db) fn answer(mut self, result: Result<Written, DbError>) {
        self.tell(result);
    }

    /// Ends it without a word of the database's.
    pub(super) fn lose(mut self, error: DbError) {
        if matches!(self.answer, Answer::Caller(_)) {
            self.answer = Answer::Nobody;
        }
        self.tell(Err(error));
    }

    /// Tells whoever has not been told yet.
    pub(in crate::db) fn tell(&mut self, result: Result<Written, DbError>) {
        // Over before whoever waits goes on.
        let span = std::mem::take(&mut self.span);
        if let Err(error) = &result {
            span.fail(error.label());
        }
        drop(span);
        match std::mem::replace(&mut self.answer, Answer::Nobody) {
            // A caller that left meanwhile does not care.
            Answer::Caller(caller) => drop(caller.send(result)),
            Answer::Settled(on_settled) => on_settled(result.map(drop)),
            Answer::Nobody => {}
        }
    }
}
