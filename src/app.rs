//! One whole service: the tree of actors and the server in front of it.
//!
//! `serve`, `demo` and the tests start it alike. It installs nothing into the process (no log, no signal handler), so
//! that several can live side by side.
//!
//! # When it breaks
//!
//! A start that fails halfway stops what it started. [`App::failed`] tells when the tree gave itself up; the process
//! should then end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use actors::{
    auth::{Administrator, AuthError},
    clock::Clock,
    system::{STOP_PATIENCE, System},
};
use domain::secret::Secret;
use tokio::time::Instant;

use crate::{
    config::Config,
    control::{Control, Refusal, Setup},
    http::{Front, Server},
    telemetry,
};

/// Tells the actors' names of several services in one process apart.
static STARTED: AtomicU32 = AtomicU32::new(0);

pub struct App {
    server: Server,
    system: Arc<System>,
    control: Control,
}

impl App {
    /// Starts the rooms in dependency order, then listens; readiness comes last.
    ///
    /// # Errors
    ///
    /// The store cannot be opened or migrated, or an address is taken: say so and exit.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_from(config, None).await
    }

    /// As [`App::start`]; with a `setup` the service can read its settings again.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn start_from(config: Config, setup: Option<Setup>) -> anyhow::Result<Self> {
        let name = match STARTED.fetch_add(1, Ordering::Relaxed) {
            0 => "deepersensor".to_owned(),
            n => format!("deepersensor-{}", n + 1),
        };
        let system = Arc::new(System::start(&name, config.system.clone(), Clock::system()).await?);
        telemetry::trace::register(&mut system.registry.lock());
        let front = Front::new(config.http.clone());
        let control = setup
            .map_or_else(Control::default, |setup| Control::new(setup, &config, Arc::clone(&front), &system));
        match Server::start(front, Arc::clone(&system), &control).await {
            Ok(server) => Ok(Self { server, system, control }),
            Err(error) => {
                stop_system(system, STOP_PATIENCE).await;
                Err(error.into())
            }
        }
    }

    /// The rooms, for whoever runs the service in a process of its own making.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Where clients are served.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Where `/metrics` and `/actors` are served.
    pub fn ops_addr(&self) -> SocketAddr {
        self.server.ops_addr()
    }

    /// The code that makes the first administrator, as long as there is none.
    ///
    /// # Errors
    ///
    /// The store is away: the service goes on, and the next start asks again.
    pub async fn first_admin_code(&self) -> Result<Option<Secret<String>>, AuthError> {
        self.system.auth.first_admin_code().await
    }

    /// Reads all settings again, for whoever runs the process; what came of it is in the log.
    pub async fn reload(&self) {
        if let Err(refusal) = self.control.reload(&self.system, Administrator::default(), false).await
            && !matches!(refusal, Refusal::Invalid(_))
        {
            tracing::error!(%refusal, "the settings were not read again");
        }
    }

    /// Resolves, with the cause, when the tree gave itself up.
    pub async fn failed(&self) -> String {
        self.system.failed().await
    }

    /// What [`App::stop`] takes at most.
    pub fn stops_within(&self) -> Duration {
        self.server.stops_within() + STOP_PATIENCE
    }

    /// Stops gracefully: unready at once, streams get their grace, what was answered is stored.
    pub async fn stop(self) {
        let by = Instant::now() + self.stops_within();
        self.server.shutdown().await;
        self.control.close().await;
        // The rooms may take what clients did not.
        stop_system(self.system, by.saturating_duration_since(Instant::now())).await;
    }
}

/// Stops the rooms once nobody holds a handle to the tree any more.
async fn stop_system(system: Arc<System>, patience: Duration) {
    match Arc::into_inner(system) {
        Some(system) => system.stop_within(patience).await,
        None => tracing::error!(
            "the server still holds the tree after its shutdown: leaving it to the process's end"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        time::timeout,
    };

    use super::*;
    use crate::config::{Problems, Sources};

    /// Longer than anything here takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn setup(data_dir: &Path) -> (Config, Setup) {
        let data_dir = data_dir.display().to_string();
        let flags = [("DATA_DIR", data_dir.as_str()), ("APP_PORT", "0"), ("DEMO_MODEL", "true")];
        let flags = flags.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
        let sources = Sources { flags, ..Sources::default() };
        let (settings, config) = Config::examine(&sources);
        let mut config = config.unwrap();
        config.http.drain_accept = Duration::ZERO;
        (config, Setup { sources, settings, log: None })
    }

    fn config(data_dir: &Path) -> Config {
        setup(data_dir).0
    }

    async fn answers(address: SocketAddr) -> bool {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.1 200 ")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_services_live_in_one_process_and_leave_nothing_listening() {
        let dir = std::env::temp_dir().join(format!("deepersensor-app-{}", uuid::Uuid::now_v7()));
        let (first, second) = (dir.join("first"), dir.join("second"));
        let one = App::start(config(&first)).await.unwrap();
        let other = App::start(config(&second)).await.unwrap();
        let addresses = [one.addr(), one.ops_addr(), other.addr(), other.ops_addr()];
        for address in addresses {
            assert!(answers(address).await, "{address}");
        }

        let error = App::start(config(&first)).await.err().unwrap();
        assert!(error.to_string().contains("store"), "a second service on one SQLite: {error}");

        one.stop().await;
        assert!(answers(other.addr()).await, "the other one goes on");
        other.stop().await;
        for address in addresses {
            assert!(TcpStream::connect(address).await.is_err(), "{address} still listens");
        }
        App::start(config(&first)).await.unwrap().stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn d07_a_file_that_hangs_keeps_a_service_neither_from_stopping_nor_from_giving_up_its_rooms() {
        let dir = std::env::temp_dir().join(format!("deepersensor-app-{}", uuid::Uuid::now_v7()));
        let (config, setup) = setup(&dir);
        let app = App::start_from(config.clone(), Some(setup)).await.unwrap();
        let (reads, reading) = oneshot::channel();
        let (let_go, hangs) = mpsc::channel::<()>();
        let hung = app.control.reload_from(&app.system, Administrator::default(), false, move |_| {
            reads.send(()).unwrap();
            let _ = hangs.recv();
            Err(Problems(Vec::new()))
        });
        tokio::select! {
            told = hung => panic!("it does not hang: {told:?}"),
            begun = timeout(PATIENCE, reading) => begun.unwrap().unwrap(),
        }
        let (control, system) = (app.control.clone(), Arc::downgrade(&app.system));
        timeout(PATIENCE, app.stop()).await.expect("a stop that waits for a file");
        assert_eq!(system.strong_count(), 0, "somebody still holds the rooms");
        // The store is free again.
        let next = App::start(config).await.unwrap();
        let reload = || control.reload(&next.system, Administrator::default(), false);
        let another = reload().await;
        assert!(matches!(another, Err(Refusal::UnderWay)), "{another:?}");
        drop(let_go);
        let late = async {
            loop {
                match reload().await {
                    Err(Refusal::UnderWay) => tokio::task::yield_now().await,
                    told => break told,
                }
            }
        };
        let late = timeout(PATIENCE, late).await.unwrap();
        assert!(matches!(late, Err(Refusal::Stopping)), "{late:?}");
        next.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }
}
