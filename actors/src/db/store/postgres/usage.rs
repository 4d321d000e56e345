//! The ledger: its rows, and sums over them.

use domain::{
    id::{ApiKeyId, ConversationId, TurnId, UserId},
    turn::TurnStatus,
    usage::{Dimension, GroupKey, LedgerEntry, LedgerFilter, UsageGroup, UsageQuery},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::stored::{GroupColumns, LedgerColumns},
};

/// The statement that adds up the turns of a query on which `$whose` is the last condition: a condition on the account must
/// not be one that a null makes void, or a plan made once for all values could not use the index by account.
macro_rules! summed {
    ($query:ident, $after:ident, $limit:ident, $whose:literal $(, $user:expr)?) => {{
        let by = |dimension| $query.by.contains(dimension);
        let is_continued = $after.is_some();
        let place = $after.unwrap_or_default();
        sqlx::query_as!(
            GroupColumns,
            r#"SELECT g.day AS "day?", g.user_id AS "user_id?", u.email AS "email?", g.model AS "model?",
                   g.api_key_id AS "api_key_id?", k.name AS "key_name?", g.status AS "status?",
                   g.complete AS "complete!", g.interrupted AS "interrupted!", g.cancelled AS "cancelled!",
                   g.failed AS "failed!", g.streaming AS "streaming!", g.prompt_tokens AS "prompt_tokens!",
                   g.completion_tokens AS "completion_tokens!", g.reported AS "reported!", g.counted AS "counted!",
                   g.estimated AS "estimated!", g.queued_ms AS "queued_ms!", g.queued_count AS "queued_count!",
                   g.load_ms AS "load_ms!", g.load_count AS "load_count!", g.first_token_ms AS "first_token_ms!",
                   g.first_token_count AS "first_token_count!", g.total_ms AS "total_ms!", g.total_count AS "total_count!"
               FROM (SELECT CASE WHEN $1 THEN (created_at AT TIME ZONE 'UTC')::date END AS day,
                            CASE WHEN $2 THEN user_id END AS user_id,
                            CASE WHEN $3 THEN model END COLLATE "C" AS model,
                            CASE WHEN $4 THEN api_key_id END AS api_key_id,
                            CASE WHEN $5 THEN status END COLLATE "C" AS status,
                            count(*) FILTER (WHERE status = 'complete') AS complete,
                            count(*) FILTER (WHERE status = 'interrupted') AS interrupted,
                            count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
                            count(*) FILTER (WHERE status = 'failed') AS failed,
                            count(*) FILTER (WHERE status = 'streaming') AS streaming,
                            sum(prompt_tokens)::bigint AS prompt_tokens,
                            sum(completion_tokens)::bigint AS completion_tokens,
                            count(*) FILTER (WHERE usage_source = 'reported') AS reported,
                            count(*) FILTER (WHERE usage_source = 'counted') AS counted,
                            count(*) FILTER (WHERE usage_source = 'estimated') AS estimated,
                            coalesce(sum(queued_ms), 0)::bigint AS queued_ms, count(queued_ms) AS queued_count,
                            coalesce(sum(load_ms), 0)::bigint AS load_ms, count(load_ms) AS load_count,
                            coalesce(sum(first_token_ms), 0)::bigint AS first_token_ms,
                            count(first_token_ms) AS first_token_count,
                            coalesce(sum(total_ms), 0)::bigint AS total_ms, count(total_ms) AS total_count
                     FROM turns
                     WHERE created_at >= $6 AND created_at < $7 AND ($8::text IS NULL OR model = $8)
                       AND ($9::uuid IS NULL OR api_key_id = $9) AND "#
                + $whose
                + r#" GROUP BY 1, 2, 3, 4, 5) AS g
               LEFT JOIN users u ON u.id = g.user_id AND u.deleted_at IS NULL
               LEFT JOIN api_keys k ON k.id = g.api_key_id
               WHERE NOT $10::boolean
                  OR (coalesce(g.day, date '1970-01-01'), coalesce(g.user_id, $13), coalesce(g.model, ''),
                      coalesce(g.api_key_id, $13), coalesce(g.status, ''))
                     > (coalesce($11::date, date '1970-01-01'), coalesce($12::uuid, $13::uuid),
                        coalesce($14::text, '') COLLATE "C", coalesce($15::uuid, $13), coalesce($16::text, '') COLLATE "C")
               ORDER BY g.day NULLS FIRST, g.user_id NULLS FIRST, g.model NULLS FIRST, g.api_key_id NULLS FIRST,
                        g.status NULLS FIRST
               LIMIT $17"#,
            by(Dimension::Day),
            by(Dimension::User),
            by(Dimension::Model),
            by(Dimension::Key),
            by(Dimension::Status),
            $query.days.since(),
            $query.days.until(),
            $query.model,
            $query.key.map(ApiKeyId::as_uuid),
            is_continued,
            place.day,
            place.user.map(UserId::as_uuid),
            Uuid::nil(),
            place.model,
            place.key.map(ApiKeyId::as_uuid),
            place.status.map(TurnStatus::as_str),
            i64::from($limit)
            $(, $user)?
        )
    }};
}

pub(in crate::db::store) async fn groups(
    db: &mut PgConnection,
    query: UsageQuery,
    after: Option<GroupKey>,
    limit: u32,
) -> Result<Vec<UsageGroup>, DbError> {
    let groups = match query.user.map(UserId::as_uuid) {
        Some(user) => summed!(query, after, limit, "user_id = $18", user).fetch_all(db).await?,
        None => summed!(query, after, limit, "true").fetch_all(db).await?,
    };
    groups.into_iter().map(UsageGroup::try_from).collect()
}

pub(in crate::db::store) async fn ledger(
    db: &mut PgConnection,
    owner: UserId,
    filter: LedgerFilter,
    before: Option<TurnId>,
    limit: u32,
) -> Result<Vec<LedgerEntry>, DbError> {
    // A cursor that is no turn of the owner's has nothing before it.
    sqlx::query_as!(
        LedgerColumns,
        r#"SELECT t.id, t.user_id, t.owner, t.api_key_id, k.name AS "key_name?", c.id AS "conversation_id?",
                  CASE WHEN c.id IS NOT NULL THEN t.reply_id END AS reply_id, t.model, t.status, t.failure,
                  t.finish_reason, t.prompt_tokens, t.completion_tokens, t.usage_source, t.queued_ms, t.load_ms,
                  t.first_token_ms, t.total_ms, t.created_at, t.ended_at
           FROM turns t
           LEFT JOIN conversations c ON c.id = t.conversation_id AND c.deleted_at IS NULL
           LEFT JOIN api_keys k ON k.id = t.api_key_id
           WHERE t.user_id = $1
             AND ($2::uuid IS NULL
                  OR (t.created_at, t.id) < (SELECT created_at, id FROM turns WHERE id = $2 AND user_id = $1))
             AND ($3::text IS NULL OR t.model = $3) AND ($4::text IS NULL OR t.status = $4)
             AND ($5::uuid IS NULL OR c.id = $5)
           ORDER BY t.created_at DESC, t.id DESC LIMIT $6"#,
        owner.as_uuid(),
        before.map(TurnId::as_uuid),
        filter.model,
        filter.status.map(TurnStatus::as_str),
        filter.conversation.map(ConversationId::as_uuid),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(LedgerEntry::try_from)
    .collect()
}
