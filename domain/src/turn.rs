//! A turn: one prompt and its answer, from admission to settlement.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    conversation::NewMessage,
    id::{ApiKeyId, ConversationId, InstanceId, MessageId, TurnId, UserId},
    reply::{Answer, FailureCode, FinishReason, Timings, Usage},
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

impl BeginTurn {
    /// Where its answer will be, if it is stored.
    pub fn stored(&self) -> Option<StoredReply> {
        let Exchange { conversation, reply, .. } = *self.exchange.as_ref()?;
        Some(StoredReply { conversation, message: reply })
    }
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

/// The rows a turn is born with; committed together, before the model server is called.
#[derive(Debug, Clone)]
pub struct BeginTurn {
    pub turn: TurnId,
    pub user: UserId,
    /// The key that asks; `None`: a session.
    pub key: Option<ApiKeyId>,
    /// What makes a second request like this one stand for this turn.
    pub claim: Option<Claim>,
    /// Where the answer goes; `None` opens only the ledger's row.
    pub exchange: Option<Exchange>,
    pub model: String,
    pub owner: InstanceId,
    pub lease_until: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
}

/// What is said in a turn, and where.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub conversation: ConversationId,
    /// Creates the conversation with this title; `None` demands that it exists and belongs to the user.
    pub new_conversation_title: Option<String>,
    /// What a conversation that exists and was made without a title is called from now on.
    pub title_if_untitled: Option<String>,
    /// The message that the first of `messages` (or, where there are none, the answer) follows, in the same conversation, or the
    /// conversation's own id for its beginning. `None`: what was made before it.
    pub parent: Option<Uuid>,
    /// What the caller said, in order.
    pub messages: Vec<NewMessage>,
    /// The assistant message that will hold the answer, stored as `streaming`.
    pub reply: MessageId,
}

/// A caller's `Idempotency-Key`, and what was asked with it: SHA-256 of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    pub key: [u8; 32],
    pub request: [u8; 32],
}

/// What became of a turn that wanted to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    New,
    /// Its key stands for this turn already, and nothing was written.
    Exists {
        turn: TurnId,
        same_request: bool,
    },
}

/// A turn as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTurn {
    pub turn: TurnId,
    pub user: UserId,
    pub model: String,
    /// `None` when the answer is not kept, or no more.
    pub stored: Option<StoredReply>,
    pub status: TurnStatus,
    pub failure: Option<FailureCode>,
    pub finish_reason: Option<FinishReason>,
    /// `None` until it is settled; the sweep ends a turn without a word about what it took.
    pub usage: Option<Usage>,
    pub timings: Option<Timings>,
    /// The instance that runs it, or ran it.
    pub owner: Option<InstanceId>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
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
    /// The key that asked, as in [`BeginTurn`].
    pub key: Option<ApiKeyId>,
    /// Where the answer goes; `None` writes only the usage row.
    pub stored: Option<StoredReply>,
    pub status: TurnStatus,
    pub failure: Option<FailureCode>,
    pub finish_reason: Option<FinishReason>,
    pub answer: Answer,
    pub usage: Usage,
    pub timings: Timings,
    pub created_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
}

impl Settlement {
    /// Whether nothing came of it that a second request with its key could be answered with, so that the key is free for
    /// another try: it failed, was cancelled or interrupted before there was any text.
    pub const fn frees_its_key(&self) -> bool {
        let Answer { content, thinking, tool_calls, .. } = &self.answer;
        let has_text = match self.stored {
            Some(_) => !(content.is_empty() && thinking.is_empty() && tool_calls.is_empty()),
            // Its text is not here, but when it began is known.
            None => self.timings.first_token.is_some(),
        };
        matches!(self.status, TurnStatus::Failed | TurnStatus::Cancelled | TurnStatus::Interrupted)
            && !has_text
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredReply {
    pub conversation: ConversationId,
    pub message: MessageId,
}
