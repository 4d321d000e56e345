//! Settings of the front end; each bound of the HTTP surface has its name here.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use actors::ops::OpsToken;
use ipnet::IpNet;

use super::cors::PageOrigin;

/// Where operators connect, and what they show there: only an address of this machine may ask for nothing.
#[derive(Debug, Clone, Default)]
pub struct OpsDoor {
    chosen: Option<SocketAddr>,
    token: Option<OpsToken>,
}

/// An address that others can reach, and nothing to tell operators by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a loopback address, but there is no token for operators")]
pub struct NeedsToken;

impl OpsDoor {
    /// Without a chosen address it is [`HttpConfig::OPS_DEFAULT`], or another free port when that one is taken.
    ///
    /// # Errors
    ///
    /// [`NeedsToken`]: do not listen there.
    pub fn new(chosen: Option<SocketAddr>, token: Option<OpsToken>) -> Result<Self, NeedsToken> {
        let is_private = chosen.is_none_or(|address| address.ip().is_loopback());
        if is_private || token.is_some() { Ok(Self { chosen, token }) } else { Err(NeedsToken) }
    }

    pub const fn chosen(&self) -> Option<SocketAddr> {
        self.chosen
    }

    pub const fn token(&self) -> Option<&OpsToken> {
        self.token.as_ref()
    }
}

#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where clients connect (`APP_HOST`, `APP_PORT`); port 0 takes a free one.
    pub bind: SocketAddr,
    /// Where operators connect, and with what (`OPS_BIND`, `OPS_TOKEN`).
    pub ops: OpsDoor,
    /// Origins whose pages may call us (`ALLOWED_ORIGINS`); empty turns CORS off.
    pub allowed_origins: Vec<PageOrigin>,
    /// How long browsers keep their refresh tokens in a cookie (`BROWSER_SESSIONS`); `None` neither sets nor reads any.
    pub browser_sessions: Option<Duration>,
    /// Whether Ollama's paths may have an API key in front (`API_KEY_IN_PATH`).
    pub key_in_path: bool,
    /// Peers whose `X-Forwarded-For` and `X-Request-Id` we believe (`TRUSTED_PROXY_IPS`); nobody by default.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest chat body (`MAX_REQUEST_SIZE_BYTES`).
    pub max_request_bytes: usize,
    /// All bodies being read at once, in bytes.
    pub body_budget_bytes: usize,
    /// Requests between their head and the end of their reply (`MAX_INFLIGHT_REQUESTS`); health checks are not counted.
    pub max_in_flight: usize,
    /// Open connections in all.
    pub max_connections: usize,
    /// Open connections from one direct peer; loopback and trusted proxies are exempt.
    pub max_connections_per_address: usize,
    /// For a whole request head, and for an idle connection to send its next one.
    pub header_read_timeout: Duration,
    /// Between two pieces of a request body.
    pub body_progress_timeout: Duration,
    /// For a whole request body.
    pub body_timeout: Duration,
    /// How long a peer may accept no byte before its connection is closed.
    pub write_stall_timeout: Duration,
    /// Time a request has when it does not say (`X-Request-Timeout`).
    pub deadline: Duration,
    /// The same, for chats.
    pub chat_deadline: Duration,
    /// A quiet event stream says a comment this often.
    pub heartbeat: Duration,
    /// How long a shutdown keeps accepting, so that load balancers see that we are no longer ready.
    pub drain_accept: Duration,
    /// How long running requests have from the beginning of a shutdown (`SHUTDOWN_GRACE_SECS`).
    pub drain_grace: Duration,
}

impl HttpConfig {
    pub const OPS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

    /// The defaults, listening on `bind`.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            ops: OpsDoor::default(),
            allowed_origins: Vec::new(),
            browser_sessions: None,
            key_in_path: false,
            trusted_proxies: Vec::new(),
            max_request_bytes: 2 << 20,
            body_budget_bytes: 256 << 20,
            max_in_flight: 2_048,
            max_connections: 4_096,
            max_connections_per_address: 64,
            header_read_timeout: Duration::from_secs(15),
            body_progress_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(10),
            chat_deadline: Duration::from_secs(600),
            heartbeat: Duration::from_secs(15),
            drain_accept: Duration::from_secs(2),
            drain_grace: Duration::from_secs(30),
        }
    }

    /// Whether we believe what `peer` says about whom it speaks for.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&peer))
    }
}
