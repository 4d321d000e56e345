//! Where log lines go: standard error, as text for people or JSON for collectors.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};

/// Targets whose lines say again, in a dependency's words, what a supervisor says in its one line per exit.
const SILENCED: &str = "ractor=off";

/// Installs the process's log and panic hook; a second call has no effect.
///
/// # Errors
///
/// The filter cannot be parsed; [`crate::config`] has refused such a one before.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter)?.add_directive(SILENCED.parse()?);
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match config.format {
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal)).try_init()
        }
        LogFormat::Json => registry
            .with(
                fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(std::io::stderr),
            )
            .try_init(),
    };
    if installed.is_ok() {
        actors::supervisor::silence_panic_hook();
    }
    Ok(())
}
