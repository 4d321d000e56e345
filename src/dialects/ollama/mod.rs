//! Ollama's own dialect, for its clients to find here what they know (ollama-wire §2, §9).
//!
//! ```text
//! body ─▶ request ─▶ domain::ChatRequest        ReplyReader ─▶ lines ─▶ one JSON object a line
//!                                               ReplyReader ─▶ reply ─▶ one object
//! models ─▶ catalogue ─▶ tags, ps, show
//! ```
//!
//! What would change how a model lies in memory for everybody is ignored: `keep_alive`, options of its runner, `shift`.

pub(crate) mod catalogue;
mod embed;
mod lines;
mod reply;
mod request;

pub(crate) use embed::{EmbedBody, Embedded, OldEmbedBody, OldEmbedded};
pub(crate) use lines::Encoder;
pub(crate) use reply::OllamaReply;
pub(crate) use request::{Asked, OllamaChatBody, OllamaGenerateBody};
