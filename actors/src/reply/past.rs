//! Turns that ended some time ago: of their end the store has the code, and the words are made anew.

use domain::{
    reply::{FailureCode, FinishReason},
    turn::{StoredTurn, TurnStatus},
};

use super::{Ending, Outcome};

impl Ending {
    /// How the store says that a turn ended; one that is `streaming` there is as good as interrupted.
    pub fn of(turn: &StoredTurn) -> Self {
        let failed = |otherwise| {
            let code = turn.failure.unwrap_or(otherwise);
            Outcome::Failed { code, message: past_failure(code).to_owned(), retry_after: None }
        };
        let outcome = match turn.status {
            TurnStatus::Complete => Outcome::Complete(turn.finish_reason.unwrap_or(FinishReason::Stop)),
            TurnStatus::Cancelled => failed(FailureCode::Cancelled),
            TurnStatus::Failed | TurnStatus::Interrupted | TurnStatus::Streaming => {
                failed(FailureCode::Internal)
            }
        };
        let (usage, timings) = (turn.usage.unwrap_or_default(), turn.timings.unwrap_or_default());
        Self { outcome, usage, timings, stored: turn.stored.map(|_| true) }
    }
}

/// What is said of a turn that ended so some time ago, when the words of its end are gone.
pub const fn past_failure(code: FailureCode) -> &'static str {
    match code {
        FailureCode::InvalidRequest => "the model server refused the request",
        FailureCode::ModelNotFound => "the model was no longer offered",
        FailureCode::Overloaded => "there was no room for the turn",
        FailureCode::DeadlineExceeded => "the turn's time was over",
        FailureCode::UpstreamError => "the model server failed",
        FailureCode::UpstreamIncomplete => "the model server ended its answer without finishing it",
        FailureCode::ReplyTooLarge => "the answer outgrew what one answer may hold",
        FailureCode::ServerShuttingDown => "the service was shut down",
        FailureCode::Cancelled => "the turn was cancelled",
        FailureCode::Internal => "the turn was interrupted on our side",
    }
}

#[cfg(test)]
mod tests {
    use domain::turn::StoredReply;

    use super::*;
    use crate::clock::fresh_id;

    fn turn(status: TurnStatus) -> StoredTurn {
        StoredTurn {
            turn: fresh_id(),
            user: fresh_id(),
            model: "any".to_owned(),
            stored: Some(StoredReply { conversation: fresh_id(), message: fresh_id() }),
            status,
            failure: None,
            finish_reason: None,
            usage: None,
            timings: None,
            owner: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
            ended_at: None,
        }
    }

    #[test]
    fn an_end_of_which_the_store_has_no_code_is_told_by_its_status() {
        let code = |turn: &StoredTurn| match Ending::of(turn).outcome {
            Outcome::Complete(_) => None,
            Outcome::Failed { code, message, .. } => {
                assert_eq!(message, past_failure(code));
                Some(code)
            }
        };
        assert_eq!(code(&turn(TurnStatus::Complete)), None);
        assert_eq!(code(&turn(TurnStatus::Cancelled)), Some(FailureCode::Cancelled));
        for status in [TurnStatus::Failed, TurnStatus::Interrupted] {
            assert_eq!(code(&turn(status)), Some(FailureCode::Internal));
            let known = StoredTurn { failure: Some(FailureCode::UpstreamError), ..turn(status) };
            assert_eq!(code(&known), Some(FailureCode::UpstreamError));
        }
        let unstored = StoredTurn { stored: None, ..turn(TurnStatus::Complete) };
        assert_eq!(
            [&turn(TurnStatus::Complete), &unstored].map(|turn| Ending::of(turn).stored),
            [Some(true), None]
        );
    }
}
