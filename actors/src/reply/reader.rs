//! One who reads: a response body, or a caller that waits for the whole answer.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use domain::reply::Answer;

use super::{
    Ending, Event,
    kept::ReplyLog,
    log::{Cursor, Interest, Shared, Stop},
};

/// Reads one turn's answer; dropping the last reader cancels the turn unless it was told to continue.
pub struct ReplyReader {
    shared: Arc<Shared>,
    slot: usize,
    cursor: Cursor,
    notices_told: u32,
    start_told: bool,
    end_told: bool,
}

impl ReplyReader {
    /// The reader that exists from the turn's birth; its slot is made with the log.
    pub(super) fn first(shared: Arc<Shared>) -> Self {
        Self::at(shared, 0, Cursor::default())
    }

    /// One that came later, and took this slot.
    pub(super) fn at(shared: Arc<Shared>, slot: usize, cursor: Cursor) -> Self {
        Self { shared, slot, cursor, notices_told: 0, start_told: false, end_told: false }
    }

    /// The log itself, for others to read.
    pub fn log(&self) -> ReplyLog {
        ReplyLog(self.shared.clone())
    }

    /// Gives every event between the cursor and the end of the log to `take`, in order, and moves the cursor past them.
    ///
    /// Adjacent deltas of one kind are merged. `Ready(true)` after the terminal event, `Ready(false)` when something was
    /// given and more may come, `Pending` (woken later) when there was nothing new. `take` runs under the log's lock: encode
    /// into memory, nothing else.
    pub fn poll_events(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(Event<'_>)) -> Poll<bool> {
        if self.end_told {
            return Poll::Ready(true);
        }
        let mut log = self.shared.log.lock();
        let mut given = false;
        if !log.started
            && self.notices_told != log.notices
            && let Some(notice) = log.notice
        {
            take(Event::Queued(notice));
            given = true;
        }
        self.notices_told = log.notices;
        if log.started && !self.start_told {
            self.start_told = true;
            take(Event::Started);
            given = true;
        }
        given |= log.read(&mut self.cursor, take);
        if let Some(ending) = &log.ending {
            take(Event::Ended { ending, end: log.end() });
            self.end_told = true;
            return Poll::Ready(true);
        }
        if given {
            return Poll::Ready(false);
        }
        log.sleep(self.slot, Interest::Everything, cx.waker());
        Poll::Pending
    }

    /// Waits for the end without being woken for every delta; returns the whole answer.
    pub async fn finished(&mut self) -> (Answer, Ending) {
        poll_fn(|cx| {
            let mut log = self.shared.log.lock();
            if let Some(ending) = &log.ending {
                return Poll::Ready((log.answer(), ending.clone()));
            }
            log.sleep(self.slot, Interest::End, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits until the answer has begun, which stays to be read (`None`), or is over without a word.
    pub async fn first_word(&mut self) -> Option<Ending> {
        poll_fn(|cx| {
            let mut log = self.shared.log.lock();
            if !log.is_empty() {
                return Poll::Ready(None);
            }
            if let Some(ending) = &log.ending {
                return Poll::Ready(Some(ending.clone()));
            }
            log.sleep(self.slot, Interest::Everything, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits until a slot took the turn (`true`), or it ended before one did (`false`).
    pub async fn started(&mut self) -> bool {
        poll_fn(|cx| {
            let mut log = self.shared.log.lock();
            if log.started || log.ending.is_some() {
                return Poll::Ready(log.started);
            }
            log.sleep(self.slot, Interest::State, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Ends the turn as cancelled, wherever it is; the terminal event still comes.
    pub fn cancel(&self) {
        self.shared.stop(Stop::Cancelled);
    }
}

impl Drop for ReplyReader {
    fn drop(&mut self) {
        self.shared.leave(self.slot);
    }
}
