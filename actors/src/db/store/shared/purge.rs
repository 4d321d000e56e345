//! What deleted accounts leave behind, and conversations that were thrown away.

use super::super::{Connection, purge};
use crate::db::DbError;

/// Conversations looked at in one transaction.
const CONVERSATIONS: u32 = 200;

/// Rows removed or changed in one transaction: other changes wait for it, and it must end long before its time is up.
const ROWS: u32 = 2_000;

/// Images may make a few messages as large as thousands of others.
const BYTES: u32 = 16 * 1024 * 1024;

/// Removes some of what deleted accounts said and of conversations thrown away; how many rows were touched, none when nothing is left.
///
/// A conversation goes last, empty: what would go with it all at once is without bound.
pub(super) async fn conversations(db: &mut Connection) -> Result<u64, DbError> {
    let mut left = purge::thrown_away(db, CONVERSATIONS).await?;
    if left.is_empty() {
        left = purge::left_behind(db, CONVERSATIONS).await?;
    }
    if left.is_empty() {
        return Ok(0);
    }
    let messages = purge::messages(db, &left, ROWS, BYTES).await?;
    if messages > 0 {
        return Ok(messages);
    }
    let turns = purge::turns(db, &left, ROWS).await?;
    if turns > 0 {
        return Ok(turns);
    }
    purge::conversations(db, &left).await
}
