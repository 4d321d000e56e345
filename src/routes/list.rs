//! Lists as they are written, and the parameters that page through them.

use domain::conversation::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};
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
    /// Reads `?limit=` (1 to 100, more counts as 100) and `?cursor=`.
    ///
    /// # Errors
    ///
    /// 400 when either is something else.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let limit = match call.query("limit").map(|text| text.parse::<u32>()) {
            None => PAGE_LIMIT_DEFAULT,
            Some(Ok(limit @ 1..)) => limit.min(PAGE_LIMIT_MAX),
            Some(_) => return Err(ApiError::invalid("`limit` is a number from 1 to 100").at("limit")),
        };
        let cursor = call.query("cursor").map(|text| Uuid::try_parse(&text)).transpose();
        let cursor = cursor.map_err(|_| ApiError::invalid("this is not a cursor of ours").at("cursor"))?;
        Ok(Self { cursor, limit })
    }
}
