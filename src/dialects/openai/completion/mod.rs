//! `POST /v1/completions`: a text to go on with. What a model thinks meanwhile has no place in this reply.

mod reply;
mod request;
mod stream;

pub(crate) use reply::{CompletionChoice, Completions};
pub(crate) use request::CompletionRequest;
