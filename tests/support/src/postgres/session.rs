//! Just enough of the PostgreSQL protocol to ask whether a server is ready and to run a statement.
//!
//! A client library would bring its own pool, TLS and retries; a cluster that is frozen or half started is better
//! asked by something that does one thing at a time. Trust authentication only.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Version 3.0.
const PROTOCOL: i32 = 196_608;
/// Longest message read; what the server says here is short.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// One connection.
pub(super) struct Session {
    stream: TcpStream,
}

impl Session {
    /// Connects to `database`; fails while the server is still starting.
    pub(super) async fn open(addr: SocketAddr, user: &str, database: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        let mut session = Self { stream };
        let parameters = format!("user\0{user}\0database\0{database}\0\0");
        let length = i32::try_from(8 + parameters.len())?;
        let mut startup = length.to_be_bytes().to_vec();
        startup.extend(PROTOCOL.to_be_bytes());
        startup.extend(parameters.as_bytes());
        session.stream.write_all(&startup).await?;
        session.until_ready().await?;
        Ok(session)
    }

    /// Runs one statement; rows are thrown away.
    pub(super) async fn run(&mut self, sql: &str) -> Result<()> {
        let length = i32::try_from(5 + sql.len())?;
        let query = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
        self.stream.write_all(&query).await?;
        self.until_ready().await.with_context(|| format!("in {sql}"))
    }

    /// Reads until the server waits for the next statement; the first error it told on the way is the result.
    async fn until_ready(&mut self) -> Result<()> {
        let mut failed = None;
        loop {
            let kind = self.stream.read_u8().await.map_err(|error| failed.take().unwrap_or(error.into()))?;
            let length = usize::try_from(self.stream.read_i32().await?)?;
            let length = length.checked_sub(4).filter(|length| *length <= MAX_MESSAGE_BYTES);
            let mut body = vec![0; length.context("the server speaks another protocol")?];
            self.stream.read_exact(&mut body).await?;
            match kind {
                b'Z' => return failed.map_or(Ok(()), Err),
                b'E' => failed = failed.or(Some(anyhow!("{}", message(&body)))),
                // Anything but "no password needed".
                b'R' if body != [0; 4] => bail!("the server wants a password"),
                _ => {}
            }
        }
    }
}

/// The human text of an error message.
fn message(body: &[u8]) -> String {
    let text = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(text.unwrap_or(b"an error without a text")).into_owned()
}
