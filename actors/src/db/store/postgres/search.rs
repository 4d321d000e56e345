//! Words taken from texts, and conversations found by them.
//!
//! Another instance may take words at the same moment: what it holds is left to it.

use domain::{
    conversation::{Activity, Conversation},
    id::{MessageId, UserId},
    search::{TEXT_BYTES, owner_mark},
    turn::TurnStatus,
};
use sqlx::PgConnection;

use crate::db::{
    DbError,
    indexing::{Worded, WordedTitle, Wordless, WordlessTitle},
    store::{
        rows::{TitleRow, WordsRow, json},
        stored::broken,
    },
};

pub(in crate::db::store) async fn wordless(
    db: &mut PgConnection,
    limit: u32,
    bytes: u32,
) -> Result<Vec<Wordless>, DbError> {
    sqlx::query!(
        r#"WITH few AS (
               SELECT id, least(octet_length(content), $1::int)::bigint AS bytes FROM messages
               WHERE words IS NULL AND status <> 'streaming' ORDER BY id DESC LIMIT $2),
           weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id DESC) - bytes AS bytes_before FROM few)
           SELECT m.id, c.user_id, left(m.content, $1::int) AS "text!", m.status, octet_length(m.content)::bigint AS "bytes!"
           FROM weighed JOIN messages m ON m.id = weighed.id JOIN conversations c ON c.id = m.conversation_id
           WHERE weighed.bytes_before < $3::bigint ORDER BY m.id DESC"#,
        TEXT_BYTES as i32,
        i64::from(limit),
        i64::from(bytes)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Wordless {
            message: row.id.into(),
            owner: row.user_id.into(),
            text: row.text,
            status: TurnStatus::parse(&row.status).ok_or_else(|| broken("messages.status"))?,
            bytes: row.bytes,
        })
    })
    .collect()
}

pub(in crate::db::store) async fn wordless_titles(
    db: &mut PgConnection,
    limit: u32,
) -> Result<Vec<WordlessTitle>, DbError> {
    Ok(sqlx::query_as!(
        WordlessTitle,
        "SELECT id AS conversation, title FROM conversations WHERE title_words IS NULL ORDER BY id DESC LIMIT $1",
        i64::from(limit)
    )
    .fetch_all(db)
    .await?)
}

/// Notes the words of messages, those whose text is still the one that they were taken from; how many.
pub(super) async fn index(db: &mut PgConnection, worded: &[Worded]) -> Result<u64, DbError> {
    let noted = sqlx::query!(
        "UPDATE messages AS m SET words = r.words FROM json_to_recordset($1::text::json) AS r (id uuid, words text[])
         WHERE m.id = r.id AND m.id IN
             (SELECT m.id FROM messages m
              JOIN json_to_recordset($1::text::json) AS r (id uuid, status text, bytes bigint) ON r.id = m.id
              WHERE m.words IS NULL AND m.status = r.status AND octet_length(m.content) = r.bytes
              ORDER BY m.id FOR NO KEY UPDATE OF m SKIP LOCKED)",
        json(&WordsRow::of(worded))?
    )
    .execute(db)
    .await?;
    Ok(noted.rows_affected())
}

/// Notes the words of titles that are still these; how many.
pub(super) async fn index_titles(db: &mut PgConnection, worded: &[WordedTitle]) -> Result<u64, DbError> {
    let noted = sqlx::query!(
        "UPDATE conversations AS c SET title_words = r.words
         FROM json_to_recordset($1::text::json) AS r (id uuid, words text)
         WHERE c.id = r.id AND c.id IN
             (SELECT c.id FROM conversations c
              JOIN json_to_recordset($1::text::json) AS r (id uuid, title text) ON r.id = c.id
              WHERE c.title_words IS NULL AND c.title = r.title
              ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED)",
        json(&TitleRow::of(worded))?
    )
    .execute(db)
    .await?;
    Ok(noted.rows_affected())
}

/// There is nothing to do: the server's own vacuum takes from the index what was removed.
pub(super) async fn tidy(_: &mut PgConnection) -> Result<u64, DbError> {
    Ok(0)
}

pub(in crate::db::store) async fn find(
    db: &mut PgConnection,
    owner: UserId,
    words: Vec<String>,
    before: Activity,
    limit: u32,
) -> Result<Vec<(Conversation, Option<MessageId>)>, DbError> {
    let marks: Vec<_> = std::iter::once(owner_mark(owner)).chain(words.iter().cloned()).collect();
    let found = sqlx::query!(
        r#"WITH hits AS MATERIALIZED (
               SELECT DISTINCT ON (m.conversation_id) m.conversation_id, m.id AS hit
               FROM messages m JOIN conversations c ON c.id = m.conversation_id AND c.user_id = $1
               WHERE m.words @> $2 ORDER BY m.conversation_id, m.id DESC)
           SELECT c.id, c.title, c.created_at, c.updated_at, hits.hit AS "hit?"
           FROM conversations c LEFT JOIN hits ON hits.conversation_id = c.id
           WHERE c.user_id = $1 AND c.deleted_at IS NULL
             AND (c.updated_at, c.id) < ($4, $5)
             AND (hits.hit IS NOT NULL OR c.title_words IS NOT NULL AND NOT EXISTS
                  (SELECT 1 FROM unnest($3::text[]) AS word WHERE strpos(c.title_words, ' ' || word || ' ') = 0))
           ORDER BY c.updated_at DESC, c.id DESC LIMIT $6"#,
        owner.as_uuid(),
        &marks,
        &words,
        before.at,
        before.id.as_uuid(),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?;
    let found = found.into_iter().map(|row| {
        let conversation = Conversation {
            id: row.id.into(),
            title: row.title,
            system_prompt: None,
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        (conversation, row.hit.map(MessageId::from))
    });
    Ok(found.collect())
}

pub(in crate::db::store) async fn texts(
    db: &mut PgConnection,
    owner: UserId,
    messages: Vec<MessageId>,
) -> Result<Vec<(MessageId, String)>, DbError> {
    let messages: Vec<_> = messages.into_iter().map(MessageId::as_uuid).collect();
    let found = sqlx::query!(
        r#"SELECT m.id, left(m.content, $3::int) AS "text!" FROM messages m JOIN conversations c ON c.id = m.conversation_id
           WHERE c.user_id = $1 AND m.id = ANY($2)"#,
        owner.as_uuid(),
        &messages,
        TEXT_BYTES as i32
    )
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().map(|row| (row.id.into(), row.text)).collect())
}
