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
mod reload;
mod rules;
mod sources;
#[cfg(test)]
mod tests;
mod upstreams;

pub use print::{env_example, markdown_table, reload_table, report};
pub use problem::{Problem, Problems};
pub use reload::{Change, Reload};
pub use sources::{Origin, Raw, Settings, Sources};

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use actors::{
    auth::{AuthConfig, SignUp},
    db::DbConfig,
    model::{ModelConfig, Timeouts, UpstreamKind},
    ops::OpsToken,
    password::{HashCost, PasswordConfig},
    rate_limit::RateLimitConfig,
    relay::RelayConfig,
    system::SystemConfig,
    upkeep::UpkeepConfig,
};

use domain::{
    limits::{requests_per_minute, tokens_per_minute},
    model_access::{ModelPatterns, RoleModels},
    signing_key::SigningAlgorithm,
};

use self::reader::Reader;
use crate::{
    http::{HttpConfig, OpsDoor},
    telemetry::{self, TraceConfig},
};

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
    pub trace: TraceConfig,
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
        let config = Self::judge(&settings, problems);
        (settings, config)
    }

    /// `problems` are those that were found while the sources were read.
    fn judge(settings: &Settings, problems: Vec<Problem>) -> Result<Self, Problems> {
        let mut reader = Reader::new(settings, problems);
        let config = read(&mut reader);
        let mut problems = reader.into_problems();
        rules::judge(&config, &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
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
    let auth = auth(reader, data_dir.clone());
    let instances: u16 = reader.whole(&keys::INSTANCE_COUNT).unwrap_or_default();
    let rate_limit = rate_limit(reader, instances);
    Config {
        environment,
        log: LogConfig { filter: reader.optional(&keys::RUST_LOG, log_filter).unwrap_or_default(), format },
        trace: TraceConfig {
            endpoint: reader.optional(&keys::OTEL_EXPORTER_OTLP_ENDPOINT, reader::collector),
            service: reader.text(&keys::OTEL_SERVICE_NAME),
            share: reader.share(&keys::OTEL_TRACES_SAMPLER_ARG),
        },
        http: http(reader, auth.refresh_idle),
        system: SystemConfig {
            db: DbConfig {
                database_url: reader.optional(&keys::DATABASE_URL, reader::postgres),
                migrate_url: reader.optional(&keys::MIGRATE_DATABASE_URL, reader::postgres),
                read_url: reader.optional(&keys::DATABASE_READ_URL, reader::postgres),
                readers: reader.count(&keys::DATABASE_READERS),
                writers: reader.count(&keys::DATABASE_WRITERS),
                instances: instances.into(),
                ..DbConfig::new(data_dir)
            },
            auth,
            password: password(reader),
            relay: RelayConfig::new(rate_limit.redis_url.clone()),
            rate_limit,
            model: model(reader, instances),
            upkeep: upkeep(reader),
        },
    }
}

/// Whether the log can be filtered by it.
pub(crate) fn is_log_filter(text: &str) -> bool {
    !text.trim().is_empty() && log_filter(text).is_ok()
}

/// Directives that the log's filter understands.
fn log_filter(text: &str) -> Result<String, reader::Bad> {
    telemetry::log::parse(text)
        .map(|_| text.to_owned())
        .map_err(|_| reader::Bad::new("is no log filter", "give a level such as info, or info,actors=debug"))
}

fn http(reader: &mut Reader<'_>, refresh_idle: Duration) -> HttpConfig {
    let host = reader.address(&keys::APP_HOST).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = reader.whole(&keys::APP_PORT).unwrap_or_default();
    // The default may give way to a free port; an address somebody asked for may not.
    let chosen = reader.socket(&keys::OPS_BIND).filter(|_| reader.is_given(&keys::OPS_BIND));
    let token = reader.secret(&keys::OPS_TOKEN).map(OpsToken::new);
    let ops = OpsDoor::new(chosen, token).unwrap_or_else(|_| {
        let fix = "set OPS_TOKEN to what `openssl rand -base64 48` prints, or listen on 127.0.0.1:9464";
        reader.refuse(
            &keys::OPS_BIND,
            reader::Bad::new("can be reached from elsewhere, but asks for no token", fix),
        );
        OpsDoor::default()
    });
    HttpConfig {
        ops,
        allowed_origins: reader.list(&keys::ALLOWED_ORIGINS, reader::origin),
        browser_sessions: reader.switch(&keys::BROWSER_SESSIONS).then_some(refresh_idle),
        key_in_path: reader.switch(&keys::API_KEY_IN_PATH),
        trusted_proxies: reader.list(&keys::TRUSTED_PROXY_IPS, reader::network),
        max_request_bytes: reader.count(&keys::MAX_REQUEST_SIZE_BYTES),
        max_in_flight: reader.count(&keys::MAX_INFLIGHT_REQUESTS),
        max_connections: reader.count(&keys::MAX_CONNECTIONS),
        max_connections_per_address: reader.count(&keys::MAX_CONNECTIONS_PER_IP),
        drain_grace: reader.seconds(&keys::SHUTDOWN_GRACE_SECS),
        ..HttpConfig::new(SocketAddr::new(host, port))
    }
}

fn auth(reader: &mut Reader<'_>, data_dir: PathBuf) -> AuthConfig {
    AuthConfig {
        secret: reader.secret(&keys::JWT_SECRET),
        algorithm: match reader.choice(&keys::JWT_ALGORITHM) {
            1 => SigningAlgorithm::EdDsa,
            _ => SigningAlgorithm::Hs256,
        },
        issuer: reader.text(&keys::JWT_ISSUER),
        access_ttl: reader.seconds(&keys::JWT_ACCESS_TTL_SECS),
        refresh_idle: reader.seconds(&keys::JWT_REFRESH_TTL_SECS),
        session_max: reader.seconds(&keys::SESSION_MAX_SECS),
        sign_up: match reader.choice(&keys::SIGNUP_MODE) {
            2 => SignUp::Closed,
            1 => SignUp::Invite,
            _ => SignUp::Open,
        },
        password_min_chars: reader.count(&keys::PASSWORD_MIN_LENGTH),
        ..AuthConfig::new(data_dir)
    }
}

fn upkeep(reader: &mut Reader<'_>) -> UpkeepConfig {
    let days: u64 = reader.whole(&keys::CONVERSATION_RETENTION_DAYS).unwrap_or_default();
    UpkeepConfig { retention: (days > 0).then(|| Duration::from_hours(24 * days)) }
}

fn password(reader: &mut Reader<'_>) -> PasswordConfig {
    PasswordConfig {
        workers: reader.whole(&keys::PASSWORD_WORKERS),
        cost: HashCost {
            memory_kib: reader.whole(&keys::PASSWORD_HASH_MEMORY_KIB).unwrap_or_default(),
            passes: reader.whole(&keys::PASSWORD_HASH_PASSES).unwrap_or_default(),
            lanes: reader.whole(&keys::PASSWORD_HASH_LANES).unwrap_or_default(),
        },
    }
}

fn rate_limit(reader: &mut Reader<'_>, instances: u16) -> RateLimitConfig {
    fn whole(reader: &mut Reader<'_>, key: &keys::Key) -> u32 {
        reader.whole(key).unwrap_or_default()
    }
    let user = whole(reader, &keys::RATE_LIMIT_REQUESTS_PER_MINUTE);
    let new = RateLimitConfig::new(user, whole(reader, &keys::RATE_LIMIT_BURST));
    RateLimitConfig {
        model: reader.whole(&keys::RATE_LIMIT_MODEL_REQUESTS_PER_MINUTE).map(requests_per_minute),
        tokens: reader.whole(&keys::RATE_LIMIT_TOKENS_PER_MINUTE).map(tokens_per_minute),
        reserve_tokens: reader.whole(&keys::RATE_LIMIT_RESERVE_TOKENS).unwrap_or_default(),
        log_in: RateLimitConfig::per_minute(
            whole(reader, &keys::LOG_IN_PER_MINUTE),
            whole(reader, &keys::LOG_IN_BURST),
        ),
        sign_up: RateLimitConfig::per_hour(
            whole(reader, &keys::SIGN_UP_PER_HOUR),
            whole(reader, &keys::SIGN_UP_BURST),
        ),
        streams: whole(reader, &keys::STREAMS_PER_USER),
        instance_count: instances.into(),
        enabled: reader.switch(&keys::RATE_LIMIT_ENABLED),
        redis_url: reader.optional(&keys::REDIS_URL, reader::redis),
        ..new
    }
}

fn model(reader: &mut Reader<'_>, instances: u16) -> ModelConfig {
    let idle = reader.seconds(&keys::UPSTREAM_IDLE_TIMEOUT_SECS);
    let defaults = Timeouts::default();
    let queue_limit = reader.count(&keys::MODEL_QUEUE_LIMIT);
    let mut queue_per_user = reader.count(&keys::MODEL_QUEUE_PER_USER);
    // Who narrows the queue alone has said nothing about users that could contradict it.
    if !reader.is_given(&keys::MODEL_QUEUE_PER_USER) {
        queue_per_user = queue_per_user.min(queue_limit);
    }
    ModelConfig {
        upstreams: upstreams::read(reader),
        slots: reader.count(&keys::OLLAMA_NUM_PARALLEL),
        slots_of: reader.by_model(&keys::MODEL_SLOTS, reader::model_slots),
        adaptive: reader.list(&keys::MODEL_ADAPTIVE, reader::model).into_iter().collect(),
        instance_count: instances.into(),
        // Ollama's own name, and 0 is its own word for "no limit".
        max_loaded: reader.whole(&keys::OLLAMA_MAX_LOADED_MODELS).filter(|limit| *limit > 0),
        min_residence: reader.seconds(&keys::MODEL_MIN_RESIDENCE_SECS),
        queue_limit,
        queue_per_user,
        role_models: RoleModels {
            users: models_of(reader, &keys::USER_MODELS),
            admins: models_of(reader, &keys::ADMIN_MODELS),
        },
        aliases: reader.optional(&keys::MODEL_ALIASES, reader::aliases).unwrap_or_default(),
        answer_tokens: reader.whole(&keys::MAX_OUTPUT_TOKENS).unwrap_or_default(),
        answer_tokens_of: reader.by_model(&keys::MODEL_MAX_OUTPUT_TOKENS, reader::model_tokens),
        allow_cloud: reader.switch(&keys::ALLOW_CLOUD_MODELS),
        timeouts: Timeouts {
            first_byte: reader.seconds(&keys::UPSTREAM_FIRST_BYTE_TIMEOUT_SECS),
            idle,
            // Whoever allows long silences in plain text allows them where they are normal, too.
            idle_long: defaults.idle_long.max(idle),
            ..defaults
        },
        turn_max: reader.seconds(&keys::TURN_MAX_SECS),
        reply_budget_bytes: reader.count(&keys::REPLY_BUDGET_BYTES),
        prompt_budget_bytes: reader.count(&keys::PROMPT_BUDGET_BYTES),
        ..ModelConfig::default()
    }
}

/// What is in no source is in the default.
fn models_of(reader: &mut Reader<'_>, key: &keys::Key) -> ModelPatterns {
    reader.optional(key, reader::patterns).unwrap_or_else(ModelPatterns::none)
}
