//! When sessions and keys were last used.

use sqlx::SqliteConnection;

use crate::db::{
    DbError, Touched,
    store::rows::{TouchRow, json},
};

macro_rules! forward {
    ($table:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " AS t SET used_at = max(coalesce(used_at, 0), r.at)
             FROM (SELECT unhex(value->>'id', '-') AS id, max(value->>'at') AS at FROM jsonb_each(?) GROUP BY 1) AS r
             WHERE t.id = r.id AND revoked_at IS NULL"
        )
    };
}

/// Moves instants forward.
pub(super) async fn touch(db: &mut SqliteConnection, touched: &Touched) -> Result<(), DbError> {
    if !touched.sessions.is_empty() {
        let uses = json(&TouchRow::of(&touched.sessions))?;
        sqlx::query(forward!("sessions")).bind(uses).execute(&mut *db).await?;
    }
    if !touched.keys.is_empty() {
        let uses = json(&TouchRow::of(&touched.keys))?;
        sqlx::query(forward!("api_keys")).bind(uses).execute(db).await?;
    }
    Ok(())
}
