//! A Redis server of our own: real, empty, on a free port, gone when the test process is.
//!
//! It keeps everything in memory and listens on loopback only, without a password. It can be stopped, frozen and killed
//! while tests hold connections; what it held is lost then, as on a server without persistence.
//!
//! # When it breaks
//!
//! What the server wrote is part of every start error.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use crate::process::{self, Account, Scratch, Service};

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long one answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to reach a server that starts.
const RETRY_EVERY: Duration = Duration::from_millis(10);
/// Attempts to start: the port may be taken by another process.
const START_ATTEMPTS: usize = 5;

/// A server. Dropping it ends its process and removes its directory.
#[derive(Debug)]
pub struct Redis {
    // Dropped in this order: the server must be gone before its directory.
    server: Mutex<Option<Service>>,
    scratch: Scratch,
    account: Option<Account>,
    /// Fixed by the first start.
    port: u16,
}

impl Redis {
    /// Starts an empty server.
    ///
    /// # Errors
    ///
    /// When Redis is not installed, with the package's name, or does not start, with its log.
    pub async fn start() -> Result<Self> {
        let account = Account::for_servers(&["redis"])?;
        let scratch = Scratch::new("redis", account)?;
        let mut redis = Self { server: Mutex::default(), scratch, account, port: 0 };
        for attempt in 1.. {
            redis.port = process::free_port()?;
            match redis.launch().await {
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => {}
                Ok(()) => break,
            }
        }
        Ok(redis)
    }

    /// The server that all tests of one binary share, each with keys of its own; it ends with the process.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`]; the next caller tries again.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Where the server listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What `REDIS_URL` wants.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Sends one command and returns what the server wrote, in its own form (`+PONG`, `:3`).
    ///
    /// # Errors
    ///
    /// When it does not answer, or with an error.
    pub async fn run(&self, words: &[&str]) -> Result<String> {
        let run = async {
            let mut connection = TcpStream::connect(self.addr()).await?;
            // After QUIT the server closes the connection, which ends the answer.
            let command = [&encoded(words)[..], &encoded(&["QUIT"])].concat();
            connection.write_all(command.as_bytes()).await?;
            let mut text = String::new();
            connection.read_to_string(&mut text).await?;
            anyhow::Ok(text.strip_suffix("+OK\r\n").unwrap_or(&text).trim_end().to_owned())
        };
        let answer =
            timeout(ANSWER_PATIENCE, run).await.with_context(|| format!("no answer to {words:?}"))??;
        if answer.starts_with('-') || answer.is_empty() {
            bail!("{words:?}: {answer}");
        }
        Ok(answer)
    }

    /// Ends the server at once, as a power cut does.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&self) -> Result<()> {
        let server = self.server.lock().take().context("the server is not running")?;
        server.kill();
        Ok(())
    }

    /// Stops the server in its tracks: connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn freeze(&self) -> Result<()> {
        process::signal("STOP", &[self.pid()?])
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn unfreeze(&self) -> Result<()> {
        process::signal("CONT", &[self.pid()?])
    }

    /// Starts the server again, on the same port and empty, after ending it if it runs.
    ///
    /// # Errors
    ///
    /// When it does not start, with its log.
    pub async fn restart(&self) -> Result<()> {
        drop(self.server.lock().take());
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
        self.server.lock().as_ref().map(Service::pid).context("the server is not running")
    }

    async fn launch(&self) -> Result<()> {
        let log_path = self.scratch.path().join("log");
        let log = File::create(&log_path)?;
        let program = process::find_program("redis-server", &["/usr/sbin".into()], "redis-server")?;
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--save", "", "--appendonly", "no"]).stdout(log.try_clone()?).stderr(log);
        let mut server = Service::start(command, self.account, &self.scratch, "TERM")?;
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            // Another server may have taken the port, and answer in this one's place.
            if server.ended()?.is_some() || Instant::now() > give_up {
                bail!("redis-server did not start: {}", fs::read_to_string(&log_path).unwrap_or_default());
            }
            let told = self.run(&["INFO", "server"]).await.unwrap_or_default();
            if told.contains(&format!("process_id:{}\r\n", server.pid())) {
                break;
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        *self.server.lock() = Some(server);
        Ok(())
    }
}

fn encoded(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_freezes_dies_and_comes_back_empty() {
        let redis = Redis::start().await.unwrap();
        assert_eq!(redis.run(&["SET", "name", "Ada"]).await.unwrap(), "+OK");
        assert_eq!(redis.run(&["GET", "name"]).await.unwrap(), "$3\r\nAda");
        assert!(redis.run(&["NONSENSE"]).await.unwrap_err().to_string().contains("unknown command"));

        redis.freeze().unwrap();
        let asked = timeout(Duration::from_millis(300), redis.run(&["PING"]));
        assert!(asked.await.is_err(), "nobody answers");
        redis.unfreeze().unwrap();
        assert_eq!(redis.run(&["PING"]).await.unwrap(), "+PONG");

        redis.kill().unwrap();
        assert!(redis.run(&["PING"]).await.is_err());
        redis.restart().await.unwrap();
        assert_eq!(redis.run(&["DBSIZE"]).await.unwrap(), ":0");

        let path = redis.scratch.path().to_owned();
        drop(redis);
        assert!(!path.exists());
    }
}
