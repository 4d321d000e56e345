//! `demo`: one command, and a service to play with.
//!
//! ```text
//! start (SQLite in data/demo, demo model beside any Ollama) ──▶ tour over HTTP against itself ──▶ serve until Ctrl-C
//! ```
//!
//! The tour does what any client would: sign up or log in, list models, stream one chat. Nothing of it takes a short
//! cut through the process, so what works here works from outside.

mod tour;
mod user;

use std::{net::TcpListener, process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;

use super::{serve, signals::Signals, terminal::Terminal};
use crate::{
    app::App,
    config::{Config, Environment, Origin, Settings, Sources, keys},
    telemetry,
};

/// What differs from the table's defaults. The demo has a model of its own, so a server that is away is nothing to warn of.
const DEFAULTS: [(&str, &str); 3] =
    [("DATA_DIR", "./data/demo"), ("DEMO_MODEL", "true"), ("RUST_LOG", "warn,actors::model::router=error")];

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The model of the first chat
    #[arg(long, default_value = "deepersensor-demo:latest")]
    model: String,
    /// What the first chat asks
    #[arg(long, default_value = "What are you, and what can I do here?")]
    prompt: String,
}

pub(crate) async fn run(
    args: DemoArgs,
    mut sources: Sources,
    terminal: Terminal,
) -> anyhow::Result<ExitCode> {
    sources.defaults = DEFAULTS.map(|(name, text)| (name, text.to_owned())).to_vec();
    let (settings, config) = Config::examine(&sources);
    let mut config = config?;
    if config.environment == Environment::Production {
        bail!("the demo does not run with APP_ENV=production; use `serve`");
    }
    // The demo's user and chats do not belong into anybody's database.
    config.system.db.database_url = None;
    give_way(&mut config, &settings);
    // No load balancer has to hear of its end first.
    config.http.drain_accept = Duration::ZERO;
    telemetry::log::init(&config.log)?;
    telemetry::trace::init(&config.trace)?;

    let mut signals = Signals::install()?;
    let data_dir = config.data_dir().clone();
    let app = tokio::select! {
        app = App::start(config) => app?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let toured = tokio::select! {
        toured = tour::run(&app, &args, &data_dir, terminal) => toured,
        _ = signals.next() => {
            app.stop().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Err(error) = toured {
        app.stop().await;
        return Err(error);
    }
    let status = serve::until_over(app, &mut signals).await;
    terminal.line("\nstopped")?;
    Ok(status)
}

/// Takes a free port if nobody asked for the default one and it is taken.
fn give_way(config: &mut Config, settings: &Settings) {
    let is_default = settings.get(&keys::APP_PORT).is_some_and(|raw| raw.origin == Origin::Default);
    if is_default && TcpListener::bind(config.http.bind).is_err() {
        config.http.bind.set_port(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(flags: Vec<(String, String)>) -> (Settings, Config) {
        let (settings, config) = Config::examine(&Sources { flags, ..Sources::default() });
        (settings, config.unwrap())
    }

    #[test]
    fn a_taken_default_port_gives_way_but_a_wanted_one_does_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _held = TcpListener::bind(taken).unwrap();
        let (settings, mut config) = examined(Vec::new());
        config.http.bind = taken;
        give_way(&mut config, &settings);
        assert_eq!(config.http.bind.port(), 0);

        let (settings, mut config) = examined(vec![("APP_PORT".into(), taken.port().to_string())]);
        give_way(&mut config, &settings);
        assert_eq!(config.http.bind, taken);
    }

    #[test]
    fn every_demo_default_is_a_key() {
        assert!(DEFAULTS.iter().all(|(name, _)| keys::find(name).is_some()));
    }
}
