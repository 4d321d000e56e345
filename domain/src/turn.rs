//! A turn: one prompt and its answer, from admission to settlement.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    conversation::NewMessage,
    id::{ConversationId, InstanceId, MessageId, TurnId, UserId},
    reply::{Answer, FailureCode, Timings, Usage},
};

/// How a turn (and its assistant message) stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    Streaming,
    Complete,
    /// We failed it: a worker died, the service stopped or its lease ran out. The text so far is kept.
    Interrupted,
    /// The caller left or asked us to stop.
    Cancelled,
    /// The model server failed it.
    Failed,
}

impl TurnStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Streaming, Self::Complete, Self::Interrupted, Self::Cancelled, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// The rows a stored turn is born with; committed together, before the model server is called.
#[derive(Debug, Clone)]
pub struct BeginTurn {
    pub turn: TurnId,
    pub user: UserId,
    pub conversation: ConversationId,
    /// Creates the conversation with this title; `None` demands that it exists and belongs to `user`.
    pub new_conversation_title: Option<String>,
    /// What the caller said, in order; appended to the conversation.
    pub messages: Vec<NewMessage>,
    /// The assistant message that will hold the answer, stored as `streaming`.
    pub reply: MessageId,
    pub model: String,
    pub owner: InstanceId,
    pub lease_until: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
}

/// The answer so far, written while the turn runs; ignored unless `seq` is higher than the stored one.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub turn: TurnId,
    pub reply: MessageId,
    pub seq: u32,
    pub answer: Answer,
}

/// How a turn ended; written once, idempotent by `turn`.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub turn: TurnId,
    pub user: UserId,
    pub model: String,
    /// Where the answer goes; `None` writes only the usage row.
    pub stored: Option<StoredReply>,
    pub status: TurnStatus,
    pub failure: Option<FailureCode>,
    pub finish_reason: Option<&'static str>,
    pub answer: Answer,
    pub usage: Usage,
    pub timings: Timings,
    pub created_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredReply {
    pub conversation: ConversationId,
    pub message: MessageId,
}
