//! What a trace tells of a turn, and the log of the request that asked for it: which model, how it ended, what it cost.

use domain::{
    id::TurnId,
    model_name::CanonicalName,
    reply::{FailureCode, FinishReason, Timings, Usage},
    turn::{StoredReply, TurnStatus},
};
use opentelemetry::{Array, StringValue, Value};

use super::turn::Job;
use crate::{
    reply::End,
    trace::{Carrier, Span, TurnEnd, names},
};

/// A request asks for a turn.
pub(super) fn asked(
    request: &Carrier,
    operation: &'static str,
    model: &CanonicalName,
    turn: TurnId,
    stored: Option<StoredReply>,
) {
    if !request.is_recorded() {
        return;
    }
    request.tell(names::GEN_AI_OPERATION, operation);
    request.tell(names::GEN_AI_MODEL, model.to_string());
    request.tell(names::TURN_ID, turn.to_string());
    if let Some(stored) = stored {
        request.tell(names::GEN_AI_CONVERSATION, stored.conversation.to_string());
    }
}

/// A worker begins with a turn.
pub(super) fn begun(generating: &Span, job: &Job, model: &str, provider: &str) {
    if !generating.is_recorded() {
        return;
    }
    generating.tell(names::GEN_AI_OPERATION, job.work.operation());
    generating.tell(names::GEN_AI_PROVIDER, provider.to_owned());
    generating.tell(names::GEN_AI_MODEL, model.to_owned());
    generating.tell(names::TURN_ID, job.turn.to_string());
}

/// A worker is through with a turn.
pub(super) fn generated(generating: &Span, job: &Job, end: &End) {
    if !generating.is_recorded() {
        return;
    }
    let (usage, timings) = (job.progress.usage(), job.progress.timings());
    costs(usage, timings, |name, value| generating.tell(name, value));
    match end {
        End::Failed { code, .. } | End::Interrupted(code) => generating.fail(code.as_str()),
        End::Shed { .. } => generating.fail(FailureCode::Overloaded.as_str()),
        End::Expired => generating.fail(FailureCode::DeadlineExceeded.as_str()),
        End::Complete(_) | End::Cancelled | End::NotBegun => {}
    }
}

/// A turn is over, in whatever way.
pub(super) fn ended(
    request: &Carrier,
    model: &str,
    status: TurnStatus,
    failure: Option<FailureCode>,
    finish_reason: Option<FinishReason>,
    usage: Usage,
    timings: Timings,
) {
    if let Some(errand) = request.errand() {
        errand.turn_ended(TurnEnd { model: model.into(), status, failure, usage, timings });
    }
    if !request.is_recorded() {
        return;
    }
    request.tell(names::TURN_STATUS, status.as_str());
    if let Some(reason) = finish_reason {
        request.tell(
            names::GEN_AI_FINISH,
            Value::Array(Array::String(vec![StringValue::from(reason.as_str())])),
        );
    }
    costs(usage, timings, |name, value| request.tell(name, value));
}

fn costs(usage: Usage, timings: Timings, tell: impl Fn(&'static str, Value)) {
    tell(names::GEN_AI_INPUT_TOKENS, i64::from(usage.prompt_tokens).into());
    tell(names::GEN_AI_OUTPUT_TOKENS, i64::from(usage.completion_tokens).into());
    tell(names::USAGE_SOURCE, usage.source.as_str().into());
    tell(names::QUEUED_MS, (timings.queued.as_millis() as i64).into());
    if let Some(first) = timings.first_token {
        tell(names::FIRST_TOKEN_MS, (first.as_millis() as i64).into());
    }
}
