//! Lists as they are written, and the parameters that page through them.

use std::str::FromStr;

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
    next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A page of what the rooms found, as it is shown.
    pub(crate) fn of<F: Into<T>, C: ToString>(page: Page<F, C>) -> Self {
        let next_cursor = page.next.map(|cursor| cursor.to_string());
        Self { object: "list", data: page.items.into_iter().map(F::into).collect(), next_cursor }
    }

    pub(crate) fn new(data: Vec<T>, next_cursor: Option<Uuid>) -> Self {
        Self { object: "list", data, next_cursor: next_cursor.map(|cursor| cursor.to_string()) }
    }
}

/// Which page a request asks for. Most lists are in the order of their ids.
pub(crate) struct PageRequest<Cursor = Uuid> {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) limit: u32,
}

impl PageRequest {
    /// The id after which the page begins.
    pub(crate) fn before<Id: From<Uuid>>(&self) -> Option<Id> {
        self.cursor.map(Id::from)
    }

    /// Reads the page of a list in the order of its ids; see [`PageRequest::by`].
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        Self::by(call)
    }

    /// Reads `?limit=` alone, of a list that begins at its start; see [`PageRequest::by`].
    pub(crate) fn limit_of(call: &Call) -> Result<u32, ApiError> {
        let limit = call.query("limit", "`limit` is a number from 1 to 100", |text| {
            text.parse::<u32>().ok().filter(|limit| *limit > 0)
        })?;
        Ok(limit.unwrap_or(PAGE_LIMIT_DEFAULT).min(PAGE_LIMIT_MAX))
    }
}

impl<Cursor: FromStr> PageRequest<Cursor> {
    /// Reads `?limit=` (1 to 100, more counts as 100) and `?cursor=`.
    ///
    /// # Errors
    ///
    /// 400 when either is something else.
    pub(crate) fn by(call: &Call) -> Result<Self, ApiError> {
        let limit = PageRequest::limit_of(call)?;
        let cursor = call.query("cursor", "this is not a cursor of ours", |text| text.parse().ok())?;
        Ok(Self { cursor, limit })
    }
}
