//! A PostgreSQL cluster of our own: real, empty, on a free port, gone when the test process is.
//!
//! It lives in a temporary directory and listens on loopback only. Postgres refuses to be root, so it then runs as
//! `postgres` (Debian's package makes that user) or `nobody`. Authentication is `trust`: any local user may connect
//! while it lives.
//!
//! # When it breaks
//!
//! What the server wrote is part of every start error. A cluster that was killed recovers at [`Cluster::restart`], as
//! after a power cut. It can be stopped, frozen and killed while tests hold connections: that is what it is for.

mod session;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use self::session::Session;
use crate::process::{self, Account, Scratch, Service};

/// How long making an empty cluster may take.
const INIT_PATIENCE: Duration = Duration::from_secs(60);
/// How long a start may take, with recovery after a kill.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a copy of a running cluster may take.
const COPY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take before it becomes a kill.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long one attempt to connect and one administrative statement may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const STATEMENT_PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to connect to a server that starts.
const RETRY_EVERY: Duration = Duration::from_millis(10);
/// Attempts to start: the port may be taken by another process, the memory of a killed server still be in use.
const START_ATTEMPTS: usize = 5;
const SUPERUSER: &str = "postgres";

/// How a cluster is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether commits wait for the disk. Off only where durability is not what is tested.
    pub fsync: bool,
    pub max_connections: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { fsync: true, max_connections: 200 }
    }
}

/// A cluster. Dropping it ends its processes and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the server must be gone before its directory.
    server: Mutex<Option<Service>>,
    scratch: Scratch,
    programs: PathBuf,
    account: Option<Account>,
    options: Options,
    /// Fixed by the first start.
    port: u16,
}

impl Cluster {
    /// Makes a cluster and starts it; commits wait for the disk.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, with the package's name, or does not start, with its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Makes a cluster and starts it.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub async fn start_with(options: Options) -> Result<Self> {
        let programs = programs()?;
        let account = Account::for_servers(&[SUPERUSER])?;
        let scratch = Scratch::new("postgres", account)?;
        init(&programs, account, &scratch).await?;
        Self { server: Mutex::default(), scratch, programs, account, options, port: 0 }.started().await
    }

    /// Makes a standby, which follows this cluster by streaming, answers reads and refuses writes.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`], or when this cluster does not answer.
    pub async fn standby(&self) -> Result<Self> {
        let scratch = Scratch::new("standby", self.account)?;
        let mut command = Command::new(self.programs.join("pg_basebackup"));
        command.arg("-D").arg(scratch.path().join("data"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", SUPERUSER]);
        // What it needs to follow is written into its own settings.
        command.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        finish(command, self.account, &scratch, COPY_PATIENCE).await?;
        let (programs, account, options) = (self.programs.clone(), self.account, self.options);
        Self { server: Mutex::default(), scratch, programs, account, options, port: 0 }.started().await
    }

    async fn started(self) -> Result<Self> {
        let mut cluster = self;
        for attempt in 1.. {
            cluster.port = process::free_port()?;
            match cluster.launch().await {
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => {}
                Ok(()) => break,
            }
        }
        Ok(cluster)
    }

    /// The cluster that all tests of one binary share, each in a database of its own. Its commits do not wait for
    /// the disk; it ends with the process.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`]; the next caller tries again.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start_with(Options { fsync: false, ..Options::default() })).await
    }

    /// Where the cluster listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The connection string of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{}/{database}", self.addr())
    }

    /// Makes an empty database.
    ///
    /// # Errors
    ///
    /// When it exists or the server does not answer.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        self.run(&format!("CREATE DATABASE {}", quoted(name))).await
    }

    /// Makes a copy of `template`, to which nobody may be connected.
    ///
    /// # Errors
    ///
    /// When it exists, somebody is connected to the template, or the server does not answer.
    pub async fn clone_database(&self, template: &str, name: &str) -> Result<()> {
        self.run(&format!("CREATE DATABASE {} TEMPLATE {}", quoted(name), quoted(template))).await
    }

    /// Removes a database and ends its sessions; nothing happens if there is none.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        self.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await
    }

    /// Runs one statement as superuser, outside a transaction, on the database `postgres`.
    ///
    /// # Errors
    ///
    /// The server's message.
    pub async fn run(&self, sql: &str) -> Result<()> {
        let run = async { Session::open(self.addr(), SUPERUSER, "postgres").await?.run(sql).await };
        timeout(STATEMENT_PATIENCE, run).await.with_context(|| format!("no answer to {sql}"))?
    }

    /// Ends every session and the server in order, as an operator's `stop -m fast` does.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub async fn stop(&self) -> Result<()> {
        let Some(mut server) = self.server.lock().take() else {
            return Ok(());
        };
        process::signal("INT", &[server.pid()])?;
        server.wait(STOP_PATIENCE).await.map(drop)
    }

    /// Ends every process of the server at once, as a power cut does.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&self) -> Result<()> {
        let Some(server) = self.server.lock().take() else {
            bail!("the cluster is not running");
        };
        server.kill();
        Ok(())
    }

    /// Stops every process of the server in its tracks: connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn freeze(&self) -> Result<()> {
        let pid = self.pid()?;
        process::signal("STOP", &[pid])?;
        // Now no more children come. One that ended in between is not missed.
        for child in process::children_of(pid) {
            let _ = process::signal("STOP", &[child]);
        }
        Ok(())
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn unfreeze(&self) -> Result<()> {
        let pid = self.pid()?;
        for child in process::children_of(pid) {
            let _ = process::signal("CONT", &[child]);
        }
        process::signal("CONT", &[pid])
    }

    /// Starts the server again, on the same port and with the same data, after stopping it if it runs.
    ///
    /// # Errors
    ///
    /// When it does not start, with its log.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        for attempt in 1.. {
            match self.launch().await {
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => tokio::time::sleep(RETRY_EVERY * 10).await,
                Ok(()) => break,
            }
        }
        Ok(())
    }

    fn pid(&self) -> Result<u32> {
        self.server.lock().as_ref().map(Service::pid).context("the cluster is not running")
    }

    async fn launch(&self) -> Result<()> {
        let log_path = self.scratch.path().join("log");
        let log = File::create(&log_path)?;
        let mut command = Command::new(self.programs.join("postgres"));
        command.arg("-D").arg(self.scratch.path().join("data"));
        let settings = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", String::new()),
            ("max_connections", self.options.max_connections.to_string()),
            ("fsync", if self.options.fsync { "on" } else { "off" }.to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            // In files of the cluster, so that a killed one leaves none in the system's own directory.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("log_checkpoints", "off".to_owned()),
        ];
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdout(log.try_clone()?).stderr(log);
        let mut server = Service::start(command, self.account, &self.scratch, "QUIT")?;
        let told = || fs::read_to_string(&log_path).unwrap_or_default();
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            let session = timeout(CONNECT_PATIENCE, Session::open(self.addr(), SUPERUSER, "postgres")).await;
            // Somebody else may answer on a port that was taken just before: ours must be alive.
            if let Some(status) = server.ended()? {
                bail!("postgres ended with {status}:\n{}", told());
            }
            if matches!(session, Ok(Ok(_))) {
                *self.server.lock() = Some(server);
                return Ok(());
            }
            if Instant::now() > give_up {
                bail!("postgres was not ready after {START_PATIENCE:?}:\n{}", told());
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
}

async fn init(programs: &Path, account: Option<Account>, scratch: &Scratch) -> Result<()> {
    let mut command = Command::new(programs.join("initdb"));
    command.arg("-D").arg(scratch.path().join("data")).args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]);
    // Nothing in it is worth a wait for the disk before the first start.
    command.args(["--locale=C", "--no-sync", "--no-instructions"]);
    finish(command, account, scratch, INIT_PATIENCE).await
}

/// Runs a program of the server to its good end.
async fn finish(
    mut command: Command,
    account: Option<Account>,
    scratch: &Scratch,
    patience: Duration,
) -> Result<()> {
    let log_path = scratch.path().join("making.log");
    let log = File::create(&log_path)?;
    command.stdout(log.try_clone()?).stderr(log);
    let program = command.get_program().to_owned();
    let status = Service::start(command, account, scratch, "TERM")?.wait(patience).await?;
    if !status.success() {
        bail!("{} failed: {}", program.display(), fs::read_to_string(log_path).unwrap_or_default());
    }
    Ok(())
}

/// The directory of the newest installed server.
fn programs() -> Result<PathBuf> {
    // Debian keeps them out of PATH, by version.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut installed: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    let version = |dir: &PathBuf| dir.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    installed.sort_by_key(|dir| std::cmp::Reverse(version(dir)));
    // Where a link in PATH leads, so that the other programs are of the same version.
    let postgres = fs::canonicalize(process::find_program("postgres", &installed, "postgresql")?)?;
    let dir = postgres.parent().context("postgres has no directory")?.to_owned();
    Ok(dir)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
