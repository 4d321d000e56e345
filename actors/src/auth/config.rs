//! Settings of the auth room.

use std::{path::PathBuf, time::Duration};

use domain::{password, secret::Secret, signing_key::SigningAlgorithm};

use super::{key_times::KeyTimes, secret};
use crate::system::StartError;

/// A13: an identity that was ended elsewhere is over here within this time.
const MAX_SESSION_CACHE: Duration = Duration::from_secs(5);

/// A11: a stolen parent token must not work for long.
const MAX_REFRESH_GRACE: Duration = Duration::from_secs(60);

/// A rotation should be over within minutes.
const MAX_KEY_POLL: Duration = Duration::from_secs(60);

/// Nothing here makes sense for longer, and sums of it must not overflow.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Who may make an account of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignUp {
    #[default]
    Open,
    /// Whoever was given a code.
    Invite,
    /// Nobody, except for the first administrator.
    Closed,
}

#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The master secret; `None` loads or generates one in `data_dir` with mode 0600.
    pub secret: Option<Secret<String>>,
    pub data_dir: PathBuf,
    pub issuer: String,
    pub audience: String,
    pub access_ttl: Duration,
    /// A session that rests longer than this is over.
    pub refresh_idle: Duration,
    /// A session that is older than this is over, however busy.
    pub session_max: Duration,
    /// How long the direct parent of a refresh token still gets its successor.
    pub refresh_grace: Duration,
    /// How long a session's state may be believed without asking the store.
    pub session_cache: Duration,
    pub sign_up: SignUp,
    /// Characters that a new password needs.
    pub password_min_chars: usize,
    /// What access tokens are signed with, from the next key on.
    pub algorithm: SigningAlgorithm,
    /// Time between two looks for new signing keys; a new one signs after three of them.
    pub key_poll: Duration,
    /// How long others may keep our public keys; a new EdDSA key signs only after that.
    pub jwks_max_age: Duration,
}

/// The settings that can change while the room lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountRules {
    pub(super) sign_up: SignUp,
    pub(super) password_min_chars: usize,
}

impl AccountRules {
    pub const fn of(config: &AuthConfig) -> Self {
        Self { sign_up: config.sign_up, password_min_chars: config.password_min_chars }
    }
}

/// The settings that are reckoned with wall-clock time.
pub(super) struct Lifetimes {
    pub(super) refresh_idle: chrono::Duration,
    pub(super) refresh_grace: chrono::Duration,
    pub(super) session_max: chrono::Duration,
}

impl AuthConfig {
    /// Whether there is a master secret already; a start would draw one otherwise.
    pub fn has_secret(&self) -> bool {
        self.secret.is_some() || self.data_dir.join(secret::FILE).exists()
    }

    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            secret: None,
            data_dir,
            issuer: "deepersensor".to_owned(),
            audience: "deepersensor".to_owned(),
            access_ttl: Duration::from_secs(900),
            refresh_idle: Duration::from_secs(14 * 86_400),
            session_max: Duration::from_secs(30 * 86_400),
            refresh_grace: Duration::from_secs(10),
            session_cache: Duration::from_secs(5),
            sign_up: SignUp::default(),
            password_min_chars: password::MIN_CHARS,
            algorithm: SigningAlgorithm::Hs256,
            key_poll: Duration::from_secs(5),
            jwks_max_age: Duration::from_secs(600),
        }
    }

    /// Everything that is wrong with these settings, each as a sentence for the operator.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(weakness) = self.secret.as_ref().and_then(secret::weakness) {
            problems.push(format!("auth.secret: {weakness}"));
        }
        for (name, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if text.is_empty() {
                problems.push(format!("auth.{name}: it is empty; leave it out to get the default"));
            }
        }
        for (name, value, least, most) in [
            ("access_ttl", self.access_ttl, Duration::from_secs(1), MAX_LIFETIME),
            ("refresh_idle", self.refresh_idle, Duration::from_secs(1), MAX_LIFETIME),
            ("session_max", self.session_max, Duration::from_secs(1), MAX_LIFETIME),
            ("refresh_grace", self.refresh_grace, Duration::ZERO, MAX_REFRESH_GRACE),
            ("session_cache", self.session_cache, Duration::ZERO, MAX_SESSION_CACHE),
            ("key_poll", self.key_poll, Duration::from_millis(1), MAX_KEY_POLL),
            ("jwks_max_age", self.jwks_max_age, Duration::ZERO, MAX_LIFETIME),
        ] {
            if value < least || value > most {
                let (least, most) = (least.as_secs(), most.as_secs());
                problems.push(format!(
                    "auth.{name}: {} s is out of bounds; choose {least} to {most} s",
                    value.as_secs_f64()
                ));
            }
        }
        if !(password::MIN_CHARS..=password::MIN_CHARS_MAX).contains(&self.password_min_chars) {
            problems.push(format!(
                "auth.password_min_chars: {} is out of bounds; choose {} to {}",
                self.password_min_chars,
                password::MIN_CHARS,
                password::MIN_CHARS_MAX
            ));
        }
        problems
    }

    pub(super) const fn key_times(&self) -> KeyTimes {
        KeyTimes { access_ttl: self.access_ttl, poll: self.key_poll, jwks_max_age: self.jwks_max_age }
    }

    pub(super) fn lifetimes(&self) -> Result<Lifetimes, StartError> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(StartError::Config(problems.join("; ")));
        }
        let span = |duration| {
            chrono::Duration::from_std(duration).map_err(|error| StartError::Config(error.to_string()))
        };
        Ok(Lifetimes {
            refresh_idle: span(self.refresh_idle)?,
            refresh_grace: span(self.refresh_grace)?,
            session_max: span(self.session_max)?,
        })
    }
}
