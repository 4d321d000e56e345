//! How a body's length is told.
//!
//! hyper refuses what it cannot frame; what it can, but others in the chain may read differently, is refused here (B6).

use http::{HeaderMap, header::TRANSFER_ENCODING};

use super::error::ApiError;

/// # Errors
///
/// 400 when there is a `Transfer-Encoding` that is not exactly one `chunked`.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(ApiError::transfer_encoding()),
    }
}
