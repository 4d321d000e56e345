//! The frames of a streamed answer: `queue start chunk thinking tool_call done error`, each with the position it ends at
//! as its `id`, so that `Last-Event-ID` resumes there.

use std::io::Write as _;

use actors::{
    model::TurnNames,
    reply::{Event, Notice},
};
use domain::{
    id::{ConversationId, MessageId, TurnId},
    reply::Position,
};
use serde::Serialize;

use super::{
    reply::{ChatReply, millis},
    tool_call::ToolCallBody,
};
use crate::{
    dialects::stream::Encode,
    http::{ApiError, Place, RequestId, Wire, append_json},
};

/// A comment, which clients ignore and idle proxies do not.
const HEARTBEAT: &[u8] = b": hb\n\n";

#[derive(Serialize)]
struct Queue {
    turn_id: TurnId,
    position: u32,
    eta_ms: Option<u64>,
    state: &'static str,
}

#[derive(Serialize)]
struct Start<'a> {
    turn_id: TurnId,
    conversation_id: Option<ConversationId>,
    message_id: MessageId,
    model: &'a str,
}

/// Turns a turn's events into frames.
pub(crate) struct Encoder {
    names: TurnNames,
    request_id: RequestId,
    /// `{"model":"…","content":`: all of a chunk that does not change, prepared once.
    chunk_head: Vec<u8>,
    position: Position,
}

impl Encoder {
    /// For a reader that has the answer up to `position`: whatever comes before any text does not take that back.
    pub(crate) fn new(names: TurnNames, request_id: RequestId, position: Position) -> Self {
        let mut chunk_head = b"{\"model\":".to_vec();
        append_json(&mut chunk_head, names.model.as_str());
        chunk_head.extend_from_slice(b",\"content\":");
        Self { names, request_id, chunk_head, position }
    }

    fn queue(&self, notice: Notice) -> Queue {
        Queue {
            turn_id: self.names.turn,
            position: notice.position,
            eta_ms: notice.eta.map(millis),
            state: if notice.loading { "loading" } else { "waiting" },
        }
    }

    fn start(&self) -> Start<'_> {
        Start {
            turn_id: self.names.turn,
            conversation_id: self.names.conversation,
            message_id: self.names.message,
            model: self.names.model.as_str(),
        }
    }

    fn frame<T: Serialize>(&self, out: &mut Vec<u8>, event: &str, data: &T) {
        self.open(out, event);
        append_json(out, data);
        out.extend_from_slice(b"\n\n");
    }

    fn open(&self, out: &mut Vec<u8>, event: &str) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        // Writing to memory cannot fail.
        let _ = write!(out, "\nid: {}\ndata: ", self.position);
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Queued(notice) => self.frame(out, "queue", &self.queue(notice)),
            Event::Started => self.frame(out, "start", &self.start()),
            Event::Content { text, end } => {
                self.position = end;
                self.open(out, "chunk");
                out.extend_from_slice(&self.chunk_head);
                append_json(out, text);
                out.extend_from_slice(b",\"done\":false}\n\n");
            }
            Event::Thinking { text, end } => {
                self.position = end;
                self.open(out, "thinking");
                out.extend_from_slice(b"{\"content\":");
                append_json(out, text);
                out.extend_from_slice(b"}\n\n");
            }
            Event::ToolCall { call, end } => {
                self.position = end;
                self.frame(out, "tool_call", &ToolCallBody::from(call.clone()));
            }
            Event::Logprobs { .. } => {}
            Event::Ended { ending, end } => {
                self.position = end;
                match ChatReply::closing(&self.names, ending) {
                    Ok(reply) => self.frame(out, "done", &reply),
                    Err(error) => self.fail(&error, out),
                }
            }
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.open(out, "error");
        Wire::OpenAi.append(error, self.request_id.as_str(), Place::Stream, out);
        out.extend_from_slice(b"\n\n");
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(HEARTBEAT);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use actors::reply::{Ending, Outcome};
    use domain::{
        chat::ToolCall,
        model_name::ModelName,
        reply::{FailureCode, FinishReason, Timings, Usage, UsageSource},
    };
    use http::HeaderMap;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    pub(crate) fn names() -> TurnNames {
        TurnNames {
            turn: Uuid::from_u128(1).into(),
            conversation: Some(Uuid::from_u128(2).into()),
            message: Uuid::from_u128(3).into(),
            model: ModelName::parse("llama3.2").unwrap(),
            created_at: chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        }
    }

    /// `r-1`
    pub(crate) fn request_id() -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "r-1".parse().unwrap());
        RequestId::choose(&headers, true)
    }

    pub(crate) fn encoder() -> Encoder {
        Encoder::new(names(), request_id(), Position::default())
    }

    fn frames(events: Vec<Event<'_>>) -> String {
        let (mut encoder, mut out) = (encoder(), Vec::new());
        for event in events {
            encoder.encode(event, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    pub(crate) fn ended(outcome: Outcome) -> Ending {
        let usage = Usage { prompt_tokens: 3, completion_tokens: 4, source: UsageSource::Reported };
        let timings = Timings {
            queued: Duration::from_millis(5),
            load: Duration::ZERO,
            first_token: Some(Duration::from_millis(7)),
            total: Duration::from_millis(900),
        };
        Ending { outcome, usage, timings, stored: Some(true) }
    }

    #[test]
    fn b16_the_frames_of_a_whole_answer_are_these_bytes() {
        let call = ToolCall { id: "call_1".into(), name: "now".into(), arguments: json!({"zone": "UTC"}) };
        let ending = ended(Outcome::Complete(FinishReason::Stop));
        let end = Position { content: 9, thinking: 3, tool_calls: 1 };
        let text = frames(vec![
            Event::Queued(Notice { loading: false, position: 2, eta: Some(Duration::from_millis(1_500)) }),
            Event::Queued(Notice { loading: true, position: 0, eta: None }),
            Event::Started,
            Event::Thinking { text: "hm\n", end: Position { content: 0, thinking: 3, tool_calls: 0 } },
            Event::Content {
                text: "a\"\u{2028}\u{85}",
                end: Position { content: 9, thinking: 3, tool_calls: 0 },
            },
            Event::ToolCall { call: &call, end },
            Event::Ended { ending: &ending, end },
        ]);
        let expected = concat!(
            "event: queue\nid: 0\ndata: {\"turn_id\":\"00000000-0000-0000-0000-000000000001\",\"position\":2,\"eta_ms\":1500,\"state\":\"waiting\"}\n\n",
            "event: queue\nid: 0\ndata: {\"turn_id\":\"00000000-0000-0000-0000-000000000001\",\"position\":0,\"eta_ms\":null,\"state\":\"loading\"}\n\n",
            "event: start\nid: 0\ndata: {\"turn_id\":\"00000000-0000-0000-0000-000000000001\",\"conversation_id\":\"00000000-0000-0000-0000-000000000002\",\"message_id\":\"00000000-0000-0000-0000-000000000003\",\"model\":\"llama3.2\"}\n\n",
            "event: thinking\nid: 0.3.0\ndata: {\"content\":\"hm\\n\"}\n\n",
            "event: chunk\nid: 9.3.0\ndata: {\"model\":\"llama3.2\",\"content\":\"a\\\"\\u2028\\u0085\",\"done\":false}\n\n",
            "event: tool_call\nid: 9.3.1\ndata: {\"id\":\"call_1\",\"function\":{\"name\":\"now\",\"arguments\":{\"zone\":\"UTC\"}}}\n\n",
            "event: done\nid: 9.3.1\ndata: {\"id\":\"00000000-0000-0000-0000-000000000001\",\"object\":\"chat\",\"model\":\"llama3.2\",\"created_at\":\"2026-09-21T14:13:20Z\",\"done\":true,\"finish_reason\":\"stop\",\"conversation_id\":\"00000000-0000-0000-0000-000000000002\",\"message_id\":\"00000000-0000-0000-0000-000000000003\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7,\"source\":\"reported\"},\"timings\":{\"queued_ms\":5,\"load_ms\":0,\"first_token_ms\":7,\"total_ms\":900},\"stored\":true}\n\n",
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_turn_that_gave_way_says_in_its_stream_when_to_come_back() {
        let ending = ended(Outcome::Failed {
            code: FailureCode::Overloaded,
            message: "no room".into(),
            retry_after: Some(Duration::from_millis(6_100)),
        });
        let text = frames(vec![Event::Ended { ending: &ending, end: Position::default() }]);
        assert!(text.ends_with("\"request_id\":\"r-1\",\"retry_after\":7}}\n\n"), "{text}");
    }

    #[test]
    fn b16_a_failed_turn_ends_with_an_error_frame() {
        let failed = Outcome::Failed {
            code: FailureCode::UpstreamIncomplete,
            message: "the answer broke off".into(),
            retry_after: None,
        };
        let ending = ended(failed);
        let text = frames(vec![Event::Ended {
            ending: &ending,
            end: Position { content: 5, ..Position::default() },
        }]);
        assert_eq!(
            text,
            "event: error\nid: 5\ndata: {\"error\":{\"code\":\"upstream_incomplete\",\"message\":\"the answer broke off\",\
             \"type\":\"api_error\",\"param\":null,\"request_id\":\"r-1\"}}\n\n"
        );
    }
}
