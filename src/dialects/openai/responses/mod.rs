//! `POST /v1/responses` (ollama-wire §8.4): what is asked and answered are items. Nothing of it is kept unless asked, and only what
//! was kept can be gone on from.
//!
//! ```text
//! body ─▶ request ─▶ input, tools ─▶ domain::ChatRequest      ReplyReader ─▶ stream ─▶ typed events, each with its number
//!              └──▶ settings, which a response tells again    ReplyReader ─▶ reply ─▶ one response
//! ```
//!
//! A stream repeats an item when it is whole, and all of them at its end, so its encoder keeps the answer beside the turn's own
//! log. What fails ends with `response.failed` and an `error` that OpenAI's libraries raise: they would take silence for the end.

mod events;
mod input;
mod item;
mod reply;
mod request;
mod settings;
mod stream;
mod tools;

pub(crate) use reply::{ResponseReply, Responses};
pub(crate) use request::ResponsesRequest;
