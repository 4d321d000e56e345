//! How a log line is written. One that is about a request names it, whoever wrote it: `ip`, `request_id`, `user_id` once that
//! is known, and `trace_id` if there is a trace. What a line says of these itself stays as it is.

use std::fmt;

use actors::trace::{self, Errand};
use opentelemetry::TraceId;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// `2026-01-31T12:00:00.000000Z  INFO target: message field=value request_id=…`
pub(super) struct TextLine;

/// One object: `timestamp`, `level`, `target`, `message`, the line's own fields, and whom it is about.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        let level = *event.metadata().level();
        match colour(level).filter(|_| writer.has_ansi_escapes()) {
            Some(colour) => write!(writer, " \x1b[{colour}m{level:>5}\x1b[0m ")?,
            None => write!(writer, " {level:>5} ")?,
        }
        write!(writer, "{}: ", event.metadata().target())?;
        context.format_fields(writer.by_ref(), event)?;
        let own = event.metadata().fields();
        let tell = |errand: &Errand, trace: Option<TraceId>| {
            about(errand, trace, |name, value| {
                if own.field(name).is_some() { Ok(()) } else { write!(writer, " {name}={value}") }
            })
        };
        trace::with_current(tell).unwrap_or(Ok(()))?;
        writeln!(writer)
    }
}

const fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        Level::DEBUG => Some(34),
        Level::TRACE => Some(35),
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Fields(Map::new());
        line.add("timestamp", timestamp);
        line.add("level", event.metadata().level().as_str());
        line.add("target", event.metadata().target());
        // Whatever else it says stands behind it.
        line.add("message", "");
        event.record(&mut line);
        let tell = |errand: &Errand, trace: Option<TraceId>| {
            about(errand, trace, |name, value| {
                line.0.entry(name).or_insert_with(|| value.to_string().into());
                Ok(())
            })
        };
        trace::with_current(tell).unwrap_or(Ok(()))?;
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// Tells whom a line is about.
fn about(
    errand: &Errand,
    trace: Option<TraceId>,
    mut tell: impl FnMut(&'static str, &dyn fmt::Display) -> fmt::Result,
) -> fmt::Result {
    tell("ip", &errand.client())?;
    tell("request_id", &errand.request_id())?;
    if let Some(user) = errand.user() {
        tell("user_id", &user)?;
    }
    trace.map_or(Ok(()), |trace| tell("trace_id", &trace))
}

/// A line's own words.
struct Fields(Map<String, Value>);

impl Fields {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actors::trace::{Carrier, Span};
    use parking_lot::Mutex;
    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Paper {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What is written while `speak` speaks for a request.
    fn written<F>(format: F, speak: impl FnOnce()) -> String
    where
        F: Send
            + Sync
            + 'static
            + FormatEvent<tracing_subscriber::Registry, tracing_subscriber::fmt::format::DefaultFields>,
    {
        let paper = Paper::default();
        let lines =
            tracing_subscriber::fmt::layer().with_writer(paper.clone()).with_ansi(false).event_format(format);
        let subscriber = tracing_subscriber::registry().with(lines);
        let errand = Errand::new("r-1", "192.0.2.7".parse().unwrap());
        let carrier = Carrier::new(errand, &Span::default());
        tracing::subscriber::with_default(subscriber, || {
            let _entered = carrier.enter();
            speak();
        });
        let text = String::from_utf8(paper.0.lock().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        text
    }

    fn json(speak: impl FnOnce()) -> Value {
        serde_json::from_str(&written(JsonLine, speak)).unwrap()
    }

    #[test]
    fn b13_a_line_about_a_request_names_it() {
        let line = json(|| tracing::warn!(target: "x", event = "e", outcome = "failure", n = 3, "hm"));
        let names: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        let wanted = ["timestamp", "level", "target", "message", "event", "outcome", "n", "ip", "request_id"];
        assert_eq!(names, wanted);
        assert_eq!((&line["level"], &line["n"]), (&"WARN".into(), &3.into()));
        assert_eq!((&line["ip"], &line["request_id"]), (&"192.0.2.7".into(), &"r-1".into()));

        let text = written(TextLine, || tracing::warn!(target: "x", event = "e", "hm"));
        assert!(text.ends_with("  WARN x: hm event=\"e\" ip=192.0.2.7 request_id=r-1\n"), "{text:?}");
    }

    #[test]
    fn what_a_line_says_of_its_request_itself_is_said_once() {
        let line = json(|| tracing::info!(request_id = "another", ip = ?Some(1), "hm"));
        assert_eq!((&line["request_id"], &line["ip"]), (&"another".into(), &"Some(1)".into()));
        let text = written(TextLine, || tracing::info!(request_id = "another", "hm"));
        assert_eq!(text.matches("request_id").count(), 1, "{text}");
    }

    #[test]
    fn b13_no_value_makes_a_line_of_its_own() {
        let forged = "x\r\n{\"level\":\"INFO\"}";
        assert_eq!(json(|| tracing::info!(forged, "{forged}"))["forged"], forged);
        assert_eq!(json(|| tracing::info!("{forged}"))["message"], forged);
    }
}
