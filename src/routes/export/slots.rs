//! How many exports run at once: each holds a page of somebody's data, and reads as much as its reader takes.

use std::{collections::HashSet, sync::Arc};

use domain::id::UserId;
use parking_lot::Mutex;

use crate::http::ApiError;

/// Exports under way in this process.
const EXPORTS_AT_ONCE: usize = 16;

/// Who is exporting right now, one export each; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Exports(Arc<Mutex<HashSet<UserId>>>);

/// One export; dropping it makes room for another.
pub(super) struct Slot {
    user: UserId,
    exports: Exports,
}

impl Exports {
    /// # Errors
    ///
    /// 429 while the caller has one under way; 503 when there are [`EXPORTS_AT_ONCE`].
    pub(super) fn begin(&self, user: UserId) -> Result<Slot, ApiError> {
        let mut exporting = self.0.lock();
        if exporting.contains(&user) {
            return Err(ApiError::export_under_way());
        }
        if exporting.len() >= EXPORTS_AT_ONCE {
            return Err(ApiError::too_many_exports());
        }
        exporting.insert(user);
        Ok(Slot { user, exports: self.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.exports.0.lock().remove(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn d02_a_caller_has_one_export_and_all_together_a_bounded_number() {
        let exports = Exports::default();
        let user = |n: usize| UserId::from(Uuid::from_u128(n as u128));
        let refused = |n| exports.begin(user(n)).err().map(|error| error.status());
        let mut slots: Vec<_> = (0..EXPORTS_AT_ONCE - 1).map(|n| exports.begin(user(n)).unwrap()).collect();
        assert_eq!(refused(0), Some(StatusCode::TOO_MANY_REQUESTS));
        slots.push(exports.begin(user(100)).unwrap());
        assert_eq!(refused(101), Some(StatusCode::SERVICE_UNAVAILABLE));
        slots.pop();
        assert_eq!(refused(101), None);
        drop(slots);
        assert!(exports.0.lock().is_empty());
    }
}
