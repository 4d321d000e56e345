//! Our own dialect: `POST /v1/chat` and `/v1/chat/stream`.
//!
//! ```text
//! body ─▶ request ─▶ domain::ChatRequest        ReplyReader ─▶ dialects::stream ─▶ sse ─▶ one frame of bytes per wake
//!                                               ReplyReader ─▶ reply ─▶ one JSON object
//!                                    the store ─▶ replay ─▶ either
//! ```

mod replay;
mod reply;
mod request;
pub(in crate::dialects) mod sse;
pub(in crate::dialects) mod tool_call;

pub(crate) use replay::{Replay, names_of};
pub(crate) use reply::{ChatReply, TimingsView, UsageView, finish_reason, millis};
pub(crate) use request::ChatBody;
pub(crate) use sse::Encoder;
pub(crate) use tool_call::ToolCallBody;
