//! What a model server's failure means for the turn: a code, and words that are safe to show.

use domain::{id::TurnId, reply::FailureCode};

use super::provider::UpstreamError;
use crate::reply::End;

/// Logs the failure where it stops travelling and turns it into the turn's end.
pub(super) fn end_of(error: &UpstreamError, model: &str, turn: TurnId) -> End {
    let (code, message) = match error {
        UpstreamError::Connect(_) => (FailureCode::UpstreamError, "the model server cannot be reached"),
        UpstreamError::FirstByteTimeout(_) => {
            (FailureCode::DeadlineExceeded, "the model server did not begin to answer in time")
        }
        UpstreamError::IdleTimeout(_) => (FailureCode::UpstreamError, "the model server fell silent"),
        UpstreamError::Busy => (FailureCode::Overloaded, "the model server is busy"),
        UpstreamError::NoSuchModel => {
            (FailureCode::ModelNotFound, "the model server no longer has this model")
        }
        UpstreamError::Rejected(words) => (FailureCode::InvalidRequest, words.as_str()),
        UpstreamError::Failed(_) | UpstreamError::Declined(_) | UpstreamError::Garbage(_) => {
            (FailureCode::UpstreamError, "the model server failed")
        }
        UpstreamError::TooLarge => {
            (FailureCode::ReplyTooLarge, "the answer outgrew what one answer may hold")
        }
        UpstreamError::Incomplete => {
            (FailureCode::UpstreamIncomplete, "the model server ended its answer without finishing it")
        }
    };
    match error {
        UpstreamError::Rejected(_) => {
            tracing::info!(model, %turn, error = %error, "model server refused a request")
        }
        _ => tracing::warn!(model, %turn, error = %error, "model server failed a turn"),
    }
    End::Failed { code, message: message.to_owned() }
}
