//! Other settings for a service that runs: what has changed in the sources, and how much of it can be put in force.
//!
//! The environment and the command line of a process never change, so what a reload finds anew are `.env`, the TOML file
//! and the files that hold secrets. All of it has to be valid, and so has what comes of it: the new value of each setting that a
//! reload changes beside the old value of each that needs a restart.

use std::fmt;

use super::{
    Config, Problems, Settings, Sources,
    keys::{self, Key},
    sources::Raw,
};

/// What a reload found, judged.
#[derive(Debug)]
pub struct Reload {
    /// In force once [`Reload::config`] is.
    pub settings: Settings,
    pub config: Config,
    pub changed: Vec<Change>,
    /// What has changed too, but needs a restart: it stays as it was.
    pub needs_restart: Vec<Change>,
}

/// A setting that is not what it was.
#[derive(Debug, Clone)]
pub struct Change {
    key: &'static Key,
    from: Option<Raw>,
    to: Option<Raw>,
}

impl Config {
    /// Reads all sources again, for a service on which `running` is in force.
    ///
    /// # Errors
    ///
    /// [`Problems`] of what was read, or of what would come of it: change nothing.
    pub fn reload(sources: &Sources, running: &Settings) -> Result<Reload, Problems> {
        let (fresh, judged) = Self::examine(sources);
        judged?;
        let mut settings = running.clone();
        let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
        for key in keys::ALL {
            let change = Change { key, from: running.get(key).cloned(), to: fresh.get(key).cloned() };
            let is_change = change.text(&change.from) != change.text(&change.to);
            if key.reload.is_some() {
                settings.take(key, &fresh);
            }
            match key.reload {
                _ if !is_change => {}
                Some(_) => changed.push(change),
                None => needs_restart.push(change),
            }
        }
        let config = Self::judge(&settings, Vec::new())?;
        Ok(Reload { settings, config, changed, needs_restart })
    }
}

impl Change {
    pub const fn name(&self) -> &'static str {
        self.key.name
    }

    /// What it was, as far as people may see it; `None` when it was not set.
    pub fn from(&self) -> Option<&str> {
        self.shown(&self.from)
    }

    /// What it is now.
    pub fn to(&self) -> Option<&str> {
        self.shown(&self.to)
    }

    fn text<'r>(&self, raw: &'r Option<Raw>) -> Option<&'r str> {
        raw.as_ref().map(|raw| raw.text.trim())
    }

    fn shown<'r>(&self, raw: &'r Option<Raw>) -> Option<&'r str> {
        self.text(raw).map(|text| if self.key.hides(text) { "[secret]" } else { text })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from().unwrap_or("not set"), self.to().unwrap_or("not set"));
        write!(f, "{}: {from} → {to}", self.key.name)
    }
}

#[cfg(test)]
mod tests {
    use actors::{
        auth::AccountRules,
        model::{ModelConfig, UpstreamConfig, UpstreamKind},
    };

    use super::*;
    use crate::http::Front;

    fn sources(pairs: &[(&str, &str)]) -> Sources {
        let environment = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Sources { environment: environment.collect(), ..Sources::default() }
    }

    fn running(pairs: &[(&str, &str)]) -> Settings {
        let (settings, config) = Config::examine(&sources(pairs));
        config.unwrap();
        settings
    }

    fn told(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_can_change_is_taken_and_what_needs_a_restart_is_named_and_left() {
        let running = running(&[("APP_PORT", "81"), ("RATE_LIMIT_BURST", "5"), ("MODEL_SLOTS", "a=2")]);
        let fresh = sources(&[("APP_PORT", "82"), ("RATE_LIMIT_BURST", "9"), ("JWT_ISSUER", "me")]);
        let reload = Config::reload(&fresh, &running).unwrap();
        assert_eq!(told(&reload.changed), ["RATE_LIMIT_BURST: 5 → 9", "MODEL_SLOTS: a=2 → not set"]);
        assert_eq!(told(&reload.needs_restart), ["APP_PORT: 81 → 82", "JWT_ISSUER: deepersensor → me"]);
        assert_eq!(reload.config.http.bind.port(), 81);
        assert_eq!(reload.config.system.rate_limit.user.burst, 9);
        // Said again until somebody restarts.
        let again = Config::reload(&fresh, &reload.settings).unwrap();
        assert!(again.changed.is_empty());
        assert_eq!(again.needs_restart.len(), 2);
    }

    /// What both instances of a pair share, so that each other value is valid beside it.
    const BASE: [(&str, &str); 2] = [
        ("DATABASE_URL", "postgres://ada:four-other-words@db/x"),
        ("JWT_SECRET", "Zk7rQ2vX9mB4tL8sW1yC6hN3dF5gJ0pA-it"),
    ];

    /// Of every key a value that is neither its default nor in [`BASE`].
    const OTHER: &[(&str, &str)] = &[
        ("APP_ENV", "test"),
        ("APP_HOST", "127.0.0.2"),
        ("APP_PORT", "8081"),
        ("OPS_BIND", "127.0.0.1:9465"),
        ("OPS_TOKEN", "hV2kQ9wZ4tR7mX1cL8bN5sF3dG6jP0yA-ops"),
        ("DATA_DIR", "/elsewhere"),
        ("RUST_LOG", "info,actors=debug"),
        ("LOG_FORMAT", "json"),
        ("SHUTDOWN_GRACE_SECS", "20"),
        ("INSTANCE_COUNT", "2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_SERVICE_NAME", "another"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("DATABASE_URL", "postgres://ada:four-other-words@db/y"),
        ("MIGRATE_DATABASE_URL", "postgres://eve:four-other-words@db/x"),
        ("DATABASE_READ_URL", "postgres://ada:four-other-words@replica/x"),
        ("DATABASE_READERS", "5"),
        ("DATABASE_WRITERS", "5"),
        ("CONVERSATION_RETENTION_DAYS", "30"),
        ("REDIS_URL", "redis://cache/0"),
        ("JWT_SECRET", "qX3vN8rT1zLk5WbYc0JhMf7UeD2sPaGo9iRt"),
        ("JWT_ALGORITHM", "EdDSA"),
        ("JWT_ISSUER", "another"),
        ("JWT_ACCESS_TTL_SECS", "600"),
        ("JWT_REFRESH_TTL_SECS", "86400"),
        ("SESSION_MAX_SECS", "1296000"),
        ("SIGNUP_MODE", "closed"),
        ("PASSWORD_MIN_LENGTH", "15"),
        ("PASSWORD_HASH_MEMORY_KIB", "20000"),
        ("PASSWORD_HASH_PASSES", "3"),
        ("PASSWORD_HASH_LANES", "2"),
        ("PASSWORD_WORKERS", "3"),
        ("ALLOWED_ORIGINS", "https://chat.example.org"),
        ("BROWSER_SESSIONS", "true"),
        ("API_KEY_IN_PATH", "true"),
        ("TRUSTED_PROXY_IPS", "10.0.0.0/8"),
        ("MAX_REQUEST_SIZE_BYTES", "4096"),
        ("MAX_INFLIGHT_REQUESTS", "7"),
        ("MAX_CONNECTIONS", "7"),
        ("MAX_CONNECTIONS_PER_IP", "7"),
        ("RATE_LIMIT_ENABLED", "false"),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "7"),
        ("RATE_LIMIT_BURST", "7"),
        ("RATE_LIMIT_MODEL_REQUESTS_PER_MINUTE", "7"),
        ("RATE_LIMIT_TOKENS_PER_MINUTE", "7"),
        ("RATE_LIMIT_RESERVE_TOKENS", "7"),
        ("STREAMS_PER_USER", "7"),
        ("LOG_IN_PER_MINUTE", "7"),
        ("LOG_IN_BURST", "7"),
        ("SIGN_UP_PER_HOUR", "7"),
        ("SIGN_UP_BURST", "7"),
        ("OLLAMA_BASE_URL", "http://127.0.0.1:11435"),
        ("UPSTREAMS", "gpu1 ollama http://127.0.0.1:11436 weight=3"),
        ("UPSTREAM_API_KEYS", "hosted=another"),
        ("OLLAMA_NUM_PARALLEL", "7"),
        ("OLLAMA_MAX_LOADED_MODELS", "7"),
        ("MODEL_MIN_RESIDENCE_SECS", "7"),
        ("MODEL_SLOTS", "llama3.2=7"),
        ("MODEL_ADAPTIVE", "llama3.2"),
        ("USER_MODELS", "qwen3:*"),
        ("ADMIN_MODELS", "-"),
        ("MODEL_ALIASES", "fast = llama3.2"),
        ("MAX_OUTPUT_TOKENS", "7"),
        ("MODEL_MAX_OUTPUT_TOKENS", "llama3.2=7"),
        ("DEMO_MODEL", "true"),
        ("ALLOW_CLOUD_MODELS", "true"),
        ("MODEL_QUEUE_LIMIT", "128"),
        ("MODEL_QUEUE_PER_USER", "7"),
        ("REPLY_BUDGET_BYTES", "16777216"),
        ("PROMPT_BUDGET_BYTES", "16777216"),
        ("UPSTREAM_FIRST_BYTE_TIMEOUT_SECS", "7"),
        ("UPSTREAM_IDLE_TIMEOUT_SECS", "7"),
        ("TURN_MAX_SECS", "70"),
    ];

    /// What else is set on both sides, so that the other value means something.
    fn beside(key: &str) -> &'static [(&'static str, &'static str)] {
        match key {
            "UPSTREAM_API_KEYS" => {
                &[("UPSTREAMS", "hosted openai https://llm.example/v1"), ("UPSTREAM_API_KEYS", "hosted=one")]
            }
            _ => &[],
        }
    }

    /// The keys that servers are shown, which are printed nowhere else.
    fn keys_of(models: &ModelConfig) -> Vec<String> {
        let key = |server: &UpstreamConfig| match &server.kind {
            UpstreamKind::OpenAi { key: Some(key), .. } => Some(key.reveal().clone()),
            _ => None,
        };
        models.upstreams.iter().filter_map(key).collect()
    }

    /// What a service goes by that was started with `was` and is told to go by `new`, as each of its rooms and the front end
    /// understand that.
    fn in_force(was: &Config, new: &Config) -> String {
        let front = Front::new(was.http.clone());
        front.reconfigure(&new.http);
        let models = was.system.model.followed_by(new.system.model.clone());
        let limits = was.system.rate_limit.followed_by(&new.system.rate_limit);
        let accounts = AccountRules::of(&new.system.auth);
        let upkeep = &new.system.upkeep;
        let secrets = keys_of(&models);
        format!("{:#?}", (models, secrets, limits, accounts, upkeep, &front.terms().config, &new.log.filter))
    }

    #[test]
    fn a_reload_changes_what_the_table_of_keys_says_it_changes_and_nothing_else() {
        let named: Vec<_> = OTHER.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, keys::ALL.iter().map(|key| key.name).collect::<Vec<_>>());
        for (key, other) in keys::ALL.iter().zip(OTHER) {
            let base = [&BASE[..], beside(key.name)].concat();
            let (running, was) = Config::examine(&sources(&base));
            let was = was.unwrap();
            let before = in_force(&was, &was);
            let fresh = sources(&[&base[..], &[*other]].concat());
            let reload = Config::reload(&fresh, &running).unwrap();
            let (changed, pending) = if key.reload.is_some() {
                (&reload.changed, &reload.needs_restart)
            } else {
                (&reload.needs_restart, &reload.changed)
            };
            assert_eq!(changed.iter().map(Change::name).collect::<Vec<_>>(), [key.name]);
            assert!(pending.is_empty(), "{}: {pending:?}", key.name);
            // The rooms choose rightly by themselves, too, when everything new is laid before them.
            for new in [reload.config, Config::load(&fresh).unwrap()] {
                let after = in_force(&was, &new);
                assert_eq!(after != before, key.reload.is_some(), "{}:\n{after}", key.name);
            }
        }
    }

    #[test]
    fn what_would_come_of_a_reload_is_judged_too() {
        let shared =
            [("DATABASE_URL", "postgres://a@b/c"), ("JWT_SECRET", "Zk7rQ2vX9mB4tL8sW1yC6hN3dF5gJ0pA-it")];
        let two: Vec<_> = shared.iter().chain(&[("INSTANCE_COUNT", "2")]).copied().collect();
        // Valid by itself, but two instances would unload each other's models until the restart.
        let one: Vec<_> = shared.iter().chain(&[("OLLAMA_MAX_LOADED_MODELS", "1")]).copied().collect();
        let problems = Config::reload(&sources(&one), &running(&two)).unwrap_err();
        assert!(problems.to_string().contains("OLLAMA_MAX_LOADED_MODELS"), "{problems}");
    }

    #[test]
    fn f04_no_secret_is_told() {
        let from = [("REDIS_URL", "redis://:canary-one@r/0"), ("OLLAMA_BASE_URL", "http://one")];
        let to = [("REDIS_URL", "redis://:canary-two@r/0"), ("OLLAMA_BASE_URL", "http://two")];
        let reload = Config::reload(&sources(&to), &running(&from)).unwrap();
        assert_eq!(told(&reload.needs_restart), ["REDIS_URL: [secret] → [secret]"]);
        assert_eq!(told(&reload.changed), ["OLLAMA_BASE_URL: http://one → http://two"]);
    }
}
