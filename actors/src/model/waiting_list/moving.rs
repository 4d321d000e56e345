//! Turns that one server failed before they said anything, and that another may answer.

use super::{Running, backlog::Dispatch};
use crate::model::turn::Job;

impl Running {
    /// Puts the turn back to the head of its user's backlog, charged nothing, for a slot of a server that has not failed it.
    /// The place that it takes there was its own, also when others have filled the list since: at most one per slot comes back
    /// so. A list that closed meanwhile, or lets nobody wait, ends the turn as its server did.
    pub fn move_on(self, job: Job) {
        let (list, user) = (self.list.clone(), self.user);
        if let Some(failed) = &job.failed_at {
            failed.server.moved_on();
        }
        list.arm(&job);
        {
            let mut inner = list.inner.lock();
            if inner.closed.is_some() || inner.waits_no_more {
                drop(inner);
                return job.end_as_failed();
            }
            inner.backlogs.put_back(Dispatch { job, charged: self.charged });
        }
        // The reader may have left while nobody listened.
        list.sweep_cancelled(user);
        // Dropping `self` frees the slot and wakes whoever takes the turn.
    }
}
