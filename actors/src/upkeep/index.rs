//! Takes the words of what was said, so that it can be found.

use std::time::Duration;

use super::chore::Chore;
use crate::db::{DbError, DbHandle};

pub(super) struct Index {
    pub(super) db: DbHandle,
}

impl Chore for Index {
    const NAME: &'static str = "index";
    const EVERY: Duration = Duration::from_secs(2);

    async fn step(&mut self) -> Result<bool, DbError> {
        Ok(self.db.take_words().await? > 0)
    }
}
