//! Turns and the messages they make: begun, checkpointed and settled by the batch.
//!
//! Each statement unfolds one JSON array with `json_to_recordset`. Rows that lanes share are locked in the order of their
//! ids, or skipped while another transaction holds them, so that lanes do not deadlock.

use chrono::{DateTime, Utc};
use domain::{
    conversation::UNTITLED,
    id::{InstanceId, TurnId, UserId},
    turn::{BeginTurn, Checkpoint, Settlement},
};
use sqlx::PgConnection;

use crate::db::{
    DbError,
    message::Sweep,
    store::rows::{CheckpointRow, MessageRow, PlaceRow, ReplyRow, TitleRow, TurnRow, UsageRow, json},
};

/// Creates the conversations that are new, and names the turns that may begin: those that are said nowhere, and those whose
/// conversation is their user's; none of a deleted account.
pub(super) async fn admit(
    db: &mut PgConnection,
    begins: &[(usize, &BeginTurn)],
) -> Result<Vec<TurnId>, DbError> {
    let places = json(&begins.iter().map(|(_, begin)| PlaceRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query!(
        r#"INSERT INTO conversations (id, user_id, title, title_words, created_at, updated_at)
           SELECT r.conversation, r."user", r.title, r.title_words, to_timestamp(r.at / 1e6), to_timestamp(r.at / 1e6)
           FROM json_to_recordset($1::text::json)
                AS r (conversation uuid, "user" uuid, title text, title_words text, at bigint)
           JOIN users u ON u.id = r."user" AND u.deleted_at IS NULL
           WHERE r.title IS NOT NULL FOR KEY SHARE OF u
           ON CONFLICT (id) DO NOTHING"#,
        places
    )
    .execute(&mut *db)
    .await?;
    let admitted = sqlx::query_scalar!(
        r#"WITH said AS (
               SELECT r.turn
               FROM json_to_recordset($1::text::json) AS r (turn uuid, conversation uuid, "user" uuid, parent uuid)
               JOIN conversations c ON c.id = r.conversation AND c.user_id = r."user" AND c.deleted_at IS NULL
               JOIN users u ON u.id = c.user_id AND u.deleted_at IS NULL
               WHERE r.parent IS NULL OR r.parent = c.id
                  OR EXISTS (SELECT FROM messages m WHERE m.id = r.parent AND m.conversation_id = c.id)
               ORDER BY c.id FOR NO KEY UPDATE OF c)
           SELECT turn AS "turn!" FROM said
           UNION ALL
           SELECT r.turn FROM json_to_recordset($1::text::json) AS r (turn uuid, conversation uuid, "user" uuid)
           JOIN users u ON u.id = r."user" AND u.deleted_at IS NULL
           WHERE r.conversation IS NULL"#,
        places
    )
    .fetch_all(&mut *db)
    .await?;
    Ok(admitted.into_iter().map(TurnId::from).collect())
}

pub(super) async fn begin(db: &mut PgConnection, begins: &[(usize, &BeginTurn)]) -> Result<(), DbError> {
    let turns = json(&begins.iter().map(|(_, begin)| TurnRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query!(
        r#"INSERT INTO turns (id, user_id, api_key_id, conversation_id, reply_id, model, status, owner, lease_until,
                              created_at)
           SELECT r.id, r."user", r.key, r.conversation, r.reply, r.model, 'streaming', r.owner, to_timestamp(r.lease_until / 1e6),
                  to_timestamp(r.at / 1e6)
           FROM json_to_recordset($1::text::json)
                AS r (id uuid, "user" uuid, key uuid, conversation uuid, reply uuid, model text, owner uuid,
                      lease_until bigint, at bigint)"#,
        turns
    )
    .execute(&mut *db)
    .await?;
    let messages = json(&begins.iter().flat_map(|(_, begin)| MessageRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query!(
        r#"INSERT INTO messages (id, conversation_id, turn_id, parent_id, role, content, thinking, images, tool_calls,
                                 tool_name, tool_call_id, status, created_at)
           SELECT r.id, r.conversation, r.turn, r.parent, r.role, r.content, r.thinking, r.images, r.tool_calls,
                  r.tool_name, r.tool_call_id, r.status, to_timestamp(r.at / 1e6)
           FROM json_to_recordset($1::text::json)
                AS r (id uuid, conversation uuid, turn uuid, parent uuid, role text, content text, thinking text, images text,
                      tool_calls text, tool_name text, tool_call_id text, status text, at bigint)"#,
        messages
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        r#"UPDATE conversations SET updated_at = greatest(updated_at, said.at)
           FROM (SELECT r.conversation, to_timestamp(max(r.at) / 1e6) AS at
                 FROM json_to_recordset($1::text::json) AS r (conversation uuid, at bigint) GROUP BY 1) AS said
           WHERE conversations.id = said.conversation"#,
        turns
    )
    .execute(&mut *db)
    .await?;
    let titles = TitleRow::of_untitled(begins);
    if !titles.is_empty() {
        sqlx::query!(
            "UPDATE conversations SET title = r.title, title_words = r.words
             FROM json_to_recordset($1::text::json) AS r (id uuid, title text, words text)
             WHERE conversations.id = r.id AND conversations.title = $2",
            json(&titles)?,
            UNTITLED
        )
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Opens the ledger's rows alone; one that is there already stays as it is.
pub(super) async fn open(db: &mut PgConnection, opens: &[&BeginTurn]) -> Result<(), DbError> {
    let turns = json(&opens.iter().map(|begin| TurnRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query!(
        r#"INSERT INTO turns (id, user_id, api_key_id, model, status, owner, lease_until, created_at)
           SELECT r.id, r."user", r.key, r.model, 'streaming', r.owner, to_timestamp(r.lease_until / 1e6),
                  to_timestamp(r.at / 1e6)
           FROM json_to_recordset($1::text::json)
                AS r (id uuid, "user" uuid, key uuid, model text, owner uuid, lease_until bigint, at bigint)
           ON CONFLICT (id) DO NOTHING"#,
        turns
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn checkpoint(db: &mut PgConnection, checkpoints: &[&Checkpoint]) -> Result<(), DbError> {
    let rows = json(&checkpoints.iter().map(|checkpoint| CheckpointRow::of(checkpoint)).collect::<Vec<_>>())?;
    sqlx::query!(
        r#"UPDATE messages SET content = r.content, thinking = r.thinking, tool_calls = r.tool_calls, seq = r.seq
           FROM json_to_recordset($1::text::json)
                AS r (id uuid, turn uuid, seq bigint, content text, thinking text, tool_calls text)
           WHERE messages.id = r.id AND messages.turn_id = r.turn AND messages.status = 'streaming'
             AND messages.seq < r.seq"#,
        rows
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Those of these turns that were begun here.
pub(super) async fn known(db: &mut PgConnection, turns: &[TurnId]) -> Result<Vec<TurnId>, DbError> {
    let turns: Vec<_> = turns.iter().map(|turn| turn.as_uuid()).collect();
    let known = sqlx::query_scalar!("SELECT id FROM turns WHERE id = ANY($1)", &turns).fetch_all(db).await?;
    Ok(known.into_iter().map(TurnId::from).collect())
}

pub(super) async fn settle(db: &mut PgConnection, settlements: &[&Settlement]) -> Result<(), DbError> {
    let usage = json(&settlements.iter().map(|settlement| UsageRow::of(settlement)).collect::<Vec<_>>())?;
    let replies: Vec<_> = settlements.iter().filter_map(|settlement| ReplyRow::of(settlement)).collect();
    // Turns before their messages, as the sweep holds them.
    let turns: Vec<_> = settlements.iter().map(|settlement| settlement.turn.as_uuid()).collect();
    sqlx::query!("SELECT id FROM turns WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", &turns)
        .fetch_all(&mut *db)
        .await?;
    // The answers first: whether a turn may still be settled is read from its row, which the second statement changes. One
    // that was interrupted may have been indexed with the words it had then.
    if !replies.is_empty() {
        sqlx::query!(
            r#"UPDATE messages SET content = r.content, thinking = r.thinking, tool_calls = r.tool_calls,
                                   status = r.status, words = NULL
               FROM json_to_recordset($1::text::json)
                    AS r (id uuid, turn uuid, content text, thinking text, tool_calls text, status text)
               JOIN turns ON turns.id = r.turn AND turns.status IN ('streaming', 'interrupted')
               WHERE messages.id = r.id AND messages.turn_id = r.turn
                 AND messages.status IN ('streaming', 'interrupted')"#,
            json(&replies)?
        )
        .execute(&mut *db)
        .await?;
    }
    sqlx::query!(
        r#"INSERT INTO turns (id, user_id, api_key_id, conversation_id, reply_id, model, status, failure, finish_reason, prompt_tokens,
                              completion_tokens, usage_source, queued_ms, load_ms, first_token_ms, total_ms,
                              created_at, ended_at)
           SELECT r.id, r."user", r.key, c.id, m.id, r.model, r.status, r.failure, r.finish_reason, r.prompt_tokens,
                  r.completion_tokens, r.usage_source, r.queued_ms, r.load_ms, r.first_token_ms, r.total_ms,
                  to_timestamp(r.at / 1e6), to_timestamp(r.ended_at / 1e6)
           FROM json_to_recordset($1::text::json)
                AS r (id uuid, "user" uuid, key uuid, conversation uuid, reply uuid, model text, status text, failure text,
                      finish_reason text, prompt_tokens bigint, completion_tokens bigint, usage_source text,
                      queued_ms bigint, load_ms bigint, first_token_ms bigint, total_ms bigint, at bigint,
                      ended_at bigint)
           LEFT JOIN conversations c ON c.id = r.conversation
           LEFT JOIN messages m ON m.id = r.reply AND m.turn_id = r.id
           ORDER BY r.id
           ON CONFLICT (id) DO UPDATE SET
               status = excluded.status, failure = excluded.failure, finish_reason = excluded.finish_reason,
               prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
               usage_source = excluded.usage_source, queued_ms = excluded.queued_ms, load_ms = excluded.load_ms,
               first_token_ms = excluded.first_token_ms, total_ms = excluded.total_ms, ended_at = excluded.ended_at,
               lease_until = NULL
           WHERE turns.user_id = excluded.user_id AND turns.status IN ('streaming', 'interrupted')"#,
        usage
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn renew(
    db: &mut PgConnection,
    owner: InstanceId,
    until: DateTime<Utc>,
) -> Result<(), DbError> {
    // A turn that another lane settles right now needs no lease.
    sqlx::query!(
        "UPDATE turns SET lease_until = $1 WHERE id IN
             (SELECT id FROM turns WHERE owner = $2 AND status = 'streaming' ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)",
        until,
        owner.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Interrupts running turns that nobody runs. The keys of those that left nothing to answer with are free again.
pub(super) async fn sweep(db: &mut PgConnection, sweep: &Sweep) -> Result<u64, DbError> {
    let given_up: Vec<_> = sweep.given_up.iter().map(|turn| turn.as_uuid()).collect();
    // A turn that is settled or renewed right now is alive.
    let swept = sqlx::query_scalar!(
        r#"WITH swept AS (
               UPDATE turns SET status = 'interrupted', ended_at = $1 WHERE id IN
                   (SELECT id FROM turns WHERE status = 'streaming' AND (lease_until < $2 OR owner <> $3 OR id = ANY($4))
                    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
               RETURNING id, reply_id),
           freed AS (
               DELETE FROM idempotency_keys WHERE turn_id IN
                   (SELECT k.turn_id FROM swept JOIN idempotency_keys k ON k.turn_id = swept.id
                    WHERE NOT EXISTS (SELECT FROM messages m WHERE m.id = swept.reply_id AND
                                      (m.content <> '' OR m.thinking IS NOT NULL OR m.tool_calls IS NOT NULL))
                    FOR UPDATE OF k SKIP LOCKED)),
           ended AS (
               UPDATE messages SET status = 'interrupted'
               FROM swept WHERE messages.turn_id = swept.id AND messages.status = 'streaming')
           SELECT count(*) AS "count!" FROM swept"#,
        sweep.now,
        sweep.lapsed,
        sweep.sole.map(InstanceId::as_uuid),
        &given_up
    )
    .fetch_one(db)
    .await?;
    Ok(u64::try_from(swept).unwrap_or(0))
}

/// Marks a turn that runs as one to be ended; whether it runs.
pub(super) async fn request_cancel(
    db: &mut PgConnection,
    user: UserId,
    turn: TurnId,
) -> Result<bool, DbError> {
    let marked = sqlx::query!(
        "UPDATE turns SET cancel_requested = true WHERE id = $1 AND user_id = $2 AND status = 'streaming'",
        turn.as_uuid(),
        user.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(marked.rows_affected() > 0)
}
