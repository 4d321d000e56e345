//! A real Prometheus with a configuration of the test's own: it scrapes what the test runs, and answers its questions.
//!
//! It keeps its data in a temporary directory, listens on loopback, unprivileged (as `prometheus` or `nobody` when we are
//! root), and ends with the test process.
//!
//! # When it breaks
//!
//! What the server wrote is part of every start error.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::process::{self, Account, Scratch, Service};

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to say whether it is ready.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at a server that starts.
const RETRY_EVERY: Duration = Duration::from_millis(20);
/// Attempts to start: the port may be taken by another process.
const START_ATTEMPTS: usize = 3;

/// A running server. Dropping it ends its process and removes its directory.
#[derive(Debug)]
pub struct Prometheus {
    // Dropped in this order: the server must be gone before its directory.
    service: Service,
    _scratch: Scratch,
    port: u16,
}

impl Prometheus {
    /// Runs Prometheus with `files` in its directory, each a name and what it holds; `prometheus.yml` is its configuration, and
    /// the others are found beside it.
    ///
    /// # Errors
    ///
    /// When Prometheus is not installed, with the package's name, or does not start, with what it said.
    pub async fn start(files: &[(&str, &str)]) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::launch(files).await {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    /// Where it answers.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    async fn launch(files: &[(&str, &str)]) -> Result<Self> {
        let account = Account::for_servers(&["prometheus"])?;
        let scratch = Scratch::new("prometheus", account)?;
        for (name, text) in files {
            fs::write(scratch.path().join(name), text)?;
        }
        let port = process::free_port()?;
        let said = scratch.path().join("stderr");
        let mut command = Command::new(process::find_program("prometheus", &[], "prometheus")?);
        command
            .arg(format!("--config.file={}", scratch.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", scratch.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // Else it looks at what it discovered every five seconds only.
            .arg("--scrape.discovery-reload-interval=100ms")
            .arg("--log.level=warn")
            .stdout(File::create(scratch.path().join("stdout"))?)
            .stderr(File::create(&said)?);
        let service = Service::start(command, account, &scratch, "TERM")?;
        let mut prometheus = Self { service, _scratch: scratch, port };
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            let is_ready = timeout(ANSWER_PATIENCE, is_ready(prometheus.addr())).await;
            // Another server may have taken the port, and answer in this one's place.
            if prometheus.service.ended()?.is_some() || Instant::now() > give_up {
                bail!("prometheus did not start:\n{}", fs::read_to_string(said).unwrap_or_default());
            }
            if matches!(is_ready, Ok(Ok(true))) {
                return Ok(prometheus);
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
}

async fn is_ready(addr: SocketAddr) -> Result<bool> {
    let mut connection = TcpStream::connect(addr).await?;
    connection.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n").await?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply).await?;
    Ok(reply.starts_with("HTTP/1.0 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_ready_once_started_and_gone_once_dropped() {
        let prometheus = Prometheus::start(&[("prometheus.yml", "")]).await.unwrap();
        let addr = prometheus.addr();
        assert!(is_ready(addr).await.unwrap());
        drop(prometheus);
        assert!(TcpStream::connect(addr).await.is_err());
    }

    #[tokio::test]
    async fn a_wrong_configuration_says_what_is_wrong() {
        let error = Prometheus::start(&[("prometheus.yml", "no_such_key: 1\n")]).await.unwrap_err();
        assert!(format!("{error:#}").contains("no_such_key"), "{error:#}");
    }
}
