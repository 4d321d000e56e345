//! From a request to its answer, whichever of the paths it came by.

use std::time::Duration;

use actors::{
    reply::{Ending, Outcome},
    system::System,
};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    dialects::{
        native::millis,
        openai::{Asked, Manner, Shape},
    },
    http::{ApiError, Call, Reply, json_reply},
    routes::asking::{begin, first_word, tell_position, tell_queue, think_if_able, turn_stream},
};

const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Reads what is asked for, has it done, and answers in the words of `S`.
pub(super) async fn answer<B: DeserializeOwned, S: Shape>(
    system: &System,
    mut call: Call,
    read: impl FnOnce(B) -> Result<Asked, ApiError>,
) -> Result<Reply, ApiError> {
    let began = Instant::now();
    let Asked { mut request, mut options, manner } = call.chat(|body: B, _| read(body)).await?;
    options.deadline = Some(call.deadline);
    think_if_able(system, &call, &mut request)?;
    let mut started = begin(system, &call, request, options).await??;
    let position = started.position;
    let names = started.names();
    let mut reply = match manner {
        Manner::Whole => {
            let (answer, ending) = started.reader.finished().await;
            let mut reply = json_reply(StatusCode::OK, &S::whole(&names, &answer, &ending)?);
            tell_queue(reply.headers_mut(), position, ending.timings.queued);
            reply
        }
        Manner::Streamed { with_usage } => {
            if let Some(Ending { outcome: Outcome::Failed { code, message, retry_after }, .. }) =
                first_word(&mut started.reader).await
            {
                return Err(ApiError::turn_failed(code, &message, retry_after));
            }
            let encoder = S::encoder(names, call.request_id.clone(), with_usage);
            let mut reply = turn_stream("text/event-stream", started.reader, encoder, call);
            tell_position(reply.headers_mut(), position);
            reply
        }
    };
    tell_processing(reply.headers_mut(), began.elapsed());
    Ok(reply)
}

/// How long it took until there was a reply's head.
pub(super) fn tell_processing(headers: &mut HeaderMap, took: Duration) {
    headers.insert(PROCESSING, millis(took).into());
}
