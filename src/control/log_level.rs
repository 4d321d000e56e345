//! The filter of the log: the usual one, and another one for a while.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::sleep};
use tokio_util::task::TaskTracker;

use crate::telemetry::log::LogFilter;

/// What a filter for a while cannot hide: what administrators do. Whoever has the machine can, by `RUST_LOG`.
const KEPT: &str = "actors::auth::audit=info,deepersensor::control=info";

pub(super) struct LogLevel {
    filter: Option<LogFilter>,
    state: Mutex<State>,
    tasks: TaskTracker,
}

struct State {
    usual: String,
    /// Goes back to the usual filter; there is one at most.
    fall_back: Option<AbortHandle>,
}

impl LogLevel {
    pub(super) fn new(filter: Option<LogFilter>, usual: String, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { filter, state: Mutex::new(State { usual, fall_back: None }), tasks })
    }

    pub(super) fn usual(&self) -> String {
        self.state.lock().usual.clone()
    }

    /// Changes the usual filter; one that holds for a while stays until its time is over.
    pub(super) fn set_usual(&self, filter: String) -> anyhow::Result<()> {
        let mut state = self.state.lock();
        if state.fall_back.is_none() {
            self.set(&filter)?;
        }
        state.usual = filter;
        Ok(())
    }

    /// Filters by `filter` for `span`, then as usual.
    pub(super) fn filter_for(self: &Arc<Self>, filter: &str, span: Duration) -> anyhow::Result<()> {
        let mut state = self.state.lock();
        self.set(&format!("{filter},{KEPT}"))?;
        if let Some(earlier) = state.fall_back.take() {
            earlier.abort();
        }
        let level = Arc::downgrade(self);
        let fall_back = self.tasks.spawn(async move {
            sleep(span).await;
            if let Some(level) = level.upgrade() {
                level.fall_back();
            }
        });
        state.fall_back = Some(fall_back.abort_handle());
        Ok(())
    }

    fn fall_back(&self) {
        let mut state = self.state.lock();
        // One that was replaced while it waited for the lock has nothing to say.
        if state.fall_back.as_ref().is_none_or(|fall_back| tokio::task::try_id() != Some(fall_back.id())) {
            return;
        }
        state.fall_back = None;
        // The settings were judged before one of them got here, so it parses; it may never have been in force.
        let _ = self.set(&state.usual);
        drop(state);
        tracing::info!(event = "log_filter_fell_back", "the log is filtered as usual again");
    }

    pub(super) fn close(&self) {
        if let Some(fall_back) = self.state.lock().fall_back.take() {
            fall_back.abort();
        }
    }

    fn set(&self, filter: &str) -> anyhow::Result<()> {
        self.filter.as_ref().map_or(Ok(()), |own| own.set(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_usual(level: &LogLevel) -> bool {
        level.state.lock().fall_back.is_none()
    }

    async fn pass(span: Duration) {
        sleep(span).await;
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_for_a_while_falls_back_by_itself_and_only_the_last_one_does() {
        let level = LogLevel::new(None, "info".to_owned(), TaskTracker::new());
        level.filter_for("debug", Duration::from_secs(10)).unwrap();
        pass(Duration::from_secs(5)).await;
        level.filter_for("trace", Duration::from_secs(10)).unwrap();
        pass(Duration::from_secs(6)).await;
        assert!(!is_usual(&level), "the first one's time is none of the second one's business");
        level.set_usual("warn".to_owned()).unwrap();
        assert!(!is_usual(&level));
        pass(Duration::from_secs(5)).await;
        assert!(is_usual(&level));
        assert_eq!(level.usual(), "warn");
    }
}
