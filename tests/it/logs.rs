//! What one test's service logged, and nothing of its neighbours.
//!
//! A test runs on one thread with a runtime of its own, so the thread's subscriber hears all of its service.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use crate::harness::canaries;

/// One line: its level, its message and its fields.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) level: Level,
    fields: Vec<(String, String)>,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Listens to this thread while it lives.
pub(crate) struct Logs {
    lines: Arc<Mutex<Vec<Line>>>,
    _guard: DefaultGuard,
}

impl Logs {
    pub(crate) fn listen() -> Self {
        let lines = Arc::default();
        let subscriber =
            tracing_subscriber::registry().with(Keep(Arc::clone(&lines))).with(canaries::everywhere());
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().clone()
    }

    /// The lines about exits of the actor at `path` in the tree.
    pub(crate) fn exits_of(&self, path: &str) -> Vec<Line> {
        let is_exit = |line: &Line| line.field("event") == "actor_exited" && line.field("actor") == path;
        self.lines().into_iter().filter(is_exit).collect()
    }
}

struct Keep(Arc<Mutex<Vec<Line>>>);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        // As the service's own log: `info`, without ractor's second word on every exit.
        if level > Level::INFO || target.starts_with("ractor") {
            return;
        }
        let mut line = Line { level, fields: Vec::new() };
        event.record(&mut line);
        self.0.lock().push(line);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name().to_owned(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.push((field.name().to_owned(), format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_thread_nobody_listens_to_wrote_first_is_heard_when_this_one_writes_it() {
        fn write() {
            tracing::warn!("the same line");
        }
        let logs = Logs::listen();
        std::thread::spawn(write).join().unwrap();
        write();
        assert_eq!(logs.lines().len(), 1);
    }
}
