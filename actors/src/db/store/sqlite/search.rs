//! Words taken from texts, and conversations found by them.
//!
//! The index holds what a message is found by, its owner's mark among it, and nothing of its text. Tokens are what stands
//! between ASCII characters that are no letters or digits, so an array of JSON is as good as any other list of words.

use domain::{
    conversation::{Activity, Conversation},
    id::{MessageId, UserId},
    search::{TEXT_BYTES, owner_mark},
    turn::TurnStatus,
};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::conversations::conversation;
use crate::db::{
    DbError,
    indexing::{Worded, WordedTitle, Wordless, WordlessTitle},
    store::{
        rows::{TitleRow, WordsRow, json, micros},
        stored::broken,
    },
};

/// Pages of the index that one step of [`tidy`] writes.
const TIDY_PAGES: i64 = 256;

pub(in crate::db::store) async fn wordless(
    db: &mut SqliteConnection,
    limit: u32,
    bytes: u32,
) -> Result<Vec<Wordless>, DbError> {
    sqlx::query(
        "WITH few AS (
             SELECT id, min(octet_length(content), ?1) AS bytes FROM messages
             WHERE word_row IS NULL AND status <> 'streaming' ORDER BY id DESC LIMIT ?2),
         weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id DESC) - bytes AS bytes_before FROM few)
         SELECT m.id, c.user_id, substr(m.content, 1, ?1) AS text, m.status, octet_length(m.content) AS bytes
         FROM weighed JOIN messages m ON m.id = weighed.id JOIN conversations c ON c.id = m.conversation_id
         WHERE weighed.bytes_before < ?3 ORDER BY m.id DESC",
    )
    .bind(TEXT_BYTES as i64)
    .bind(limit)
    .bind(bytes)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| {
        Ok(Wordless {
            message: row.try_get::<Uuid, _>("id")?.into(),
            owner: row.try_get::<Uuid, _>("user_id")?.into(),
            text: row.try_get("text")?,
            status: TurnStatus::parse(row.try_get("status")?).ok_or_else(|| broken("messages.status"))?,
            bytes: row.try_get("bytes")?,
        })
    })
    .collect()
}

pub(in crate::db::store) async fn wordless_titles(
    db: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<WordlessTitle>, DbError> {
    sqlx::query("SELECT id, title FROM conversations WHERE title_words IS NULL ORDER BY id DESC LIMIT ?")
        .bind(limit)
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| {
            let (conversation, title) = (row.try_get::<Uuid, _>("id")?.into(), row.try_get("title")?);
            Ok(WordlessTitle { conversation, title })
        })
        .collect()
}

/// Gives messages rows of the index, those whose text is still the one that the words were taken from; how many.
pub(super) async fn index(db: &mut SqliteConnection, worded: &[Worded]) -> Result<u64, DbError> {
    let rows = json(&WordsRow::of(worded))?;
    let last: i64 =
        sqlx::query_scalar("SELECT coalesce(max(word_row), 0) FROM messages").fetch_one(&mut *db).await?;
    let placed = sqlx::query(
        "UPDATE messages SET word_row = ?2 + fit.number
         FROM (SELECT m.id, row_number() OVER (ORDER BY m.id) AS number
               FROM jsonb_each(?1) JOIN messages m ON m.id = unhex(value->>'id', '-')
               WHERE m.word_row IS NULL AND m.status = value->>'status' AND octet_length(m.content) = value->>'bytes') AS fit
         WHERE messages.id = fit.id",
    )
    .bind(&rows)
    .bind(last)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO message_words (rowid, words)
         SELECT m.word_row, value->>'words' FROM jsonb_each(?1) JOIN messages m ON m.id = unhex(value->>'id', '-')
         WHERE m.word_row > ?2 ORDER BY m.word_row",
    )
    .bind(rows)
    .bind(last)
    .execute(db)
    .await?;
    Ok(placed.rows_affected())
}

/// Notes the words of titles that are still these; how many.
pub(super) async fn index_titles(db: &mut SqliteConnection, worded: &[WordedTitle]) -> Result<u64, DbError> {
    let noted = sqlx::query(
        "UPDATE conversations SET title_words = value->>'words' FROM jsonb_each(?)
         WHERE conversations.id = unhex(value->>'id', '-') AND title = value->>'title' AND title_words IS NULL",
    )
    .bind(json(&TitleRow::of(worded))?)
    .execute(db)
    .await?;
    Ok(noted.rows_affected())
}

/// Frees some of what removed messages have left: the index only marks what is removed, until its parts are merged. How
/// many of its rows were written, none when there is nothing left.
pub(super) async fn tidy(db: &mut SqliteConnection) -> Result<u64, DbError> {
    const CHANGES: &str = "SELECT total_changes()";
    let before: i64 = sqlx::query_scalar(CHANGES).fetch_one(&mut *db).await?;
    // Negative: until one part is left, however few were to be merged by themselves.
    sqlx::query("INSERT INTO message_words (message_words, rank) VALUES ('merge', ?)")
        .bind(-TIDY_PAGES)
        .execute(&mut *db)
        .await?;
    let after: i64 = sqlx::query_scalar(CHANGES).fetch_one(db).await?;
    // The command itself counts as one.
    Ok(u64::try_from(after - before - 1).unwrap_or(0))
}

pub(in crate::db::store) async fn find(
    db: &mut SqliteConnection,
    owner: UserId,
    words: Vec<String>,
    before: Activity,
    limit: u32,
) -> Result<Vec<(Conversation, Option<MessageId>)>, DbError> {
    // CROSS: the index comes first. Asked for the row NULL, that of a message which has no words yet, FTS5 gives all its hits.
    sqlx::query(
        "WITH hits AS MATERIALIZED (
             SELECT m.conversation_id, max(m.id) AS hit
             FROM message_words CROSS JOIN messages m ON m.word_row = message_words.rowid
             JOIN conversations c ON c.id = m.conversation_id AND c.user_id = ?1
             WHERE message_words MATCH ?2 GROUP BY m.conversation_id)
         SELECT c.id, c.title, NULL AS system_prompt, c.created_at, c.updated_at, hits.hit
         FROM conversations c LEFT JOIN hits ON hits.conversation_id = c.id
         WHERE c.user_id = ?1 AND c.deleted_at IS NULL AND (c.updated_at, c.id) < (?4, ?5)
           AND (hits.hit IS NOT NULL OR c.title_words IS NOT NULL AND NOT EXISTS
                (SELECT 1 FROM json_each(?3) WHERE instr(c.title_words, ' ' || value || ' ') = 0))
         ORDER BY c.updated_at DESC, c.id DESC LIMIT ?6",
    )
    .bind(owner.as_uuid())
    .bind(all_of(owner, &words))
    .bind(json(&words)?)
    .bind(micros(before.at))
    .bind(before.id.as_uuid())
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok((conversation(row)?, row.try_get::<Option<Uuid>, _>("hit")?.map(MessageId::from))))
    .collect()
}

/// An expression of the index that demands the owner's mark and every word. Neither has a quotation mark in it.
fn all_of(owner: UserId, words: &[String]) -> String {
    words.iter().fold(format!("\"{}\"", owner_mark(owner)), |all, word| format!("{all} AND \"{word}\""))
}

pub(in crate::db::store) async fn texts(
    db: &mut SqliteConnection,
    owner: UserId,
    messages: Vec<MessageId>,
) -> Result<Vec<(MessageId, String)>, DbError> {
    sqlx::query(
        "SELECT m.id, substr(m.content, 1, ?3) AS text FROM messages m JOIN conversations c ON c.id = m.conversation_id
         WHERE c.user_id = ?1 AND m.id IN (SELECT unhex(value, '-') FROM jsonb_each(?2))",
    )
    .bind(owner.as_uuid())
    .bind(json(&messages)?)
    .bind(TEXT_BYTES as i64)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok((row.try_get::<Uuid, _>("id")?.into(), row.try_get("text")?)))
    .collect()
}
