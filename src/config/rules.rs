//! Rules that span several keys, and what `APP_ENV=production` demands on top.

use actors::ops::OpsToken;

use super::{Config, Environment, keys, problem::Problem};

/// Passwords that stand in examples, ours and other people's.
const SAMPLE_PASSWORDS: [&str; 9] =
    ["postgres", "password", "passwd", "secret", "changeme", "change-me", "example", "deepersensor", "admin"];

/// Judges a configuration whose values are all well-formed.
pub(crate) fn judge(config: &Config, problems: &mut Vec<Problem>) {
    listeners(config, problems);
    sessions(config, problems);
    queues(config, problems);
    secrets(config, problems);
    ops_token(config, problems);
    passwords(config, problems);
    databases(config, problems);
    if config.system.model.instance_count > 1 {
        several_instances(config, problems);
    }
    if config.environment == Environment::Production {
        production(config, problems);
    }
}

fn listeners(config: &Config, problems: &mut Vec<Problem>) {
    let Some(ops) = config.http.ops.chosen() else { return };
    if ops.port() != 0 && ops == config.http.bind {
        problems.push(Problem::new(
            keys::OPS_BIND.name,
            "is the address of the service",
            "give another port",
        ));
    }
}

fn sessions(config: &Config, problems: &mut Vec<Problem>) {
    let auth = &config.system.auth;
    if auth.access_ttl > auth.refresh_idle {
        problems.push(Problem::new(
            keys::JWT_ACCESS_TTL_SECS.name,
            "is longer than JWT_REFRESH_TTL_SECS: access would outlive its session",
            "make it the shorter of the two",
        ));
    }
    if auth.refresh_idle > auth.session_max {
        problems.push(Problem::new(
            keys::JWT_REFRESH_TTL_SECS.name,
            "is longer than SESSION_MAX_SECS, so it never has an effect",
            "make it at most SESSION_MAX_SECS",
        ));
    }
}

fn queues(config: &Config, problems: &mut Vec<Problem>) {
    let model = &config.system.model;
    if model.queue_per_user > model.queue_limit {
        problems.push(Problem::new(
            keys::MODEL_QUEUE_PER_USER.name,
            "is larger than MODEL_QUEUE_LIMIT, so it never has an effect",
            "make it at most MODEL_QUEUE_LIMIT",
        ));
    }
    if config.system.model.upstreams.is_empty() {
        problems.push(Problem::new(
            keys::OLLAMA_BASE_URL.name,
            "names no model server",
            "give an address such as http://127.0.0.1:11434",
        ));
    }
}

fn secrets(config: &Config, problems: &mut Vec<Problem>) {
    if let Some(weakness) = config.system.auth.secret.as_ref().and_then(actors::auth::secret_weakness) {
        problems.push(Problem::new(
            keys::JWT_SECRET.name,
            weakness,
            "draw one with `openssl rand -base64 48`, or remove the name to have one generated in DATA_DIR",
        ));
    }
}

/// Whoever collects metrics has it, so it must open nothing else; and it travels in a header.
fn ops_token(config: &Config, problems: &mut Vec<Problem>) {
    const DRAW: &str = "draw one with `openssl rand -base64 48`";
    let Some(token) = config.http.ops.token().map(OpsToken::secret) else { return };
    let mut refuse = |what: String| problems.push(Problem::new(keys::OPS_TOKEN.name, what, DRAW));
    if let Some(weakness) = actors::auth::secret_weakness(token) {
        refuse(weakness);
    } else if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        refuse("holds a character that cannot be sent in a header".to_owned());
    } else if config
        .system
        .auth
        .secret
        .as_ref()
        .is_some_and(|secret| secret.reveal().trim() == token.reveal())
    {
        refuse("is the same as JWT_SECRET: whoever collects metrics could sign in as anybody".to_owned());
    }
}

fn passwords(config: &Config, problems: &mut Vec<Problem>) {
    if let Some((what, fix)) = config.system.password.cost.problem() {
        problems.push(Problem::new(keys::PASSWORD_HASH_MEMORY_KIB.name, what, fix));
    }
}

/// Addresses of one database by other names, without that database.
fn databases(config: &Config, problems: &mut Vec<Problem>) {
    let db = &config.system.db;
    if db.database_url.is_some() {
        return;
    }
    for (key, url) in
        [(&keys::MIGRATE_DATABASE_URL, &db.migrate_url), (&keys::DATABASE_READ_URL, &db.read_url)]
    {
        if url.is_some() {
            problems.push(Problem::new(
                key.name,
                "is set without DATABASE_URL, so it would have no effect beside SQLite",
                "set DATABASE_URL, too, or remove it",
            ));
        }
    }
}

fn several_instances(config: &Config, problems: &mut Vec<Problem>) {
    if config.system.db.database_url.is_none() {
        problems.push(Problem::new(
            keys::INSTANCE_COUNT.name,
            "is above 1, but SQLite serves one instance only",
            "set DATABASE_URL to a Postgres that all instances share",
        ));
    }
    if config.system.model.max_loaded.is_some() {
        problems.push(Problem::new(
            keys::OLLAMA_MAX_LOADED_MODELS.name,
            "is set with INSTANCE_COUNT above 1, but instances would unload each other's models",
            "set it for the model server only, or run one instance",
        ));
    }
    if config.system.auth.secret.is_none() {
        problems.push(Problem::new(
            keys::INSTANCE_COUNT.name,
            "is above 1, but each instance would generate a secret of its own",
            "give all instances the same JWT_SECRET",
        ));
    }
}

fn production(config: &Config, problems: &mut Vec<Problem>) {
    if config.offers_demo_model() {
        problems.push(Problem::new(
            keys::DEMO_MODEL.name,
            "is true, which production refuses",
            "remove it, and name a model server in OLLAMA_BASE_URL",
        ));
    }
    let db = &config.system.db;
    for (key, url) in [
        (&keys::DATABASE_URL, &db.database_url),
        (&keys::MIGRATE_DATABASE_URL, &db.migrate_url),
        (&keys::DATABASE_READ_URL, &db.read_url),
    ] {
        if url.as_ref().and_then(|url| password_of(url.reveal())).is_some_and(|password| {
            SAMPLE_PASSWORDS.iter().any(|sample| sample.eq_ignore_ascii_case(password))
        }) {
            problems.push(Problem::new(
                key.name,
                "holds a sample password, which production refuses",
                "give the database user a password of its own",
            ));
        }
    }
}

/// The password inside `scheme://user:password@host/…`.
fn password_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (credentials, _) = rest.split('/').next()?.rsplit_once('@')?;
    credentials.split_once(':').map(|(_, password)| password)
}
