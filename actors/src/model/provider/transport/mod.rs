//! What every wire to a model server has in common: where the server is, connections driven by their reader, bounded calls, and
//! an answer that is received within its time.
//!
//! ```text
//! chat ───────────────▶ AnswerBytes ── Client (hyper, driven by the reader) ──▶ a stream in the server's protocol
//!                            └── Decode: the protocol, the provider's own
//! everything else ────▶ Calls (reqwest) ──▶ JSON
//! ```
//!
//! # How it breaks
//!
//! Every call is bounded: connecting, the first byte, silence, the size of a piece and of a reply. An answer that breaks off is an
//! error with the text so far. A dead idle connection costs one reconnect that nobody sees; nothing else is tried twice here,
//! for the router alone knows whether another server has the model.

mod address;
mod calls;
mod client;
mod link;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod words;

pub(super) use self::{
    address::Address,
    calls::{Calls, read},
    client::{Client, Prompt, written},
    stream::{AnswerBytes, Decode},
    words::{sanitise, text_of},
};

/// How we call ourselves to model servers.
const USER_AGENT: &str = concat!("deepersensor/", env!("CARGO_PKG_VERSION"));

/// The longest piece of a streamed answer, a line or an event, that we buffer. Ollama's own client stops at 8 MB; beyond ours the
/// peer is broken or hostile.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

/// The largest buffer for torn pieces that a stream keeps between two of them.
pub(super) const TAIL_BYTES_KEPT: usize = 64 << 10;

/// The most models of one server we look at.
pub(super) const MODELS_MAX: usize = 10_000;
