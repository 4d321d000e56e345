//! From a request to its answer, whichever of the paths it came by.

use actors::{
    model::{ModelError, TurnOptions},
    system::System,
};
use domain::{id::TurnId, turn::StoredReply};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::{
    dialects::openai::{Asked, Manner, Shape},
    http::{ApiError, Call, Reply, json_reply},
    routes::asking::{begin, stream_answer, tell_queue, think_if_able},
};

/// Reads what is asked for, has it done, and answers in the words of `S`.
pub(super) async fn answer<B: DeserializeOwned, S: Shape>(
    system: &System,
    mut call: Call,
    read: impl FnOnce(B) -> Result<Asked<S>, ApiError>,
) -> Result<Reply, ApiError> {
    let asked = call.chat(|body: B, _| read(body)).await?;
    let Asked { mut request, mut options, previous, manner, shape } = asked;
    if let Some(previous) = previous {
        follow(system, &call, previous, &mut options).await?;
    }
    options.deadline = Some(call.deadline);
    think_if_able(system, &call, &mut request)?;
    let mut started = begin(system, &call, request, options).await??;
    let names = started.names();
    match manner {
        Manner::Whole => {
            let (answer, ending) = started.reader.finished().await;
            let mut reply = json_reply(StatusCode::OK, &shape.whole(&names, &answer, &ending)?);
            tell_queue(reply.headers_mut(), started.position, ending.timings.queued);
            Ok(reply)
        }
        Manner::Streamed { with_usage } => {
            let encoder = shape.encoder(names, call.request_id.clone(), with_usage);
            stream_answer("text/event-stream", started, encoder, call).await
        }
    }
}

/// Has the turn go on after the answer of `previous`, whose instructions hold until others are given.
async fn follow(
    system: &System,
    call: &Call,
    previous: TurnId,
    options: &mut TurnOptions,
) -> Result<(), ApiError> {
    let stored = match system.models.turn(&call.principal()?, previous).await {
        Ok(turn) => Ok(turn.stored),
        Err(ModelError::UnknownTurn) => Ok(None),
        Err(error) => Err(ApiError::from(error)),
    };
    if let Ok(Some(StoredReply { conversation, message })) = stored {
        options.conversation = Some(conversation);
        options.parent = Some(message.into());
        return Ok(());
    }
    // Only a turn that is to begin pays for its request itself.
    call.pay_for_request(system).await?;
    let message = "no such response is stored; to go on from one, ask for it with `store`";
    Err(stored.err().unwrap_or_else(|| ApiError::not_found(message).at("previous_response_id")))
}
