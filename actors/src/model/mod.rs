//! The model room: which models there are, who waits for them, and the workers that talk to model servers.
//!
//! ```text
//! start_turn ─▶ route (snapshot) ─▶ place in the WaitingList ─▶ db: first rows, one commit ─▶ line up
//!                                                                       ModelWorker takes the job ⇒ provider
//! ReplyReader ◀══ reply channel ◀══ deltas ◀═════════════════════════════════════════════════════════╝
//! ```
//!
//! # When it breaks
//!
//! A worker's death costs its one turn, settled as interrupted with the text so far. The router's death costs nothing but a
//! later refresh. A model server that is away keeps its models listed; their turns fail with `upstream_error`. A
//! caller that leaves at any point (even between the commit and the queue) settles its turn as cancelled, because
//! the turn's writer exists, armed with its settlement, before the first row is written.

mod catalogue;
mod checkpoint;
mod config;
mod depth;
mod error;
mod failure;
mod handle;
mod lease;
mod metrics;
pub mod provider;
mod room;
mod route;
mod router;
mod server;
mod settlement;
#[cfg(test)]
mod tests;
mod turn;
mod waiting_list;
mod worker;

use chrono::{DateTime, Utc};
use domain::{
    id::{ConversationId, MessageId, TurnId},
    limits::Priority,
    model_name::{CanonicalName, ModelName},
};

use tokio::time::Instant;

pub(crate) use self::room::{build, is_one_models};
pub use self::{
    config::{ModelConfig, Timeouts, UpstreamConfig, UpstreamKind},
    error::ModelError,
    handle::ModelHandle,
};
use crate::reply::ReplyReader;

/// One model as callers see it.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: CanonicalName,
    /// The name its model server knows it by; also what callers are shown.
    pub display_name: String,
    pub modified_at: Option<DateTime<Utc>>,
    pub size_bytes: u64,
    pub family: String,
    pub parameter_size: String,
    pub quantization: String,
    pub capabilities: Vec<String>,
    pub context_length: Option<u32>,
    pub state: ModelState,
    pub slots: usize,
    pub running: usize,
    pub waiting: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Its server answers.
    Available,
    /// Known from before, but its server does not answer now.
    Unreachable,
    /// Its workers fail too often; calls get 503 at once.
    Degraded,
}

/// What the caller decided about a turn beside the prompt itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct TurnOptions {
    /// Continue this conversation; `None` starts one if the turn is stored.
    pub conversation: Option<ConversationId>,
    /// Keep the messages and the answer.
    pub store: bool,
    /// Run to the end even when nobody reads any more.
    pub continue_on_disconnect: bool,
    /// As asked for; what the caller may have caps it.
    pub priority: Priority,
    /// The caller leaves then.
    pub deadline: Option<Instant>,
}

/// A turn on its way. Dropping `reader` cancels it unless it was told to continue.
pub struct StartedTurn {
    pub turn: TurnId,
    pub message: MessageId,
    /// `None` when nothing is stored.
    pub conversation: Option<ConversationId>,
    /// The model in the caller's spelling.
    pub model: ModelName,
    pub created_at: DateTime<Utc>,
    pub reader: ReplyReader,
}
