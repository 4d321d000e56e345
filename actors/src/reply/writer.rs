//! The one who writes: a worker while the turn runs, then the settlement.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use domain::reply::{Answer, Delta, FailureCode, FinishReason, Timings, Usage};

use parking_lot::Mutex;

use super::{
    Ending, Notice, Outcome,
    log::{News, ReplyFull, Shared},
};

/// How the writing stopped, before it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Complete(FinishReason),
    /// The model server, or the request itself, failed it. `message` is safe to show.
    Failed {
        code: FailureCode,
        message: String,
    },
    /// There was no room for it any more, and it never had a slot. `message` is safe to show.
    Shed {
        message: String,
        retry_after: Duration,
    },
    /// Nobody wants it any more.
    Cancelled,
    /// The store did not say that it begins, so its caller was refused.
    NotBegun,
    /// We failed it: `ServerShuttingDown`, or `Internal` when its worker died.
    Interrupted(FailureCode),
    /// It lived as long as a turn may.
    Expired,
}

/// Takes over when the writing stops; must, sooner or later, close the reply.
pub type OnEnd = Box<dyn FnOnce(End, ReplyCloser) + Send>;

/// Appends to one turn's log. Dropping it without [`ReplyWriter::end`] ends the turn as interrupted.
pub struct ReplyWriter {
    shared: Option<Arc<Shared>>,
    /// In a mutex only to be `Sync`: a turn's futures share the writer by reference.
    on_end: Mutex<Option<OnEnd>>,
    /// Whoever drops it is a caller who left.
    is_beginning: bool,
}

impl ReplyWriter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared: Some(shared), on_end: Mutex::new(None), is_beginning: false }
    }

    /// Says who settles the turn. Without one, the end is told to the readers as it is, with nothing stored.
    pub fn settle_with(&mut self, on_end: OnEnd) {
        *self.on_end.get_mut() = Some(on_end);
    }

    /// From here until [`ReplyWriter::has_begun`] whoever drops it is a caller who left before the turn was lined up, and it
    /// ends as cancelled, even if it was to continue.
    pub const fn begins(&mut self) {
        self.is_beginning = true;
    }

    pub const fn has_begun(&mut self) {
        self.is_beginning = false;
    }

    /// Runs `abandon`, once, when the turn is cancelled before a worker took it.
    pub fn on_abandon(&self, abandon: impl FnOnce() + Send + 'static) {
        self.shared().log.lock().abandon = Some(Box::new(abandon));
    }

    /// From here on cancelling is noticed by whoever polls [`ReplyWriter::poll_cancelled`].
    pub fn taken_by_worker(&self) {
        self.shared().log.lock().abandon = None;
    }

    pub fn notice(&self, notice: Notice) {
        self.shared().notice(notice);
    }

    pub fn started(&self) {
        self.shared().update(News::State, |log| log.started = true);
    }

    /// Appends all that one read brought, with one lock and at most one wake.
    ///
    /// # Errors
    ///
    /// [`ReplyFull`]: end the turn as `reply_too_large`; what fitted is kept.
    pub fn push(&self, deltas: impl IntoIterator<Item = Delta>) -> Result<(), ReplyFull> {
        self.shared().update(News::Delta, |log| deltas.into_iter().try_for_each(|delta| log.push(delta)))
    }

    /// Has the budget of all answers hold `bytes` in all for what the turn answers beside its log.
    ///
    /// # Errors
    ///
    /// [`ReplyFull`]: end the turn as `reply_too_large`.
    pub fn hold(&self, bytes: usize) -> Result<(), ReplyFull> {
        self.shared().log.lock().hold(bytes)
    }

    /// A copy of the answer so far, for a checkpoint.
    pub fn answer(&self) -> Answer {
        self.shared().log.lock().answer()
    }

    /// Bytes and calls written so far; only its growth means something.
    pub fn written(&self) -> usize {
        let end = self.shared().log.lock().end();
        end.content as usize + end.thinking as usize + end.tool_calls as usize
    }

    /// Whether every reader waits for the end only, so that reads may be slow and large.
    pub fn only_end_wanted(&self) -> bool {
        self.shared().log.lock().only_end_wanted()
    }

    pub fn is_cancelled(&self) -> bool {
        self.shared().is_stopped()
    }

    pub fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        let shared = self.shared();
        if shared.is_stopped() {
            return Poll::Ready(());
        }
        shared.register_writer(cx.waker());
        if shared.is_stopped() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Resolves when the turn is cancelled; the writer should then end it at once.
    pub async fn cancelled(&self) {
        poll_fn(|cx| self.poll_cancelled(cx)).await;
    }

    /// Stops writing and hands the turn to its settlement.
    pub fn end(mut self, end: End) {
        self.hand_over(end);
    }

    /// Forgets a turn that was never stored: nobody settles it and no reader is told.
    pub fn discard(mut self) {
        *self.on_end.get_mut() = None;
        self.shared = None;
    }

    fn hand_over(&mut self, end: End) {
        let Some(shared) = self.shared.take() else { return };
        let end = if end == End::Cancelled && shared.has_expired() { End::Expired } else { end };
        let closer = ReplyCloser { shared: Some(shared) };
        match self.on_end.get_mut().take() {
            Some(on_end) => on_end(end, closer),
            None => closer.close(Ending {
                outcome: end.into_outcome(),
                usage: Usage::default(),
                timings: Timings::default(),
                stored: None,
            }),
        }
    }

    #[expect(clippy::expect_used, reason = "only `hand_over` takes it, and it consumes or drops the writer")]
    fn shared(&self) -> &Arc<Shared> {
        self.shared.as_ref().expect("a live writer has its log")
    }
}

impl Drop for ReplyWriter {
    fn drop(&mut self) {
        let wanted = !self.is_beginning && self.shared.as_ref().is_some_and(|shared| !shared.is_stopped());
        self.hand_over(if wanted { End::Interrupted(FailureCode::Internal) } else { End::Cancelled });
    }
}

impl End {
    /// What the readers are told; the texts here are all safe to show.
    pub fn into_outcome(self) -> Outcome {
        let failed =
            |code, message: &str| Outcome::Failed { code, message: message.to_owned(), retry_after: None };
        match self {
            Self::Complete(reason) => Outcome::Complete(reason),
            Self::Failed { code, message } => Outcome::Failed { code, message, retry_after: None },
            Self::Shed { message, retry_after } => {
                Outcome::Failed { code: FailureCode::Overloaded, message, retry_after: Some(retry_after) }
            }
            Self::Cancelled | Self::NotBegun => failed(FailureCode::Cancelled, "the turn was cancelled"),
            Self::Expired => failed(FailureCode::DeadlineExceeded, "the turn took longer than a turn may"),
            Self::Interrupted(FailureCode::ServerShuttingDown) => {
                failed(FailureCode::ServerShuttingDown, "the service is shutting down")
            }
            Self::Interrupted(code) => failed(code, "the worker of this turn failed"),
        }
    }
}

/// Writes the terminal event, once the turn is settled. Dropping it unused tells the readers that nothing was stored.
pub struct ReplyCloser {
    shared: Option<Arc<Shared>>,
}

impl ReplyCloser {
    pub fn answer(&self) -> Answer {
        self.shared.as_ref().map(|shared| shared.log.lock().answer()).unwrap_or_default()
    }

    /// Tells every reader how the turn ended.
    pub fn close(mut self, ending: Ending) {
        self.write(ending);
    }

    fn write(&mut self, ending: Ending) {
        if let Some(shared) = self.shared.take() {
            shared.update(News::End, |log| log.ending = Some(ending));
        }
    }
}

impl Drop for ReplyCloser {
    fn drop(&mut self) {
        self.write(Ending {
            outcome: End::Interrupted(FailureCode::Internal).into_outcome(),
            usage: Usage::default(),
            timings: Timings::default(),
            stored: Some(false),
        });
    }
}
