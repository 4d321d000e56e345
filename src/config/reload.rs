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
    use super::*;

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
