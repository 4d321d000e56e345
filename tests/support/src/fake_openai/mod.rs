//! A scripted server that speaks OpenAI's dialect, as vLLM and its like do.
//!
//! ```text
//! connection ── routes ──▶ models | embeddings | chat/completions, completions ──▶ the engine of [`crate::fake_ollama`]
//!                                                                          events ◀── its pieces, in this dialect
//! ```
//!
//! Models, slots, scenarios, counters and the hand that steers are the fake Ollama's own, so that one test can be held against
//! both: what differs is what is asked and how it is said. `chat_calls` counts `chat/completions`, `generate_calls`
//! `completions`, `embed_calls` `embeddings` and `tags_calls` `models`.
//!
//! It refuses what OpenAI's own service refuses: a wrong key (and quotes it), fields it does not know, tool results that
//! name no call.

pub(crate) mod ask;
pub(crate) mod events;
pub(crate) mod routes;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use anyhow::Result;

use crate::fake_ollama::{Config, Control, Dialect, start};

/// A running fake server. Dropping it closes its port and connections.
pub struct FakeOpenAi {
    control: Control,
}

impl FakeOpenAi {
    /// Listens on loopback and serves whoever has the key, or everybody.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start(config: Config, key: Option<&str>) -> Result<Self> {
        let dialect = Dialect::OpenAi { key: key.map(str::to_owned) };
        Ok(Self { control: start(config, dialect).await? })
    }

    /// The base URL, such as `http://127.0.0.1:<port>/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.addr())
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.control.addr()
    }

    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for FakeOpenAi {
    fn drop(&mut self) {
        self.control.abandon();
    }
}
