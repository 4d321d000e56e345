//! `serve`: the real thing, until a signal or until the tree gives itself up.
//!
//! SIGHUP has the settings read again. The first other signal stops gracefully, at most 5 s longer than `SHUTDOWN_GRACE_SECS`; a second one leaves at once.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use actors::model::{UpstreamConfig, UpstreamKind};
use http::Uri;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{
    STATUS_FAILED, local,
    signals::{Asked, Signals},
};
use crate::{
    app::App,
    config::{Config, Sources},
    control::Setup,
    telemetry,
};

/// What is left for the process itself to end, after everything in it has stopped or was left behind.
const LEAVE: Duration = Duration::from_millis(500);

/// How long the last traces have to be sent when the stop has left nothing of its own time, and when it has.
const FLUSH_LEAST: Duration = Duration::from_millis(150);
const FLUSH_MOST: Duration = Duration::from_secs(2);

/// File descriptors beside those of clients: store, model servers, listeners, logs.
const FILES_RESERVED: u64 = 512;

pub(crate) async fn run(sources: Sources) -> anyhow::Result<ExitCode> {
    let (settings, config) = Config::examine(&sources);
    let config = config?;
    let log = telemetry::log::init(&config.log)?;
    telemetry::trace::init(&config.trace)?;
    let mut signals = Signals::install()?.with_reload()?;
    announce(&config);
    raise_open_files(config.http.max_connections as u64);
    let app = tokio::select! {
        app = App::start_from(config, Some(Setup { sources, settings, log: Some(log) })) => app?,
        name = signals.next() => {
            info!(signal = name, "stopped before the start was over");
            return Ok(ExitCode::SUCCESS);
        }
    };
    info!(address = %app.addr(), ops = %app.ops_addr(), "serving");
    invite_first_administrator(&app).await;
    Ok(until_over(app, &mut signals).await)
}

/// Says how to become the first administrator, as long as there is none. The code is shown to a person only: where standard
/// error is no terminal it is stored, beside the log, for more people to read.
async fn invite_first_administrator(app: &App) {
    let code = match app.first_admin_code().await {
        Ok(Some(code)) => code,
        Ok(None) => return,
        Err(error) => {
            return warn!(%error, "cannot tell whether there is an administrator; the next start asks again");
        }
    };
    if !io::stderr().is_terminal() {
        return warn!(
            "there is no administrator yet: make one with `deepersensor admin create --email …`, or get a code to \
             sign up with by `deepersensor admin first-code`"
        );
    }
    // With standard error gone, `admin create` still works.
    let _ = io::stderr().lock().write_all(first_steps(local(app.addr()), code.reveal()).as_bytes());
}

fn first_steps(address: SocketAddr, code: &str) -> String {
    format!(
        "\n\
         Nobody administers this service yet. Whoever signs up with this code does; it is good until it is used:\n\n\
         \x20 curl -s http://{address}/v1/auth/signup -H 'Content-Type: application/json' \\\n\
         \x20   -d '{{\"email\":\"you@example.org\",\"password\":\"four words, your own\",\"invite\":\"{code}\"}}'\n\n\
         Or, on this machine: deepersensor admin create --email you@example.org\n\n"
    )
}

/// Why a service ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// By the signal of this name.
    Asked(&'static str),
    /// The tree gave itself up, for this cause.
    Failed(String),
}

/// Resolves when the service should end; until then each SIGHUP has its settings read again. A reload that hangs delays
/// neither.
async fn end(signals: &mut Signals, reload: impl AsyncFn(), failed: impl Future<Output = String>) -> End {
    let asked = async {
        loop {
            match signals.asked().await {
                Asked::End(name) => break name,
                Asked::Reload => tokio::select! {
                    () = reload() => {}
                    name = signals.next() => break name,
                },
            }
        }
    };
    tokio::select! {
        name = asked => End::Asked(name),
        cause = failed => End::Failed(cause),
    }
}

/// Serves until a signal or the tree's failure, then stops gracefully.
pub(crate) async fn until_over(app: App, signals: &mut Signals) -> ExitCode {
    let end = end(signals, async || app.reload().await, app.failed()).await;
    match &end {
        End::Asked(signal) => info!(signal, "stopping; a second signal leaves at once"),
        End::Failed(cause) => {
            error!(cause, "the supervision tree gave itself up; the process ends with status 1");
        }
    }
    // The stop keeps its own time: this one only ends a stop that hangs.
    let limit = app.stops_within() + LEAVE / 2;
    let by = Instant::now() + limit;
    let stopped = tokio::select! {
        stopped = tokio::time::timeout(limit, app.stop()) => stopped.is_ok(),
        name = signals.next() => {
            warn!(signal = name, "second signal: leaving at once");
            return ExitCode::from(STATUS_FAILED);
        }
    };
    let left = by.saturating_duration_since(Instant::now());
    telemetry::trace::finish(left.clamp(FLUSH_LEAST, FLUSH_MOST)).await;
    if stopped {
        info!("stopped");
    } else {
        error!(seconds = limit.as_secs_f64(), "stopping took too long: leaving");
    }
    if stopped && matches!(end, End::Asked(_)) { ExitCode::SUCCESS } else { ExitCode::from(STATUS_FAILED) }
}

/// The first line: what this instance is about to be.
fn announce(config: &Config) {
    let store = if config.system.db.database_url.is_some() { "postgres" } else { "sqlite" };
    let upstreams = &config.system.model.upstreams;
    info!(
        address = %config.http.bind,
        store,
        upstreams = upstreams.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        data_dir = %config.data_dir().display(),
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    for upstream in upstreams.iter().filter(|upstream| is_exposed(upstream)) {
        // Hundreds of thousands of Ollama servers stand open in the internet (CVE-2026-7482): ours should not be one
        // of them.
        warn!(%upstream, "this model server has a public address: put it on loopback or a private network");
    }
}

/// Whether the upstream is named by an address that the whole internet can reach.
fn is_exposed(upstream: &UpstreamConfig) -> bool {
    let UpstreamKind::Ollama { base_url } = &upstream.kind else { return false };
    let host = base_url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    match host.and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok()) {
        Some(IpAddr::V4(ip)) => {
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified())
        }
        Some(IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
        None => false,
    }
}

/// Lifts the soft limit of open files to the hard one, and says when that is not enough for `connections`.
fn raise_open_files(connections: u64) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < connections + FILES_RESERVED => {
            warn!(limit, connections, "fewer open files are allowed than connections may need");
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use actors::system::STOP_PATIENCE;
    use support::process::signal;
    use tokio::{sync::Notify, time::timeout};

    use super::*;
    use crate::http::{HttpConfig, STOP_AFTER_GRACE};

    #[test]
    fn d07_the_parts_of_a_stop_fit_into_the_whole() {
        let http = HttpConfig::new(HttpConfig::OPS_DEFAULT);
        assert_eq!((http.drain_accept, http.drain_grace), (Duration::from_secs(2), Duration::from_secs(30)));
        let (whole, parts) =
            (Duration::from_secs(35), http.drain_grace + STOP_AFTER_GRACE + STOP_PATIENCE + LEAVE);
        assert!(parts <= whole, "{parts:?} is longer than {whole:?}");
        assert!(LEAVE / 2 + FLUSH_LEAST < LEAVE, "the last traces leave the process no time to end");
    }

    #[tokio::test]
    async fn a_tree_that_gives_itself_up_is_noticed_while_a_reload_hangs() {
        let mut signals = Signals::install().unwrap().with_reload().unwrap();
        signal("HUP", &[std::process::id()]).unwrap();
        let begun = Notify::new();
        let hangs = async || {
            begun.notify_one();
            pending().await
        };
        let failed = async {
            begun.notified().await;
            "it failed too often".to_owned()
        };
        let end = timeout(Duration::from_secs(20), end(&mut signals, hangs, failed)).await;
        assert_eq!(end.unwrap(), End::Failed("it failed too often".to_owned()));
    }

    #[test]
    fn a18_the_first_start_tells_how_to_become_its_administrator() {
        let text = first_steps("127.0.0.1:8080".parse().unwrap(), "dsi_code");
        assert!(text.contains("curl -s http://127.0.0.1:8080/v1/auth/signup "), "{text}");
        assert!(text.contains(r#""invite":"dsi_code"}'"#), "{text}");
        assert!(text.contains("deepersensor admin create"), "{text}");
    }

    #[test]
    fn g05_a_model_server_on_a_public_address_is_noticed() {
        let server = |kind| UpstreamConfig::new("any", kind);
        let ollama = |url: &str| server(UpstreamKind::Ollama { base_url: url.to_owned() });
        for url in ["http://8.8.8.8:11434", "http://[2001:4860::1]:11434"] {
            assert!(is_exposed(&ollama(url)), "{url}");
        }
        for url in ["http://127.0.0.1:11434", "http://10.1.2.3", "http://[::1]:11434", "http://ollama:11434"]
        {
            assert!(!is_exposed(&ollama(url)), "{url}");
        }
        assert!(!is_exposed(&server(UpstreamKind::Demo)));
    }
}
