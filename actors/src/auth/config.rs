//! Settings of the auth room.

use std::{path::PathBuf, time::Duration};

use domain::secret::Secret;

use super::{secret, sign_in::Lifetimes};
use crate::system::StartError;

/// A13: an identity that was ended elsewhere is over here within this time.
const MAX_SESSION_CACHE: Duration = Duration::from_secs(5);

/// A11: a stolen parent token must not work for long.
const MAX_REFRESH_GRACE: Duration = Duration::from_secs(60);

/// Nothing here makes sense for longer, and sums of it must not overflow.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 366 * 86_400);

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
}

impl AuthConfig {
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
        ] {
            if value < least || value > most {
                let (least, most) = (least.as_secs(), most.as_secs());
                problems.push(format!(
                    "auth.{name}: {} s is out of bounds; choose {least} to {most} s",
                    value.as_secs_f64()
                ));
            }
        }
        problems
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
