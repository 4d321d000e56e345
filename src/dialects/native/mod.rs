//! Our own dialect: `POST /v1/chat` and `/v1/chat/stream`.
//!
//! ```text
//! body ─▶ request ─▶ domain::ChatRequest        ReplyReader ─▶ stream ─▶ sse ─▶ one frame of bytes per wake
//!                                               ReplyReader ─▶ reply ─▶ one JSON object
//! ```

mod raw;
mod reply;
mod request;
mod sse;
mod stream;
mod tool_call;

pub(crate) use reply::{ChatReply, TurnNames, millis};
pub(crate) use request::ChatBody;
pub(crate) use stream::TurnStream;
pub(crate) use tool_call::ToolCallBody;
