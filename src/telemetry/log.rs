//! Where log lines go: standard error, as text for people or JSON for collectors.

use std::io::IsTerminal;

use tracing_subscriber::{
    EnvFilter, Registry, filter::ParseError, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use super::line::{JsonLine, TextLine};
use crate::config::{LogConfig, LogFormat};

/// What dependencies say that is said better elsewhere: exits of actors, by their supervisor in one line each; outages of the
/// database, by the db and ops rooms in one; and the exporter's connection, by whoever exports.
const SILENCED: [&str; 4] = ["ractor=off", "sqlx_core::pool=off", "sqlx::postgres::notice=off", "tonic=off"];

/// Changes what is logged while the process runs; clones change the same.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// From now on `directives` decide what is logged.
    ///
    /// # Errors
    ///
    /// They cannot be parsed, and nothing is changed.
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        self.0.reload(filter(directives)?)?;
        Ok(())
    }
}

/// Understands directives. A value of a field is compared as it stands: as a pattern, a few dozen characters would take minutes
/// and gigabytes to compile.
pub(crate) fn parse(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().with_regex(false).parse(directives)
}

fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    SILENCED
        .iter()
        .try_fold(parse(directives)?, |filter, silenced| Ok(filter.add_directive(silenced.parse()?)))
}

/// Installs the process's log and panic hook, and returns what changes its filter. The first call in a process counts; what a
/// later one returns changes nothing.
///
/// # Errors
///
/// The filter cannot be parsed; [`crate::config`] has refused such a one before.
pub fn init(config: &LogConfig) -> anyhow::Result<LogFilter> {
    let (filter, handle) = reload::Layer::new(filter(&config.filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let installed = match config.format {
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            registry.with(lines.with_ansi(is_terminal).event_format(TextLine)).try_init()
        }
        LogFormat::Json => registry.with(lines.event_format(JsonLine)).try_init(),
    };
    if installed.is_ok() {
        actors::supervisor::silence_panic_hook();
    }
    Ok(LogFilter(handle))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_filter_is_understood_at_once_however_it_is_meant() {
        let began = Instant::now();
        let dots = ".".repeat(900);
        assert!(filter(&format!("[x{{a=.*a{dots}}}]=debug")).is_ok());
        assert!(filter("info,actors=debug,access=off").is_ok());
        assert!(filter("info,=").is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
