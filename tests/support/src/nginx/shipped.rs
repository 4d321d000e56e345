//! nginx with the files of `nginx/` as they are shipped, but for what differs from site to site: where it listens, its
//! certificate, the instances, and where it may write.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{HTTP_PLACES, Nginx, Ports, account};
use crate::process::{self, Account, Scratch};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nginx");
/// Where logs are written as shipped.
const LOGS: &str = "/var/log/nginx";
/// The one instance of the shipped `upstream.conf`.
const INSTANCE: &str = "    server 127.0.0.1:8080 max_fails=0;\n";

/// The balancer of the shipped `available/balancer.conf`.
const BALANCER: &str = "192.0.2.10";

/// The shipped proxy before instances of the service. Beside TLS it also listens without, for clients that send what no
/// TLS library would.
#[derive(Debug)]
pub struct Proxy(Nginx);

impl Proxy {
    /// Starts it before these instances, with a certificate of its own for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When nginx or openssl is not installed, with the package's name, or nginx does not start, with what it said.
    pub async fn start(instances: &[SocketAddr]) -> Result<Self> {
        Self::start_with(instances, &[]).await
    }

    /// The same with these files of `available/` enabled.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn start_with(instances: &[SocketAddr], enabled: &[&str]) -> Result<Self> {
        Self::start_edited(instances, enabled, "").await
    }

    /// The same behind a balancer, which calls from this address.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn behind_balancer(instances: &[SocketAddr], balancer: Ipv4Addr) -> Result<Self> {
        Self::start_edited(instances, &["balancer.conf"], &balancer.to_string()).await
    }

    async fn start_edited(instances: &[SocketAddr], enabled: &[&str], balancer: &str) -> Result<Self> {
        let account = account()?;
        let prepare = |scratch: &Scratch, [port, tls, http2, redirect]: Ports| {
            let dir = scratch.path();
            copy_shipped(dir)?;
            let write = |name: &str, text: String| {
                fs::write(dir.join(name), text).with_context(|| format!("cannot write {name}"))
            };
            write(
                "listen.conf",
                format!(
                    "listen 127.0.0.1:{port};\nlisten 127.0.0.1:{tls} ssl http2;\nlisten 127.0.0.1:{http2} http2;\n"
                ),
            )?;
            write("listen.plain.conf", format!("listen 127.0.0.1:{redirect};\nset $tls_port \":{tls}\";\n"))?;
            let upstream = fs::read_to_string(dir.join("upstream.conf"))?;
            ensure!(upstream.contains(INSTANCE), "upstream.conf does not name {INSTANCE:?}");
            let servers = instances.iter().map(|instance| format!("    server {instance} max_fails=0;\n"));
            write("upstream.conf", upstream.replace(INSTANCE, &servers.collect::<String>()))?;
            certify(dir, account)?;
            let shown = dir.display();
            write(
                "tls.conf",
                format!("ssl_certificate {shown}/cert.pem;\nssl_certificate_key {shown}/key.pem;\n"),
            )?;
            fs::create_dir(dir.join("enabled"))?;
            write("enabled/places.conf", HTTP_PLACES.replace("{dir}", &shown.to_string()))?;
            for name in enabled {
                let text = fs::read_to_string(dir.join("available").join(name))?;
                write(&format!("enabled/{name}"), text.replace(BALANCER, balancer))?;
            }
            Ok(dir.join("nginx.conf"))
        };
        Ok(Self(Nginx::start_as(account, &prepare, "daemon off; pid {dir}/pid;").await?))
    }

    /// Where it listens without TLS, for HTTP/1.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    /// The same for HTTP/2 from the first byte.
    #[must_use]
    pub fn http2_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.ports[2]).into()
    }

    #[must_use]
    pub fn tls_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.ports[1]).into()
    }

    /// Where it only says where TLS is.
    #[must_use]
    pub fn redirect_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.ports[3]).into()
    }

    /// What signs its certificate: itself.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.0.scratch.path().join("cert.pem")
    }

    /// Its master process, whose children serve.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// What it wrote to its error log.
    #[must_use]
    pub fn error_log(&self) -> String {
        self.0.error_log()
    }

    /// A line of JSON for each request that is over.
    #[must_use]
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.0.scratch.path().join("access.log")).unwrap_or_default()
    }
}

/// Copies the shipped files, with their logs moved here.
fn copy_shipped(dir: &Path) -> Result<()> {
    for part in ["", "available"] {
        let to = dir.join(part);
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(Path::new(SHIPPED).join(part))? {
            let path = entry?.path();
            let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
            let text = fs::read_to_string(&path)?;
            fs::write(to.join(name), text.replace(LOGS, &dir.display().to_string()))?;
        }
    }
    Ok(())
}

/// Makes a key and a certificate that signs itself.
fn certify(dir: &Path, account: Option<Account>) -> Result<()> {
    let openssl = process::find_program("openssl", &[], "openssl")?;
    let mut command = Command::new(openssl);
    command.current_dir(dir).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    command.args([
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]);
    command.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    process::run_as(&mut command, account);
    let made = command.output().context("cannot start openssl")?;
    ensure!(made.status.success(), "no certificate: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
