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
//! later refresh. A model server that is away keeps its models listed; the turns that notice fail with `upstream_error`,
//! then its breaker refuses new ones and lets what waits wait. A caller that leaves at any point (even between the
//! commit and the queue) settles its turn as cancelled, because the turn's writer exists, armed with its settlement, before
//! the first row is written. A caller that was to be waited for may come back (`attach`), also with the same request.

mod attach;
mod breaker;
mod catalogue;
mod checkpoint;
mod choice;
mod claims;
mod config;
mod depth;
mod elsewhere;
mod embedding;
mod error;
mod failure;
mod fleet;
mod handle;
mod history;
mod lease;
mod live;
mod look;
mod metrics;
pub mod provider;
mod residents;
mod retry_budget;
mod room;
mod route;
mod router;
mod seating;
mod server;
mod settlement;
mod start;
mod streams;
#[cfg(test)]
mod tests;
mod told;
mod turn;
mod turns;
mod upstream;
mod vitals;
mod waiting_list;
mod worker;

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    embedding::Embeddings,
    id::{ConversationId, MessageId, TurnId},
    limits::Priority,
    model_name::{CanonicalName, ModelName},
    turn::Claim,
};

use tokio::time::Instant;
use uuid::Uuid;

pub use self::{
    attach::{Attached, TurnNames},
    claims::{LetIn, claim_of},
    config::{ModelConfig, Timeouts, UpstreamConfig, UpstreamKind},
    error::ModelError,
    fleet::{Drained, ServerStanding, ServerState},
    handle::ModelHandle,
    live::PreparedModels,
};
pub(crate) use self::{
    look::look,
    room::{build, is_one_models},
};
use crate::reply::{Ending, Outcome, ReplyReader};

/// One model as callers see it.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: CanonicalName,
    /// The name its model server knows it by; also what callers are shown.
    pub display_name: String,
    /// The shown name of the model that stands for it now, if this is an alias.
    pub alias_of: Option<String>,
    pub modified_at: Option<DateTime<Utc>>,
    pub size_bytes: u64,
    pub digest: String,
    pub format: String,
    pub family: String,
    pub families: Vec<String>,
    pub parameter_size: String,
    pub quantization: String,
    pub capabilities: Vec<String>,
    pub context_length: Option<u32>,
    pub embedding_length: Option<u32>,
    pub state: ModelState,
    /// A server holds it in memory, as far as we know.
    pub is_loaded: bool,
    pub slots: usize,
    pub running: usize,
    pub waiting: usize,
    /// How long the next turn of somebody who has none waiting should wait; `None` before any was measured.
    pub wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Its server answers.
    Available,
    /// Its server answers; it is being loaded, or will be once another model has made room.
    Loading,
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
    /// What the turn follows in it: a message, or the conversation's own id for its beginning; `None`: the newest message.
    pub parent: Option<Uuid>,
    /// Keep the messages and the answer.
    pub store: bool,
    /// Run to the end even when nobody reads any more.
    pub continue_on_disconnect: bool,
    /// What makes a second request like this one stand for this turn.
    pub claim: Option<Claim>,
    /// Its caller knows its name before it ends, and may come back for it.
    pub is_streamed: bool,
    /// As asked for; what the caller may have caps it.
    pub priority: Priority,
    /// The caller leaves then.
    pub deadline: Option<Instant>,
}

/// Texts on their way to become vectors. Dropping it cancels the turn.
pub struct StartedEmbedding {
    pub turn: TurnId,
    /// See [`StartedTurn::position`].
    pub position: usize,
    /// The model in the caller's spelling.
    pub model: ModelName,
    pub created_at: DateTime<Utc>,
    reader: ReplyReader,
    vectors: embedding::Vectors,
}

impl StartedEmbedding {
    /// Waits for the end: one vector for each input, in their order, if the turn is complete, else none.
    pub async fn finished(mut self) -> (Embeddings, Ending) {
        let (_, ending) = self.reader.finished().await;
        let is_complete = matches!(ending.outcome, Outcome::Complete(_));
        let vectors = if is_complete { self.vectors.take() } else { Vec::new() };
        (Embeddings { vectors, usage: Some(ending.usage) }, ending)
    }
}

/// A turn on its way. Dropping `reader` cancels it unless it was told to continue.
pub struct StartedTurn {
    pub turn: TurnId,
    /// Its place in line when it was let in: 1 was next, 0 found a free slot.
    pub position: usize,
    pub message: MessageId,
    /// `None` when nothing is stored.
    pub conversation: Option<ConversationId>,
    /// The model in the caller's spelling.
    pub model: ModelName,
    pub created_at: DateTime<Utc>,
    pub reader: ReplyReader,
}

impl StartedTurn {
    pub fn names(&self) -> TurnNames {
        TurnNames {
            turn: self.turn,
            conversation: self.conversation,
            message: self.message,
            model: self.model.clone(),
            created_at: self.created_at,
        }
    }
}
