//! Anthropic's dialect: `POST /v1/messages` and `/v1/messages/count_tokens` (ollama-wire §8.5). Nothing of what is said is kept.
//!
//! ```text
//! body ─▶ request ─▶ message, tools ─▶ domain::ChatRequest        ReplyReader ─▶ stream ─▶ typed events
//!                                                                 ReplyReader ─▶ reply ─▶ one message
//! ```

mod message;
mod reply;
mod request;
mod stream;
mod tools;

pub(crate) use reply::{MessageReply, TokenCount};
pub(crate) use request::{Asked, CountTokensRequest, MessagesRequest};
pub(crate) use stream::Encoder;
