//! `healthcheck`: for containers without a shell or curl.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};

use super::{client::Client, local, terminal::Terminal};
use crate::config::Config;

/// The whole check takes no longer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks `/readyz` of the configured address.
pub(crate) async fn run(config: &Config, terminal: Terminal) -> anyhow::Result<ExitCode> {
    let address = local(config.http.bind);
    let client = Client::new(address, DEADLINE);
    let reply = tokio::time::timeout(DEADLINE, client.get("/readyz"))
        .await
        .with_context(|| format!("{address} did not answer within {DEADLINE:?}"))??;
    if !reply.status.is_success() {
        bail!("{address} is not ready: {} {}", reply.status, super::terminal::harmless(&reply.text()));
    }
    terminal.line(format!("{address} is ready"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::config::Sources;

    /// Checks a service that answers its first connection with `answer` and then says no more.
    async fn check(answer: &'static str) -> anyhow::Result<ExitCode> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::load(&Sources::default()).unwrap();
        config.http.bind.set_port(listener.local_addr().unwrap().port());
        let service = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending().await
        };
        tokio::select! {
            checked = run(&config, Terminal::plain()) => checked,
            () = service => unreachable!("the service stays"),
        }
    }

    #[tokio::test]
    async fn only_a_ready_service_passes() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        let error =
            check("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nlate").await.unwrap_err();
        assert!(error.to_string().ends_with("is not ready: 503 Service Unavailable late"), "{error}");
    }

    #[tokio::test]
    async fn a_frozen_service_fails_within_the_deadline() {
        let began = tokio::time::Instant::now();
        // It begins to answer, so that every single wait is short but the whole is not.
        let error = check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{").await.unwrap_err();
        assert!(began.elapsed() < DEADLINE * 2, "{error}");
    }
}
