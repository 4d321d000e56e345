//! Turns.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    id::InstanceId,
    reply::{Answer, FailureCode, FinishReason, Timings, Usage, UsageSource},
    turn::{StoredReply, StoredTurn, TurnStatus},
};
use uuid::Uuid;

use super::{broken, messages::list};
use crate::db::DbError;

/// A turn next to its answer.
pub(in crate::db::store) struct TurnColumns {
    pub id: Uuid,
    pub user_id: Uuid,
    pub model: String,
    /// Null when it is gone or thrown away.
    pub conversation_id: Option<Uuid>,
    pub reply_id: Option<Uuid>,
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
    /// Of the message that holds the answer, if there is one.
    pub content: String,
    pub thinking: Option<String>,
    pub tool_calls: Option<String>,
}

impl TryFrom<TurnColumns> for (StoredTurn, Answer) {
    type Error = DbError;

    fn try_from(row: TurnColumns) -> Result<Self, DbError> {
        let stored = row.conversation_id.zip(row.reply_id);
        // Where its usage comes from is written with its end, and where nobody wrote one there are zeros only.
        let source = word(row.usage_source.as_deref(), UsageSource::parse, "turns.usage_source")?;
        let prompt_tokens = tokens(row.prompt_tokens, "turns.prompt_tokens")?;
        let completion_tokens = tokens(row.completion_tokens, "turns.completion_tokens")?;
        let usage = source.map(|source| Usage { prompt_tokens, completion_tokens, source });
        let timings = Timings {
            queued: duration(row.queued_ms, "turns.queued_ms")?.unwrap_or_default(),
            load: duration(row.load_ms, "turns.load_ms")?.unwrap_or_default(),
            first_token: duration(row.first_token_ms, "turns.first_token_ms")?,
            total: duration(row.total_ms, "turns.total_ms")?.unwrap_or_default(),
        };
        let turn = StoredTurn {
            turn: row.id.into(),
            user: row.user_id.into(),
            model: row.model,
            stored: stored.map(|(conversation, message)| StoredReply {
                conversation: conversation.into(),
                message: message.into(),
            }),
            status: word(Some(&row.status), TurnStatus::parse, "turns.status")?
                .ok_or_else(|| broken("turns.status"))?,
            failure: word(row.failure.as_deref(), FailureCode::parse, "turns.failure")?,
            finish_reason: word(row.finish_reason.as_deref(), FinishReason::parse, "turns.finish_reason")?,
            usage,
            timings: usage.and(Some(timings)),
            owner: row.owner.map(InstanceId::from),
            created_at: row.created_at,
            ended_at: row.ended_at,
        };
        if turn.stored.is_none() {
            return Ok((turn, Answer::default()));
        }
        let answer = Answer {
            content: row.content,
            thinking: row.thinking.unwrap_or_default(),
            tool_calls: list(row.tool_calls.as_deref(), "messages.tool_calls")?,
            logprobs: Vec::new(),
        };
        Ok((turn, answer))
    }
}

pub(super) fn word<T>(
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    column: &str,
) -> Result<Option<T>, DbError> {
    text.map(|text| parse(text).ok_or_else(|| broken(column))).transpose()
}

fn tokens(count: i64, column: &str) -> Result<u32, DbError> {
    u32::try_from(count).map_err(|_| broken(column))
}

fn duration(milliseconds: Option<i64>, column: &str) -> Result<Option<Duration>, DbError> {
    milliseconds
        .map(|milliseconds| {
            u64::try_from(milliseconds).map(Duration::from_millis).map_err(|_| broken(column))
        })
        .transpose()
}
