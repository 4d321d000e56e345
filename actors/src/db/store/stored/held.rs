//! The usage ledger, as it is handed to whom it is about.

use chrono::{DateTime, Utc};
use domain::{
    held::HeldTurn,
    id::{ApiKeyId, ConversationId},
    reply::{FailureCode, FinishReason, UsageSource},
    turn::TurnStatus,
};
use uuid::Uuid;

use super::{broken, turns::word};
use crate::db::DbError;

pub(in crate::db::store) struct HeldTurnColumns {
    pub id: Uuid,
    pub conversation_id: Option<Uuid>,
    pub api_key_id: Option<Uuid>,
    pub model: String,
    pub status: String,
    pub failure: Option<String>,
    pub finish_reason: Option<String>,
    pub prompt_tokens: i64,
    pub completion_tokens: i64,
    pub usage_source: Option<String>,
    pub queued_ms: Option<i64>,
    pub load_ms: Option<i64>,
    pub first_token_ms: Option<i64>,
    pub total_ms: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

impl TryFrom<HeldTurnColumns> for HeldTurn {
    type Error = DbError;

    fn try_from(row: HeldTurnColumns) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id.into(),
            conversation: row.conversation_id.map(ConversationId::from),
            key: row.api_key_id.map(ApiKeyId::from),
            model: row.model,
            status: TurnStatus::parse(&row.status).ok_or_else(|| broken("turns.status"))?,
            failure: word(row.failure.as_deref(), FailureCode::parse, "turns.failure")?,
            finish_reason: word(row.finish_reason.as_deref(), FinishReason::parse, "turns.finish_reason")?,
            prompt_tokens: number(row.prompt_tokens, "turns.prompt_tokens")?,
            completion_tokens: number(row.completion_tokens, "turns.completion_tokens")?,
            usage_source: word(row.usage_source.as_deref(), UsageSource::parse, "turns.usage_source")?,
            queued_ms: row.queued_ms.map(|ms| number(ms, "turns.queued_ms")).transpose()?,
            load_ms: row.load_ms.map(|ms| number(ms, "turns.load_ms")).transpose()?,
            first_token_ms: row.first_token_ms.map(|ms| number(ms, "turns.first_token_ms")).transpose()?,
            total_ms: row.total_ms.map(|ms| number(ms, "turns.total_ms")).transpose()?,
            created_at: row.created_at,
            ended_at: row.ended_at,
        })
    }
}

fn number(stored: i64, column: &str) -> Result<u64, DbError> {
    stored.try_into().map_err(|_| broken(column))
}
