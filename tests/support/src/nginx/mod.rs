//! A real nginx, as it stands before the service in production: with a configuration of the test's own, or with the one
//! that is shipped ([`Proxy`]).
//!
//! It runs in the foreground in a temporary directory, on free ports, unprivileged (as `www-data` or `nobody` when
//! we are root), and ends with the test process.

mod shipped;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub use self::shipped::Proxy;

use crate::process::{self, Account, Scratch, Service};

const START_PATIENCE: Duration = Duration::from_secs(10);
/// Another process may take a free port before nginx does.
const START_ATTEMPTS: usize = 3;
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// Where everything nginx writes goes; without it, it wants directories of its package.
const PLACES: &str = "\
error_log {dir}/error.log warn;
worker_processes 1;
events { worker_connections 8192; }
";
const HTTP_PLACES: &str = "\
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
";

/// A running nginx. Dropping it ends its processes and removes its directory.
#[derive(Debug)]
pub struct Nginx {
    service: Service,
    scratch: Scratch,
    ports: Ports,
}

/// Where a configuration may listen; the first is where it must.
type Ports = [u16; 4];

/// Writes the configuration for these ports into a directory; returns its first file.
type Prepare<'a> = &'a (dyn Fn(&Scratch, Ports) -> Result<PathBuf> + Sync);

impl Nginx {
    /// Runs nginx with `template`, in which `{port}` stands for the port to listen on and `{dir}` for a directory it
    /// may write to.
    ///
    /// # Errors
    ///
    /// When nginx is not installed, with the package's name, or does not start, with what it said.
    pub async fn start(template: &str) -> Result<Self> {
        let account = account()?;
        let prepare = |scratch: &Scratch, [port, ..]: Ports| {
            let dir = scratch.path().display().to_string();
            let config = scratch.path().join("nginx.conf");
            let text = template.replace("{port}", &port.to_string()).replace("{dir}", &dir);
            fs::write(&config, text + &format!("\npid {dir}/pid;\n"))?;
            Ok(config)
        };
        Self::start_as(account, &prepare, "daemon off;").await
    }

    /// Runs nginx on the configuration that `prepare` writes, with `globals` beside it.
    async fn start_as(account: Option<Account>, prepare: Prepare<'_>, globals: &str) -> Result<Self> {
        let program = process::find_program("nginx", &[PathBuf::from("/usr/sbin")], "nginx")?;
        let mut attempt = 1;
        loop {
            match launch(&program, account, prepare, globals).await {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[0]).into()
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Its master process, whose children serve.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// What it wrote to its error log.
    #[must_use]
    pub fn error_log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("error.log")).unwrap_or_default()
    }
}

/// Whom nginx runs as.
fn account() -> Result<Option<Account>> {
    Account::for_servers(&["www-data"])
}

async fn launch(
    program: &PathBuf,
    account: Option<Account>,
    prepare: Prepare<'_>,
    globals: &str,
) -> Result<Nginx> {
    let scratch = Scratch::new("nginx", account)?;
    let ports = process::free_ports()?;
    let config = prepare(&scratch, ports)?;
    let said = scratch.path().join("stderr");
    let mut command = Command::new(program);
    command.arg("-c").arg(&config).arg("-e").arg(scratch.path().join("error.log"));
    command
        .args(["-g", &globals.replace("{dir}", &scratch.path().display().to_string())])
        .stdout(File::create(scratch.path().join("stdout"))?)
        .stderr(File::create(&said)?);
    let service = Service::start(command, account, &scratch, "TERM")?;
    let mut nginx = Nginx { service, scratch, ports };
    let give_up = Instant::now() + START_PATIENCE;
    // Written when all sockets are open: without it, somebody else may be at the port.
    let pid = nginx.scratch.path().join("pid");
    while !pid.exists() && nginx.service.ended()?.is_none() && Instant::now() < give_up {
        tokio::time::sleep(RETRY_EVERY).await;
    }
    loop {
        let connected = TcpStream::connect(nginx.addr()).await;
        if let Some(status) = nginx.service.ended()? {
            bail!("nginx ended with {status}:\n{}", fs::read_to_string(said).unwrap_or_default());
        }
        match connected {
            Ok(_) => return Ok(nginx),
            Err(_) if Instant::now() < give_up => tokio::time::sleep(RETRY_EVERY).await,
            Err(error) => return Err(error).context("nginx does not listen"),
        }
    }
}

/// A plain proxy before a model server, to compare with: nothing buffered, long reads, connections to it kept.
#[must_use]
pub fn plain_sse_proxy(upstream: SocketAddr) -> String {
    format!(
        "{PLACES}
http {{
{HTTP_PLACES}
  access_log off;
  upstream gateway {{ server {upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{{port}};
    location / {{
      proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off; proxy_cache off; proxy_request_buffering off; client_max_body_size 2m;
      proxy_next_upstream error;
      proxy_connect_timeout 5s; proxy_read_timeout 3600s; proxy_send_timeout 3600s;
    }}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::fake_ollama::{Config, FakeOllama, Scenario};

    #[tokio::test]
    async fn the_proxy_passes_lines_on_at_once_and_tells_when_the_client_leaves() {
        let fake = FakeOllama::start(Config::default()).await.unwrap();
        fake.control().set_scenario("qwen3:8b", Scenario::Stall { after: 2 });
        let nginx = Nginx::start(&plain_sse_proxy(fake.addr())).await.unwrap();
        let mut client = TcpStream::connect(nginx.addr()).await.unwrap();
        let body = r#"{"model":"qwen3:8b","prompt":"hi"}"#;
        let head = format!(
            "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all((head + body).as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while seen.windows(13).filter(|window| window == b"\"done\":false}").count() < 2 {
            assert_ne!(client.read_buf(&mut seen).await.unwrap(), 0, "{}", nginx.error_log());
        }
        drop(client);
        fake.control().wait_until(|now| now.cancellations == 1, Duration::from_secs(2)).await.unwrap();
    }

    #[tokio::test]
    async fn a_wrong_configuration_says_what_is_wrong() {
        let error = Nginx::start("events {}\nhttp { no_such_directive; }\n").await.unwrap_err();
        assert!(format!("{error:#}").contains("no_such_directive"), "{error:#}");
    }
}
