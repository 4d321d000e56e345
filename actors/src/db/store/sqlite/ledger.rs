//! Turns as the ledger knows them.

use domain::{
    id::{InstanceId, TurnId, UserId},
    reply::Answer,
    turn::StoredTurn,
};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::columns::{optional_time, time};
use crate::db::{
    DbError,
    store::{rows::CANCELS_MAX, stored::TurnColumns},
};

/// The turn with its answer: the message that it names or, where it names none as those of the release before did not, the
/// newest that it made.
pub(in crate::db::store) async fn turn(
    db: &mut SqliteConnection,
    user: UserId,
    turn: TurnId,
) -> Result<Option<(StoredTurn, Answer)>, DbError> {
    let row = sqlx::query(
        "SELECT t.id, t.user_id, t.model,
                (SELECT c.id FROM conversations c WHERE c.id = t.conversation_id AND c.deleted_at IS NULL) AS conversation_id,
                m.id AS reply_id, t.status, t.failure, t.finish_reason, t.prompt_tokens, t.completion_tokens, t.usage_source,
                t.queued_ms, t.load_ms, t.first_token_ms, t.total_ms, t.owner, t.created_at, t.ended_at,
                coalesce(m.content, '') AS content, m.thinking, m.tool_calls
         FROM turns t LEFT JOIN messages m ON m.conversation_id = t.conversation_id AND m.id = coalesce(t.reply_id,
             (SELECT a.id FROM messages a WHERE a.conversation_id = t.conversation_id AND a.turn_id = t.id
                                            AND a.role = 'assistant' ORDER BY a.id DESC LIMIT 1))
         WHERE t.id = ? AND t.user_id = ?",
    )
    .bind(turn.as_uuid())
    .bind(user.as_uuid())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = TurnColumns {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        model: row.try_get("model")?,
        conversation_id: row.try_get("conversation_id")?,
        reply_id: row.try_get("reply_id")?,
        status: row.try_get("status")?,
        failure: row.try_get("failure")?,
        finish_reason: row.try_get("finish_reason")?,
        prompt_tokens: row.try_get("prompt_tokens")?,
        completion_tokens: row.try_get("completion_tokens")?,
        usage_source: row.try_get("usage_source")?,
        queued_ms: row.try_get("queued_ms")?,
        load_ms: row.try_get("load_ms")?,
        first_token_ms: row.try_get("first_token_ms")?,
        total_ms: row.try_get("total_ms")?,
        owner: row.try_get("owner")?,
        created_at: time(&row, "created_at")?,
        ended_at: optional_time(&row, "ended_at")?,
        content: row.try_get("content")?,
        thinking: row.try_get("thinking")?,
        tool_calls: row.try_get("tool_calls")?,
    };
    columns.try_into().map(Some)
}

pub(in crate::db::store) async fn cancel_requests(
    db: &mut SqliteConnection,
    owner: InstanceId,
) -> Result<Vec<TurnId>, DbError> {
    let turns: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM turns WHERE owner = ? AND cancel_requested AND status = 'streaming' LIMIT ?",
    )
    .bind(owner.as_uuid())
    .bind(CANCELS_MAX)
    .fetch_all(db)
    .await?;
    Ok(turns.into_iter().map(TurnId::from).collect())
}
