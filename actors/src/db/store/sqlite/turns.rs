//! Turns and the messages they make: begun, checkpointed and settled by the batch.
//!
//! Each statement unfolds one JSON array; ids come as text and are stored as 16 bytes. It does so with `jsonb_each`, which
//! hands each row out in binary: `json_each` prints it for every `->>` to parse again (10.8 against 3.9 µs a row).

use chrono::{DateTime, Utc};
use domain::{
    conversation::UNTITLED,
    id::{InstanceId, TurnId, UserId},
    turn::{BeginTurn, Checkpoint, Settlement},
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    message::Sweep,
    store::rows::{CheckpointRow, MessageRow, PlaceRow, ReplyRow, TitleRow, TurnRow, UsageRow, json, micros},
};

/// Creates the conversations that are new, and names the turns that may begin: those that are said nowhere, and those whose
/// conversation is their user's; none of a deleted account.
pub(super) async fn admit(
    db: &mut SqliteConnection,
    begins: &[(usize, &BeginTurn)],
) -> Result<Vec<TurnId>, DbError> {
    let places = json(&begins.iter().map(|(_, begin)| PlaceRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query(
        "INSERT INTO conversations (id, user_id, title, title_words, created_at, updated_at)
         SELECT unhex(value->>'conversation', '-'), unhex(value->>'user', '-'), value->>'title', value->>'title_words',
                value->>'at', value->>'at'
         FROM jsonb_each(?) JOIN users u ON u.id = unhex(value->>'user', '-') AND u.deleted_at IS NULL
         WHERE value->>'title' IS NOT NULL
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(&places)
    .execute(&mut *db)
    .await?;
    let admitted: Vec<Uuid> = sqlx::query_scalar(
        "SELECT unhex(value->>'turn', '-') FROM jsonb_each(?1)
         JOIN conversations c ON c.id = unhex(value->>'conversation', '-') AND c.user_id = unhex(value->>'user', '-')
         JOIN users u ON u.id = c.user_id AND u.deleted_at IS NULL
         WHERE c.deleted_at IS NULL AND (value->>'parent' IS NULL OR unhex(value->>'parent', '-') IN (
             SELECT c.id UNION ALL
             SELECT m.id FROM messages m WHERE m.id = unhex(value->>'parent', '-') AND m.conversation_id = c.id))
         UNION ALL
         SELECT unhex(value->>'turn', '-') FROM jsonb_each(?1)
         JOIN users u ON u.id = unhex(value->>'user', '-') AND u.deleted_at IS NULL
         WHERE value->>'conversation' IS NULL",
    )
    .bind(&places)
    .fetch_all(&mut *db)
    .await?;
    Ok(admitted.into_iter().map(TurnId::from).collect())
}

pub(super) async fn begin(db: &mut SqliteConnection, begins: &[(usize, &BeginTurn)]) -> Result<(), DbError> {
    let turns = json(&begins.iter().map(|(_, begin)| TurnRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query(
        "INSERT INTO turns (id, user_id, api_key_id, conversation_id, reply_id, model, status, owner, lease_until, created_at)
         SELECT unhex(value->>'id', '-'), unhex(value->>'user', '-'), unhex(value->>'key', '-'),
                unhex(value->>'conversation', '-'), unhex(value->>'reply', '-'), value->>'model', 'streaming', unhex(value->>'owner', '-'), value->>'lease_until', value->>'at'
         FROM jsonb_each(?)",
    )
    .bind(&turns)
    .execute(&mut *db)
    .await?;
    let messages = json(&begins.iter().flat_map(|(_, begin)| MessageRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query(
        "INSERT INTO messages (id, conversation_id, turn_id, parent_id, role, content, thinking, images, tool_calls,
                               tool_name, tool_call_id, status, created_at)
         SELECT unhex(value->>'id', '-'), unhex(value->>'conversation', '-'), unhex(value->>'turn', '-'),
                unhex(value->>'parent', '-'),
                value->>'role', value->>'content', value->>'thinking', value->>'images', value->>'tool_calls',
                value->>'tool_name', value->>'tool_call_id', value->>'status', value->>'at'
         FROM jsonb_each(?)",
    )
    .bind(messages)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "UPDATE conversations SET updated_at = max(updated_at, said.at)
         FROM (SELECT unhex(value->>'conversation', '-') AS id, max(value->>'at') AS at FROM jsonb_each(?) GROUP BY 1) AS said
         WHERE conversations.id = said.id",
    )
    .bind(turns)
    .execute(&mut *db)
    .await?;
    let titles = TitleRow::of_untitled(begins);
    if !titles.is_empty() {
        sqlx::query(
            "UPDATE conversations SET title = value->>'title', title_words = value->>'words'
             FROM jsonb_each(?) WHERE conversations.id = unhex(value->>'id', '-') AND title = ?",
        )
        .bind(json(&titles)?)
        .bind(UNTITLED)
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Opens the ledger's rows alone; one that is there already stays as it is.
pub(super) async fn open(db: &mut SqliteConnection, opens: &[&BeginTurn]) -> Result<(), DbError> {
    let turns = json(&opens.iter().map(|begin| TurnRow::of(begin)).collect::<Vec<_>>())?;
    sqlx::query(
        "INSERT INTO turns (id, user_id, api_key_id, model, status, owner, lease_until, created_at)
         SELECT unhex(value->>'id', '-'), unhex(value->>'user', '-'), unhex(value->>'key', '-'), value->>'model', 'streaming',
                unhex(value->>'owner', '-'), value->>'lease_until', value->>'at'
         FROM jsonb_each(?) WHERE true
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(turns)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn checkpoint(
    db: &mut SqliteConnection,
    checkpoints: &[&Checkpoint],
) -> Result<(), DbError> {
    let rows = json(&checkpoints.iter().map(|checkpoint| CheckpointRow::of(checkpoint)).collect::<Vec<_>>())?;
    sqlx::query(
        "UPDATE messages SET content = value->>'content', thinking = value->>'thinking',
                             tool_calls = value->>'tool_calls', seq = value->>'seq'
         FROM jsonb_each(?)
         WHERE messages.id = unhex(value->>'id', '-') AND turn_id = unhex(value->>'turn', '-')
           AND status = 'streaming' AND seq < value->>'seq'",
    )
    .bind(rows)
    .execute(db)
    .await?;
    Ok(())
}

/// Those of these turns that were begun here.
pub(super) async fn known(db: &mut SqliteConnection, turns: &[TurnId]) -> Result<Vec<TurnId>, DbError> {
    let known: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM turns WHERE id IN (SELECT unhex(value, '-') FROM json_each(?))")
            .bind(json(turns)?)
            .fetch_all(db)
            .await?;
    Ok(known.into_iter().map(TurnId::from).collect())
}

pub(super) async fn settle(db: &mut SqliteConnection, settlements: &[&Settlement]) -> Result<(), DbError> {
    let usage = json(&settlements.iter().map(|settlement| UsageRow::of(settlement)).collect::<Vec<_>>())?;
    let replies: Vec<_> = settlements.iter().filter_map(|settlement| ReplyRow::of(settlement)).collect();
    // The answers first: whether a turn may still be settled is read from its row, which the second statement changes. One
    // that was interrupted may have been indexed with the words it had then, which go with their row's number.
    if !replies.is_empty() {
        sqlx::query(
            "UPDATE messages SET content = value->>'content', thinking = value->>'thinking',
                                 tool_calls = value->>'tool_calls', status = value->>'status', word_row = NULL
             FROM jsonb_each(?) JOIN turns ON turns.id = unhex(value->>'turn', '-')
             WHERE messages.id = unhex(value->>'id', '-') AND messages.turn_id = turns.id
               AND messages.status IN ('streaming', 'interrupted') AND turns.status IN ('streaming', 'interrupted')",
        )
        .bind(json(&replies)?)
        .execute(&mut *db)
        .await?;
    }
    sqlx::query(
        "INSERT INTO turns (id, user_id, api_key_id, conversation_id, reply_id, model, status, failure, finish_reason, prompt_tokens,
                            completion_tokens, usage_source, queued_ms, load_ms, first_token_ms, total_ms,
                            created_at, ended_at)
         SELECT unhex(value->>'id', '-'), unhex(value->>'user', '-'), unhex(value->>'key', '-'),
                (SELECT id FROM conversations WHERE id = unhex(value->>'conversation', '-')),
                (SELECT id FROM messages WHERE id = unhex(value->>'reply', '-') AND turn_id = unhex(value->>'id', '-')),
                value->>'model', value->>'status', value->>'failure', value->>'finish_reason',
                value->>'prompt_tokens', value->>'completion_tokens', value->>'usage_source', value->>'queued_ms',
                value->>'load_ms', value->>'first_token_ms', value->>'total_ms', value->>'at', value->>'ended_at'
         FROM jsonb_each(?) WHERE true
         ON CONFLICT (id) DO UPDATE SET
             status = excluded.status, failure = excluded.failure, finish_reason = excluded.finish_reason,
             prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
             usage_source = excluded.usage_source, queued_ms = excluded.queued_ms, load_ms = excluded.load_ms,
             first_token_ms = excluded.first_token_ms, total_ms = excluded.total_ms, ended_at = excluded.ended_at,
             lease_until = NULL
         WHERE turns.user_id = excluded.user_id AND turns.status IN ('streaming', 'interrupted')",
    )
    .bind(usage)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn renew(
    db: &mut SqliteConnection,
    owner: InstanceId,
    until: DateTime<Utc>,
) -> Result<(), DbError> {
    sqlx::query("UPDATE turns SET lease_until = ? WHERE owner = ? AND status = 'streaming'")
        .bind(micros(until))
        .bind(owner.as_uuid())
        .execute(db)
        .await?;
    Ok(())
}

/// Interrupts running turns that nobody runs. The keys of those that left nothing to answer with are free again.
pub(super) async fn sweep(db: &mut SqliteConnection, sweep: &Sweep) -> Result<u64, DbError> {
    const KEYS: &str = "DELETE FROM idempotency_keys WHERE turn_id IN
             (SELECT t.id FROM turns t LEFT JOIN messages m ON m.id = t.reply_id
              WHERE t.status = 'streaming'
                AND (t.lease_until < ?2 OR t.owner <> ?3 OR t.id IN (SELECT unhex(value, '-') FROM json_each(?4)))
                AND coalesce(m.content, '') = '' AND m.thinking IS NULL AND m.tool_calls IS NULL)";
    const MESSAGES: &str = "UPDATE messages SET status = 'interrupted' WHERE status = 'streaming' AND turn_id IN
             (SELECT id FROM turns WHERE status = 'streaming'
                AND (lease_until < ?2 OR owner <> ?3 OR id IN (SELECT unhex(value, '-') FROM json_each(?4))))";
    const TURNS: &str = "UPDATE turns SET status = 'interrupted', ended_at = ?1 WHERE status = 'streaming'
           AND (lease_until < ?2 OR owner <> ?3 OR id IN (SELECT unhex(value, '-') FROM json_each(?4)))";
    let given_up = json(&sweep.given_up)?;
    let mut swept = 0;
    for statement in [KEYS, MESSAGES, TURNS] {
        let done = sqlx::query(statement)
            .bind(micros(sweep.now))
            .bind(sweep.lapsed.map(micros))
            .bind(sweep.sole.map(InstanceId::as_uuid))
            .bind(&given_up)
            .execute(&mut *db)
            .await?;
        swept = done.rows_affected();
    }
    Ok(swept)
}

/// Marks a turn that runs as one to be ended; whether it runs.
pub(super) async fn request_cancel(
    db: &mut SqliteConnection,
    user: UserId,
    turn: TurnId,
) -> Result<bool, DbError> {
    let marked = sqlx::query(
        "UPDATE turns SET cancel_requested = true WHERE id = ? AND user_id = ? AND status = 'streaming'",
    )
    .bind(turn.as_uuid())
    .bind(user.as_uuid())
    .execute(db)
    .await?;
    Ok(marked.rows_affected() > 0)
}
