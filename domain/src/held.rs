//! What is kept about an account besides what other modules name: for whoever asks for all of it.

use chrono::{DateTime, Utc};

use crate::{
    id::{ApiKeyId, ConversationId, TurnId},
    reply::{FailureCode, FinishReason, UsageSource},
    turn::TurnStatus,
};

/// A row of the usage ledger as it was written; what was never learnt is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTurn {
    pub id: TurnId,
    pub conversation: Option<ConversationId>,
    /// The key that asked; `None`: a session.
    pub key: Option<ApiKeyId>,
    pub model: String,
    pub status: TurnStatus,
    pub failure: Option<FailureCode>,
    pub finish_reason: Option<FinishReason>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub usage_source: Option<UsageSource>,
    pub queued_ms: Option<u64>,
    pub load_ms: Option<u64>,
    pub first_token_ms: Option<u64>,
    pub total_ms: Option<u64>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}
