//! The service as a process of its own, for what only a process shows: its memory, its standard error, its end.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::process::{self, Scratch, Service};

/// From the start of the process to its first request, on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running `deepersensor serve`, ended when dropped.
#[derive(Debug)]
pub struct Gateway {
    service: Service,
    pub addr: SocketAddr,
    pub ops: SocketAddr,
    log: PathBuf,
}

/// The line that says that it serves, and where.
#[derive(Deserialize)]
struct Serving {
    message: String,
    address: SocketAddr,
    ops: SocketAddr,
}

impl Gateway {
    /// Starts `command`, the service's with all its settings but where it listens and how it logs, and returns when it
    /// serves. What it writes goes into a file in `scratch`, which the next start empties.
    ///
    /// # Errors
    ///
    /// With the log when it ends or does not serve in time.
    pub async fn start(command: Command, scratch: &Scratch) -> Result<Self> {
        Self::start_on(command, scratch, 0).await
    }

    /// The same, on this port for clients.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn start_on(mut command: Command, scratch: &Scratch, port: u16) -> Result<Self> {
        let log = scratch.path().join("gateway.log");
        let out = File::create(&log)?;
        command.arg("serve").env("LOG_FORMAT", "json").env("OPS_BIND", "127.0.0.1:0");
        command.env("APP_PORT", port.to_string());
        command.stdout(out.try_clone()?).stderr(out);
        let mut service = Service::start(command, None, scratch, "TERM")?;
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            let said = fs::read_to_string(&log)?;
            if let Some(Serving { address, ops, .. }) = said.lines().find_map(serving) {
                return Ok(Self { service, addr: address, ops, log });
            }
            if service.ended()?.is_some() || Instant::now() > give_up {
                bail!("the service does not serve:\n{said}");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Asks it to end, and returns how it did and how long that took.
    ///
    /// # Errors
    ///
    /// With the log when it has not ended after `patience`.
    pub async fn terminate(mut self, patience: Duration) -> Result<(ExitStatus, Duration)> {
        process::signal("TERM", &[self.pid()])?;
        let asked = Instant::now();
        let ended = self.service.wait(patience).await;
        let status = ended.with_context(|| self.said().unwrap_or_default())?;
        Ok((status, asked.elapsed()))
    }

    /// Ends it at once, as a power cut does.
    pub fn kill(self) {
        self.service.kill();
    }

    /// All it has written so far.
    ///
    /// # Errors
    ///
    /// When the file is gone.
    pub fn said(&self) -> Result<String> {
        fs::read_to_string(&self.log).context("no log of the service")
    }
}

fn serving(line: &str) -> Option<Serving> {
    serde_json::from_str(line).ok().filter(|serving: &Serving| serving.message == "serving")
}
