//! Dialects: how chats are written on the wire. A dialect reads its own requests into the domain's and encodes the
//! events of a turn for its own clients; what a turn is, it does not know, nor which kind of server answers.

pub(crate) mod anthropic;
#[cfg(test)]
mod fuzz;
pub(crate) mod native;
pub(crate) mod ollama;
pub(crate) mod openai;
mod parts;
mod raw;
mod stream;

pub(crate) use stream::{Encode, Events, TurnStream};
