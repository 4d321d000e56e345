//! Configuration: layered sources, one table of keys, all problems at once.
//!
//! ```text
//! Sources ──▶ Settings (name → text, origin) ──▶ Reader (typed, collects problems) ──▶ rules ──▶ Config
//! ```
//!
//! This is the only code that reads the environment. The rooms' own config structs are filled here; the service below
//! never sees a name of a key.
//!
//! # When it breaks
//!
//! Before anything is started: [`Config::load`] returns every problem it found, each with its key, its source and a
//! fix.

pub mod keys;
mod print;
mod problem;
mod reader;
mod rules;
mod sources;
#[cfg(test)]
mod tests;

pub use print::{env_example, markdown_table, report};
pub use problem::{Problem, Problems};
pub use sources::{Origin, Raw, Settings, Sources};

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use actors::{
    auth::AuthConfig,
    db::DbConfig,
    model::{ModelConfig, Timeouts, UpstreamConfig, UpstreamKind},
    rate_limit::RateLimitConfig,
    system::SystemConfig,
};

use self::reader::Reader;
use crate::http::HttpConfig;

/// What an instance is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    Local,
    Test,
    Production,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `tracing` filter directives.
    pub filter: String,
    pub format: LogFormat,
}

/// A judged configuration: everything that [`crate::app::App`] and the verbs need.
#[derive(Debug, Clone)]
pub struct Config {
    pub environment: Environment,
    pub log: LogConfig,
    pub http: HttpConfig,
    pub system: SystemConfig,
}

impl Config {
    /// Reads all sources and judges the result.
    ///
    /// # Errors
    ///
    /// [`Problems`]: print them and start nothing.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let (_, config) = Self::examine(sources);
        config
    }

    /// Like [`Config::load`], and also what was set where, for people to look at.
    pub fn examine(sources: &Sources) -> (Settings, Result<Self, Problems>) {
        let mut problems = Vec::new();
        let settings = Settings::resolve(sources, &mut problems);
        let mut reader = Reader::new(&settings, problems);
        let config = read(&mut reader);
        let mut problems = reader.into_problems();
        rules::judge(&config, &mut problems);
        (settings, if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) })
    }

    /// Where SQLite and generated secrets live.
    pub const fn data_dir(&self) -> &PathBuf {
        &self.system.db.data_dir
    }

    /// Whether the built-in demo model is among the upstreams.
    pub fn offers_demo_model(&self) -> bool {
        self.system.model.upstreams.iter().any(|upstream| upstream.kind == UpstreamKind::Demo)
    }
}

fn read(reader: &mut Reader<'_>) -> Config {
    let data_dir: PathBuf = reader.text(&keys::DATA_DIR).into();
    let environment = match reader.choice(&keys::APP_ENV) {
        2 => Environment::Production,
        1 => Environment::Test,
        _ => Environment::Local,
    };
    let format = match reader.choice(&keys::LOG_FORMAT) {
        1 => LogFormat::Json,
        _ => LogFormat::Text,
    };
    Config {
        environment,
        log: LogConfig { filter: reader.optional(&keys::RUST_LOG, log_filter).unwrap_or_default(), format },
        http: http(reader),
        system: SystemConfig {
            db: DbConfig {
                database_url: reader.optional(&keys::DATABASE_URL, reader::postgres),
                ..DbConfig::new(data_dir.clone())
            },
            auth: auth(reader, data_dir),
            password_workers: reader.whole(&keys::PASSWORD_WORKERS),
            rate_limit: RateLimitConfig {
                enabled: reader.switch(&keys::RATE_LIMIT_ENABLED),
                ..RateLimitConfig::new(
                    reader.whole(&keys::RATE_LIMIT_REQUESTS_PER_MINUTE).unwrap_or_default(),
                    reader.whole(&keys::RATE_LIMIT_BURST).unwrap_or_default(),
                )
            },
            model: model(reader),
        },
    }
}

/// Directives that the log's filter understands.
fn log_filter(text: &str) -> Result<String, reader::Bad> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|_| reader::Bad::new("is no log filter", "give a level such as info, or info,actors=debug"))
}

fn http(reader: &mut Reader<'_>) -> HttpConfig {
    let host = reader.address(&keys::APP_HOST).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = reader.whole(&keys::APP_PORT).unwrap_or_default();
    // The default may give way to a free port; an address somebody asked for may not.
    let ops_bind = reader.loopback(&keys::OPS_BIND).filter(|_| reader.is_given(&keys::OPS_BIND));
    HttpConfig {
        ops_bind,
        allowed_origins: reader.list(&keys::ALLOWED_ORIGINS, reader::origin),
        trusted_proxies: reader.list(&keys::TRUSTED_PROXY_IPS, reader::network),
        max_request_bytes: reader.count(&keys::MAX_REQUEST_SIZE_BYTES),
        max_in_flight: reader.count(&keys::MAX_INFLIGHT_REQUESTS),
        max_connections: reader.count(&keys::MAX_CONNECTIONS),
        max_connections_per_address: reader.count(&keys::MAX_CONNECTIONS_PER_IP),
        ..HttpConfig::new(SocketAddr::new(host, port))
    }
}

fn auth(reader: &mut Reader<'_>, data_dir: PathBuf) -> AuthConfig {
    AuthConfig {
        secret: reader.secret(&keys::JWT_SECRET),
        issuer: reader.text(&keys::JWT_ISSUER),
        access_ttl: reader.seconds(&keys::JWT_ACCESS_TTL_SECS),
        refresh_idle: reader.seconds(&keys::JWT_REFRESH_TTL_SECS),
        session_max: reader.seconds(&keys::SESSION_MAX_SECS),
        ..AuthConfig::new(data_dir)
    }
}

fn model(reader: &mut Reader<'_>) -> ModelConfig {
    let idle = reader.seconds(&keys::UPSTREAM_IDLE_TIMEOUT_SECS);
    let defaults = Timeouts::default();
    ModelConfig {
        upstreams: upstreams(reader),
        slots: reader.count(&keys::OLLAMA_NUM_PARALLEL),
        instance_count: reader.count(&keys::INSTANCE_COUNT),
        queue_limit: reader.count(&keys::MODEL_QUEUE_LIMIT),
        queue_per_user: reader.count(&keys::MODEL_QUEUE_PER_USER),
        allow_cloud: reader.switch(&keys::ALLOW_CLOUD_MODELS),
        timeouts: Timeouts {
            first_byte: reader.seconds(&keys::UPSTREAM_FIRST_BYTE_TIMEOUT_SECS),
            idle,
            // Whoever allows long silences in plain text allows them where they are normal, too.
            idle_long: defaults.idle_long.max(idle),
            ..defaults
        },
        reply_budget_bytes: reader.count(&keys::REPLY_BUDGET_BYTES),
        ..ModelConfig::default()
    }
}

/// The Ollama server, then the demo model. Each server that is named is listed, for [`rules`] to judge.
fn upstreams(reader: &mut Reader<'_>) -> Vec<UpstreamConfig> {
    let mut upstreams: Vec<UpstreamConfig> = Vec::new();
    for base_url in reader.list(&keys::OLLAMA_BASE_URL, reader::upstream) {
        let kind = UpstreamKind::Ollama { base_url };
        // Naming a server twice must not double its slots.
        if upstreams.iter().all(|known| known.kind != kind) {
            upstreams.push(UpstreamConfig { name: "ollama".to_owned(), kind });
        }
    }
    if reader.switch(&keys::DEMO_MODEL) {
        upstreams.push(UpstreamConfig { name: "demo".to_owned(), kind: UpstreamKind::Demo });
    }
    upstreams
}
