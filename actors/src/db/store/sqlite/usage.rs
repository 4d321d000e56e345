//! The ledger: its rows, and sums over them.

use chrono::NaiveDate;
use domain::{
    id::{ApiKeyId, ConversationId, TurnId, UserId},
    turn::TurnStatus,
    usage::{Dimension, Dimensions, GroupKey, LedgerEntry, LedgerFilter, UsageGroup, UsageQuery},
};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::{optional_time, time};
use crate::db::{
    DbError,
    store::{
        rows::micros,
        stored::{GroupColumns, LedgerColumns, broken},
    },
};

/// A column for each dimension, in the order of sorting. Times are microseconds, days are counted since 1970.
const DIMENSIONS: [(Dimension, &str, &str); 5] = [
    (Dimension::Day, "created_at / 86400000000", " AS day"),
    (Dimension::User, "user_id", " AS user_id"),
    (Dimension::Model, "model", " AS model"),
    (Dimension::Key, "api_key_id", " AS api_key_id"),
    (Dimension::Status, "status", " AS status"),
];

const SUMS: &str = "
    count(*) FILTER (WHERE status = 'complete') AS complete,
    count(*) FILTER (WHERE status = 'interrupted') AS interrupted,
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    count(*) FILTER (WHERE status = 'streaming') AS streaming,
    sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
    count(*) FILTER (WHERE usage_source = 'reported') AS reported,
    count(*) FILTER (WHERE usage_source = 'counted') AS counted,
    count(*) FILTER (WHERE usage_source = 'estimated') AS estimated,
    coalesce(sum(queued_ms), 0) AS queued_ms, count(queued_ms) AS queued_count,
    coalesce(sum(load_ms), 0) AS load_ms, count(load_ms) AS load_count,
    coalesce(sum(first_token_ms), 0) AS first_token_ms, count(first_token_ms) AS first_token_count,
    coalesce(sum(total_ms), 0) AS total_ms, count(total_ms) AS total_count";

pub(in crate::db::store) async fn groups(
    db: &mut SqliteConnection,
    query: UsageQuery,
    after: Option<GroupKey>,
    limit: u32,
) -> Result<Vec<UsageGroup>, DbError> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT g.*, u.email, k.name AS key_name FROM (SELECT ");
    push_dimensions(&mut sql, query.by);
    sql.push(SUMS).push(" FROM turns WHERE created_at >= ").push_bind(micros(query.days.since()));
    sql.push(" AND created_at < ").push_bind(micros(query.days.until()));
    if let Some(user) = query.user.map(UserId::as_uuid) {
        sql.push(" AND user_id = ").push_bind(user);
    }
    if let Some(model) = query.model {
        sql.push(" AND model = ").push_bind(model);
    }
    if let Some(key) = query.key.map(ApiKeyId::as_uuid) {
        sql.push(" AND api_key_id = ").push_bind(key);
    }
    sql.push(
        " GROUP BY 1, 2, 3, 4, 5) g
          LEFT JOIN users u ON u.id = g.user_id AND u.deleted_at IS NULL
          LEFT JOIN api_keys k ON k.id = g.api_key_id",
    );
    if let Some(place) = after {
        push_after(&mut sql, place);
    }
    sql.push(" ORDER BY 1, 2, 3, 4, 5 LIMIT ").push_bind(limit);
    sql.build().fetch_all(db).await?.iter().map(|row| group(row)?.try_into()).collect()
}

/// Null for each that is not grouped by.
fn push_dimensions(sql: &mut QueryBuilder<Sqlite>, by: Dimensions) {
    for (dimension, column, name) in DIMENSIONS {
        sql.push(if by.contains(dimension) { column } else { "NULL" }).push(name).push(", ");
    }
}

/// Nulls are sorted first, as what they are replaced by here is.
fn push_after(sql: &mut QueryBuilder<Sqlite>, place: GroupKey) {
    let id = |id: Option<Uuid>| id.unwrap_or_default();
    sql.push(
        " WHERE (coalesce(g.day, 0), coalesce(g.user_id, zeroblob(16)), coalesce(g.model, ''),
                 coalesce(g.api_key_id, zeroblob(16)), coalesce(g.status, '')) > (",
    );
    let mut values = sql.separated(", ");
    values
        .push_bind(place.day.map_or(0, |day| day.to_epoch_days()))
        .push_bind(id(place.user.map(UserId::as_uuid)))
        .push_bind(place.model.unwrap_or_default())
        .push_bind(id(place.key.map(ApiKeyId::as_uuid)))
        .push_bind(place.status.map_or("", TurnStatus::as_str));
    sql.push(")");
}

pub(in crate::db::store) async fn ledger(
    db: &mut SqliteConnection,
    owner: UserId,
    filter: LedgerFilter,
    before: Option<TurnId>,
    limit: u32,
) -> Result<Vec<LedgerEntry>, DbError> {
    let owner = owner.as_uuid();
    let mut sql = QueryBuilder::<Sqlite>::new(
        "SELECT t.id, t.user_id, t.owner, t.api_key_id, k.name AS key_name, c.id AS conversation_id,
                CASE WHEN c.id IS NOT NULL THEN t.reply_id END AS reply_id, t.model, t.status, t.failure,
                t.finish_reason, t.prompt_tokens, t.completion_tokens, t.usage_source, t.queued_ms, t.load_ms,
                t.first_token_ms, t.total_ms, t.created_at, t.ended_at
         FROM turns t
         LEFT JOIN conversations c ON c.id = t.conversation_id AND c.deleted_at IS NULL
         LEFT JOIN api_keys k ON k.id = t.api_key_id
         WHERE t.user_id = ",
    );
    sql.push_bind(owner);
    if let Some(before) = before.map(TurnId::as_uuid) {
        // A cursor that is no turn of the owner's has nothing before it.
        sql.push(" AND (t.created_at, t.id) < (SELECT created_at, id FROM turns WHERE id = ")
            .push_bind(before);
        sql.push(" AND user_id = ").push_bind(owner).push(")");
    }
    if let Some(model) = filter.model {
        sql.push(" AND t.model = ").push_bind(model);
    }
    if let Some(status) = filter.status.map(TurnStatus::as_str) {
        sql.push(" AND t.status = ").push_bind(status);
    }
    if let Some(conversation) = filter.conversation.map(ConversationId::as_uuid) {
        sql.push(" AND c.id = ").push_bind(conversation);
    }
    sql.push(" ORDER BY t.created_at DESC, t.id DESC LIMIT ").push_bind(limit);
    sql.build().fetch_all(db).await?.iter().map(|row| entry(row)?.try_into()).collect()
}

fn group(row: &SqliteRow) -> Result<GroupColumns, DbError> {
    Ok(GroupColumns {
        day: day(row.try_get("day")?)?,
        user_id: row.try_get("user_id")?,
        email: row.try_get("email")?,
        model: row.try_get("model")?,
        api_key_id: row.try_get("api_key_id")?,
        key_name: row.try_get("key_name")?,
        status: row.try_get("status")?,
        complete: row.try_get("complete")?,
        interrupted: row.try_get("interrupted")?,
        cancelled: row.try_get("cancelled")?,
        failed: row.try_get("failed")?,
        streaming: row.try_get("streaming")?,
        prompt_tokens: row.try_get("prompt_tokens")?,
        completion_tokens: row.try_get("completion_tokens")?,
        reported: row.try_get("reported")?,
        counted: row.try_get("counted")?,
        estimated: row.try_get("estimated")?,
        queued_ms: row.try_get("queued_ms")?,
        queued_count: row.try_get("queued_count")?,
        load_ms: row.try_get("load_ms")?,
        load_count: row.try_get("load_count")?,
        first_token_ms: row.try_get("first_token_ms")?,
        first_token_count: row.try_get("first_token_count")?,
        total_ms: row.try_get("total_ms")?,
        total_count: row.try_get("total_count")?,
    })
}

fn day(since_1970: Option<i64>) -> Result<Option<NaiveDate>, DbError> {
    let day = |days: i64| i32::try_from(days).ok().and_then(NaiveDate::from_epoch_days);
    since_1970.map(|days| day(days).ok_or_else(|| broken("turns.created_at"))).transpose()
}

fn entry(row: &SqliteRow) -> Result<LedgerColumns, DbError> {
    Ok(LedgerColumns {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        owner: row.try_get("owner")?,
        api_key_id: row.try_get("api_key_id")?,
        key_name: row.try_get("key_name")?,
        conversation_id: row.try_get("conversation_id")?,
        reply_id: row.try_get("reply_id")?,
        model: row.try_get("model")?,
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
        created_at: time(row, "created_at")?,
        ended_at: optional_time(row, "ended_at")?,
    })
}
