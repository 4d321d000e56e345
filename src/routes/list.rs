//! Lists as they are written, and the parameters that page through them.

use domain::conversation::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, Page};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::{ApiError, Call};

#[derive(Serialize, ToSchema)]
pub(crate) struct List<T> {
    object: &'static str,
    data: Vec<T>,
    /// Pass it as `cursor` to read on; `null` at the end.
    next_cursor: Option<Uuid>,
}

impl<T> List<T> {
    /// A page of what the rooms found, as it is shown.
    pub(crate) fn of<F: Into<T>>(page: Page<F>) -> Self {
        Self::new(page.items.into_iter().map(F::into).collect(), page.next)
    }

    pub(crate) fn new(data: Vec<T>, next_cursor: Option<Uuid>) -> Self {
        Self { object: "list", data, next_cursor }
    }
}

/// Which page a request asks for.
pub(crate) struct PageRequest {
    pub(crate) cursor: Option<Uuid>,
    pub(crate) limit: u32,
}

impl PageRequest {
    /// The id after which the page begins.
    pub(crate) fn before<Id: From<Uuid>>(&self) -> Option<Id> {
        self.cursor.map(Id::from)
    }

    /// Reads `?limit=` (1 to 100, more counts as 100) and `?cursor=`.
    ///
    /// # Errors
    ///
    /// 400 when either is something else.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let limit = call.query("limit", "`limit` is a number from 1 to 100", |text| {
            text.parse::<u32>().ok().filter(|limit| *limit > 0)
        })?;
        let limit = limit.unwrap_or(PAGE_LIMIT_DEFAULT).min(PAGE_LIMIT_MAX);
        let cursor =
            call.query("cursor", "this is not a cursor of ours", |text| Uuid::try_parse(text).ok())?;
        Ok(Self { cursor, limit })
    }
}
