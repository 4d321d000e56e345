//! `POST /v1/chat/completions`

mod choice;
mod message;
mod reply;
mod request;
mod stream;

pub(super) use choice::{AllowedMode, Mode};
pub(crate) use reply::{ChatCompletionChoice, ChatCompletions};
pub(crate) use request::ChatCompletionRequest;
