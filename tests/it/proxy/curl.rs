//! Programs of the machine that speak TLS as clients do: curl, and openssl for what no client should speak.

use std::{net::SocketAddr, process::Command};

use support::nginx::Proxy;
use tokio::task::spawn_blocking;

/// The head that curl printed, in lower case.
pub(super) struct Shown {
    pub(super) head: String,
}

impl Shown {
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.filter_map(|(known, value)| (known == name).then_some(value)).collect()
    }
}

/// Asks for `path` over TLS, with these options of curl. It must get a reply.
pub(super) async fn curl(proxy: &Proxy, path: &str, options: &[&str]) -> Shown {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "20", "--cacert"]);
    command.arg(proxy.authority()).args(options).arg(format!("https://{}{path}", proxy.tls_addr()));
    let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    Shown { head: head.to_lowercase() }
}

/// Tries a handshake with these options of `openssl s_client`; returns all that it says.
pub(super) async fn handshake(addr: SocketAddr, options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &addr.to_string()])
        .args(options)
        .stdin(std::process::Stdio::null());
    let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
