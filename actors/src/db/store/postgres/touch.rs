//! When sessions and keys were last used.

use sqlx::PgConnection;

use crate::db::{
    DbError, Touched,
    store::rows::{TouchRow, json},
};

macro_rules! forward {
    ($db:expr, $table:literal, $uses:expr) => {
        sqlx::query!(
            "UPDATE " + $table + " AS t SET used_at = greatest(used_at, r.at)
             FROM (SELECT id, to_timestamp(max(at) / 1e6) AS at
                   FROM json_to_recordset($1::text::json) AS j (id uuid, at bigint) GROUP BY id) AS r
             WHERE t.id = r.id AND t.id IN
                 (SELECT id FROM " + $table + "
                  WHERE revoked_at IS NULL AND id IN (SELECT id FROM json_to_recordset($1::text::json) AS j (id uuid))
                  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)",
            json(&TouchRow::of($uses))?
        )
        .execute($db)
        .await?
    };
}

/// Moves instants forward; what another transaction holds right now is being used or ended, and is left alone.
pub(super) async fn touch(db: &mut PgConnection, touched: &Touched) -> Result<(), DbError> {
    if !touched.sessions.is_empty() {
        forward!(&mut *db, "sessions", &touched.sessions);
    }
    if !touched.keys.is_empty() {
        forward!(db, "api_keys", &touched.keys);
    }
    Ok(())
}
