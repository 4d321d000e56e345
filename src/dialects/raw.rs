//! Parts of a request that may be any JSON: measured as text before they are parsed.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::{ApiError, json_from_slice};

/// What several parts may have together.
pub(crate) struct Allowance {
    param: &'static str,
    most_bytes: usize,
    left_bytes: usize,
}

impl Allowance {
    pub(crate) const fn new(param: &'static str, most_bytes: usize) -> Self {
        Self { param, most_bytes, left_bytes: most_bytes }
    }

    /// # Errors
    ///
    /// 400 naming the allowance's `param` when `given` and those before it are too much together.
    pub(crate) fn take(&mut self, given: &RawValue) -> Result<(), ApiError> {
        self.take_bytes(given.get().len())
    }

    /// The same of text that is not JSON yet, or is so in a string.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> Result<(), ApiError> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or_else(|| too_large(self.most_bytes).at(self.param))?;
        Ok(())
    }
}

/// Parses `given` if its text has at most `most_bytes`.
///
/// # Errors
///
/// 400 naming the `param` when it is larger, or not of this shape.
pub(crate) fn parsed<'a, T: Deserialize<'a>>(
    given: &'a RawValue,
    most_bytes: usize,
    param: impl Fn() -> String,
) -> Result<T, ApiError> {
    if given.get().len() > most_bytes {
        return Err(too_large(most_bytes).at(param()));
    }
    // serde's own text quotes values; the field's name has to do.
    json_from_slice(given.get().as_bytes())
        .map_err(|_| ApiError::invalid("a field has the wrong type or value").at(param()))
}

fn too_large(most_bytes: usize) -> ApiError {
    ApiError::invalid(format!("this is larger than {most_bytes} bytes of JSON"))
}
