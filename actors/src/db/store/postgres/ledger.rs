//! Turns as the ledger knows them.

use domain::{
    id::{InstanceId, TurnId, UserId},
    reply::Answer,
    turn::StoredTurn,
};
use sqlx::PgConnection;

use crate::db::{
    DbError,
    store::{rows::CANCELS_MAX, stored::TurnColumns},
};

/// The turn with its answer: the message that it names or, where it names none as those of the release before did not, the
/// newest that it made.
pub(in crate::db::store) async fn turn(
    db: &mut PgConnection,
    user: UserId,
    turn: TurnId,
) -> Result<Option<(StoredTurn, Answer)>, DbError> {
    sqlx::query_as!(
        TurnColumns,
        r#"SELECT t.id, t.user_id, t.model,
                  (SELECT c.id FROM conversations c WHERE c.id = t.conversation_id AND c.deleted_at IS NULL) AS conversation_id,
                  (SELECT m.id) AS reply_id, t.status, t.failure, t.finish_reason, t.prompt_tokens, t.completion_tokens, t.usage_source,
                  t.queued_ms, t.load_ms, t.first_token_ms, t.total_ms, t.owner, t.created_at, t.ended_at,
                  coalesce(m.content, '') AS "content!", m.thinking, m.tool_calls
           FROM turns t LEFT JOIN LATERAL
               (SELECT id, content, thinking, tool_calls FROM messages
                WHERE conversation_id = t.conversation_id AND id = coalesce(t.reply_id,
                    (SELECT a.id FROM messages a WHERE a.conversation_id = t.conversation_id AND a.turn_id = t.id
                                                   AND a.role = 'assistant' ORDER BY a.id DESC LIMIT 1))
                LIMIT 1) m ON true
           WHERE t.id = $1 AND t.user_id = $2"#,
        turn.as_uuid(),
        user.as_uuid()
    )
    .fetch_optional(db)
    .await?
    .map(TurnColumns::try_into)
    .transpose()
}

pub(in crate::db::store) async fn cancel_requests(
    db: &mut PgConnection,
    owner: InstanceId,
) -> Result<Vec<TurnId>, DbError> {
    let turns = sqlx::query_scalar!(
        "SELECT id FROM turns WHERE owner = $1 AND cancel_requested AND status = 'streaming' LIMIT $2",
        owner.as_uuid(),
        i64::from(CANCELS_MAX)
    )
    .fetch_all(db)
    .await?;
    Ok(turns.into_iter().map(TurnId::from).collect())
}
