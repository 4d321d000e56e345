//! Lists as they are written, and the parameters that page through them.

use std::str::FromStr;

use domain::conversation::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, Page};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::shapes;
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

/// What [`PageRequest::limit_of`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what is read")]
pub(crate) struct LimitParam {
    /// Entries of a page; more than 100 count as 100.
    #[param(schema_with = shapes::from_one_on)]
    limit: Option<u32>,
}

/// What [`PageRequest::of`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what is read")]
pub(crate) struct PageParams {
    /// Entries of a page; more than 100 count as 100.
    #[param(schema_with = shapes::from_one_on)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
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
        let limit = call.query("limit", "`limit` is a number from 1 to 100", at_least_one)?;
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

/// A number from 1 on, of which only the low ones matter: what is too large to be held counts as the largest that is not.
pub(super) fn at_least_one(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok().or(is_number.then_some(u32::MAX));
    number.filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_from_one_on_however_large() {
        for (text, limit) in [("1", 1), ("0100", 100), ("4294967296", u32::MAX), (&"9".repeat(40), u32::MAX)]
        {
            assert_eq!(at_least_one(text), Some(limit), "{text}");
        }
        for text in ["", "0", "-1", "1.0", "1e3", " 1", "x"] {
            assert_eq!(at_least_one(text), None, "{text:?}");
        }
    }
}
