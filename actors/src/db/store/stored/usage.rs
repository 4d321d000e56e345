//! The ledger: its rows, and sums over them.

use chrono::{DateTime, NaiveDate, Utc};
use domain::{
    turn::TurnStatus,
    usage::{GroupKey, LedgerEntry, Mean, Outcomes, Sources, Tally, UsageGroup},
};
use uuid::Uuid;

use super::{TurnColumns, broken};
use crate::db::DbError;

/// Sums over the turns of a group.
pub(in crate::db::store) struct GroupColumns {
    pub day: Option<NaiveDate>,
    pub user_id: Option<Uuid>,
    pub email: Option<String>,
    pub model: Option<String>,
    pub api_key_id: Option<Uuid>,
    pub key_name: Option<String>,
    pub status: Option<String>,
    pub complete: i64,
    pub interrupted: i64,
    pub cancelled: i64,
    pub failed: i64,
    pub streaming: i64,
    pub prompt_tokens: i64,
    pub completion_tokens: i64,
    pub reported: i64,
    pub counted: i64,
    pub estimated: i64,
    pub queued_ms: i64,
    pub queued_count: i64,
    pub load_ms: i64,
    pub load_count: i64,
    pub first_token_ms: i64,
    pub first_token_count: i64,
    pub total_ms: i64,
    pub total_count: i64,
}

/// A row of the ledger beside the name of its key.
pub(in crate::db::store) struct LedgerColumns {
    pub id: Uuid,
    pub user_id: Uuid,
    pub api_key_id: Option<Uuid>,
    pub key_name: Option<String>,
    /// Null when it is gone or thrown away.
    pub conversation_id: Option<Uuid>,
    pub reply_id: Option<Uuid>,
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
    pub owner: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

impl TryFrom<GroupColumns> for UsageGroup {
    type Error = DbError;

    fn try_from(row: GroupColumns) -> Result<Self, DbError> {
        let mean = |sum, count| Ok::<_, DbError>(Mean { sum_ms: amount(sum)?, count: amount(count)? });
        let tally = Tally {
            outcomes: Outcomes {
                complete: amount(row.complete)?,
                interrupted: amount(row.interrupted)?,
                cancelled: amount(row.cancelled)?,
                failed: amount(row.failed)?,
                streaming: amount(row.streaming)?,
            },
            prompt_tokens: amount(row.prompt_tokens)?,
            completion_tokens: amount(row.completion_tokens)?,
            sources: Sources {
                reported: amount(row.reported)?,
                counted: amount(row.counted)?,
                estimated: amount(row.estimated)?,
            },
            queued: mean(row.queued_ms, row.queued_count)?,
            load: mean(row.load_ms, row.load_count)?,
            first_token: mean(row.first_token_ms, row.first_token_count)?,
            total: mean(row.total_ms, row.total_count)?,
        };
        let of = GroupKey {
            day: row.day,
            user: row.user_id.map(Into::into),
            model: row.model,
            key: row.api_key_id.map(Into::into),
            status: row.status.as_deref().map(status).transpose()?,
        };
        Ok(Self { of, email: row.email, key_name: row.key_name, tally })
    }
}

impl TryFrom<LedgerColumns> for LedgerEntry {
    type Error = DbError;

    fn try_from(row: LedgerColumns) -> Result<Self, DbError> {
        let turn = TurnColumns {
            id: row.id,
            user_id: row.user_id,
            model: row.model,
            conversation_id: row.conversation_id,
            reply_id: row.reply_id,
            status: row.status,
            failure: row.failure,
            finish_reason: row.finish_reason,
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            usage_source: row.usage_source,
            queued_ms: row.queued_ms,
            load_ms: row.load_ms,
            first_token_ms: row.first_token_ms,
            total_ms: row.total_ms,
            owner: row.owner,
            created_at: row.created_at,
            ended_at: row.ended_at,
            // Its answer is not asked for.
            content: String::new(),
            thinking: None,
            tool_calls: None,
        };
        let (turn, _) = turn.try_into()?;
        Ok(Self { turn, key: row.api_key_id.map(Into::into), key_name: row.key_name })
    }
}

fn status(text: &str) -> Result<TurnStatus, DbError> {
    TurnStatus::parse(text).ok_or_else(|| broken("turns.status"))
}

/// A sum or a count: never below zero.
fn amount(stored: i64) -> Result<u64, DbError> {
    stored.try_into().map_err(|_| broken("an amount in turns"))
}
