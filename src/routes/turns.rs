//! `/v1/turns`: turns that somebody comes back to: to read on, to see how they stand, to end them. Somebody else's turn is not
//! found. None of it takes a slot, a place in a queue or tokens.

use std::sync::Arc;

use actors::{
    model::{Attached, TurnNames},
    reply::{Ending, past_failure},
    system::System,
};
use chrono::{DateTime, Utc};
use domain::{
    id::{ConversationId, MessageId, TurnId},
    reply::{FailureCode, Position},
    turn::{StoredTurn, TurnStatus},
};
use http::{HeaderName, StatusCode};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    dialects::{
        Events,
        native::{ChatReply, Encoder, Replay, TimingsView, UsageView, names_of},
    },
    http::{ApiError, Call, Reply, json_reply},
};

use super::{
    asking::{StreamEvent, turn_stream},
    shapes,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What [`position`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it documents what is read")]
pub(crate) struct PositionHeader {
    /// The `id` of the last event that the caller has.
    #[param(rename = "Last-Event-ID", schema_with = shapes::position)]
    last_event_id: Option<String>,
}

/// The same for whoever cannot set headers.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what is read")]
pub(crate) struct PositionParam {
    /// The same, for whoever cannot set headers; the header counts.
    #[param(schema_with = shapes::position)]
    last_event_id: Option<String>,
}

/// How a turn stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct TurnView {
    #[schema(value_type = uuid::Uuid)]
    id: TurnId,
    object: &'static str,
    /// `streaming`, `complete`, `interrupted`, `cancelled` or `failed`.
    status: &'static str,
    model: String,
    /// `null` when the answer is not stored.
    #[schema(value_type = Option<uuid::Uuid>)]
    conversation_id: Option<ConversationId>,
    #[schema(value_type = Option<uuid::Uuid>)]
    message_id: Option<MessageId>,
    created_at: DateTime<Utc>,
    /// `null` while it is `streaming`.
    ended_at: Option<DateTime<Utc>>,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: Option<&'static str>,
    error: Option<TurnFailure>,
    /// `null` while it is `streaming`, and where it ended with its instance.
    usage: Option<UsageView>,
    timings: Option<TimingsView>,
}

/// Why it did not complete.
#[derive(Serialize, ToSchema)]
pub(crate) struct TurnFailure {
    /// Stable; branch on it.
    code: &'static str,
    /// For people; may change.
    message: &'static str,
}

impl From<FailureCode> for TurnFailure {
    fn from(code: FailureCode) -> Self {
        Self { code: code.as_str(), message: past_failure(code) }
    }
}

impl From<StoredTurn> for TurnView {
    fn from(turn: StoredTurn) -> Self {
        Self {
            id: turn.turn,
            object: "turn",
            status: turn.status.as_str(),
            model: turn.model,
            conversation_id: turn.stored.map(|stored| stored.conversation),
            message_id: turn.stored.map(|stored| stored.message),
            created_at: turn.created_at,
            ended_at: turn.ended_at,
            finish_reason: turn.finish_reason.map(|reason| reason.as_str()),
            error: turn.failure.map(TurnFailure::from),
            usage: turn.usage.map(UsageView::from),
            timings: turn.timings.map(TimingsView::from),
        }
    }
}

/// Says how a turn stands.
#[utoipa::path(get, path = "/v1/turns/{id}", operation_id = "readTurn", tag = "chat",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = TurnView)))]
pub(crate) async fn read(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let turn = system.models.turn(&call.principal()?, named(&call)?).await?;
    Ok(json_reply(StatusCode::OK, &TurnView::from(turn)))
}

/// Ends a turn as cancelled, wherever it is: 202 and how it stands while it is about to end; 200 if it had ended, which changes
/// nothing.
#[utoipa::path(delete, path = "/v1/turns/{id}", operation_id = "cancelTurn", tag = "chat",
    params(("id" = uuid::Uuid, Path)), responses((status = 200, body = TurnView), (status = 202, body = TurnView)))]
pub(crate) async fn cancel(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let turn = system.models.cancel_turn(&call.principal()?, named(&call)?).await?;
    if let (TurnStatus::Streaming, Some(owner)) = (turn.status, turn.owner) {
        system.relay.hurry_cancel(owner);
    }
    let is_over = turn.status != TurnStatus::Streaming;
    let status = if is_over { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json_reply(status, &TurnView::from(turn)))
}

/// Reads a turn's answer after `Last-Event-ID`, in the frames of `/v1/chat/stream`, and along with it to its end; `0`, or nothing,
/// is the start.
#[utoipa::path(get, path = "/v1/turns/{id}/stream", operation_id = "followTurn", tag = "chat",
    params(("id" = uuid::Uuid, Path), PositionHeader, PositionParam),
    responses((status = 200, content_type = "text/event-stream", body = StreamEvent),
    (status = 409, description = "It is over, and its answer was not stored")))]
pub(crate) async fn stream(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let from = position(&call)?;
    let attached = system.models.attach(&call.principal()?, named(&call)?, from).await?;
    streamed(&system, attached, from, call)
}

fn named(call: &Call) -> Result<TurnId, ApiError> {
    call.param().parse().map_err(|_| ApiError::not_found("there is no such turn"))
}

/// Up to where the caller has the answer.
fn position(call: &Call) -> Result<Position, ApiError> {
    let wanted = "this is no position; take the `id` of the last event, or `0` for the start";
    let parse = |text: &str| text.trim().parse().ok();
    if let Some(given) = call.head.headers.get(LAST_EVENT_ID) {
        let parsed = given.to_str().ok().and_then(parse);
        return parsed.ok_or_else(|| ApiError::invalid(wanted).at("Last-Event-ID"));
    }
    Ok(call.query("last_event_id", wanted, parse)?.unwrap_or_default())
}

/// The answer after `from` as it comes.
///
/// # Errors
///
/// See [`Replay::new`]; 503 when too many turns of other instances are read.
pub(super) fn streamed(
    system: &System,
    attached: Attached,
    from: Position,
    call: Call,
) -> Result<Reply, ApiError> {
    match attached {
        Attached::Live { names, reader } => Ok(event_stream(reader, names, from, call)),
        Attached::Stored { turn, answer } => {
            let names = names_of(&turn).ok_or_else(ApiError::answer_not_kept)?;
            Ok(event_stream(Replay::new(&turn, answer, from)?, names, from, call))
        }
        Attached::Elsewhere { turn, answer } => {
            let names = names_of(&turn).ok_or_else(ApiError::answer_not_kept)?;
            Ok(event_stream(system.relay.follow(turn, &answer, from)?, names, from, call))
        }
    }
}

/// The whole answer, when it is there.
///
/// # Errors
///
/// What the turn failed of; 409 when its answer was not kept.
pub(super) async fn whole(system: &System, attached: Attached) -> Result<Reply, ApiError> {
    let (names, answer, ending) = match attached {
        Attached::Live { names, mut reader } => {
            let (answer, ending) = reader.finished().await;
            (names, answer, ending)
        }
        Attached::Stored { turn, .. } if turn.stored.is_none() => return Err(ApiError::answer_not_kept()),
        Attached::Stored { turn, answer } => {
            let names = names_of(&turn).ok_or_else(ApiError::answer_not_kept)?;
            (names, answer, Ending::of(&turn))
        }
        Attached::Elsewhere { turn, answer } => {
            let names = names_of(&turn).ok_or_else(ApiError::answer_not_kept)?;
            let (answer, ending) = system.relay.follow(turn, &answer, Position::default())?.finished().await;
            (names, answer, ending)
        }
    };
    Ok(json_reply(StatusCode::OK, &ChatReply::whole(&names, answer, &ending)?))
}

/// Events as the reply to `call`, whose client has the answer up to `from`.
pub(super) fn event_stream(
    events: impl Events + 'static,
    names: TurnNames,
    from: Position,
    call: Call,
) -> Reply {
    let encoder = Encoder::new(names, call.request_id.clone(), from);
    turn_stream("text/event-stream", events, encoder, call)
}
