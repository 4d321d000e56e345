//! What the auth room counts.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{
    AuthError,
    message::Unknown,
    truth::{State, Subject, Truth},
};

/// How a check or a look-up ended.
#[derive(Debug, Clone, Copy)]
enum CheckOutcome {
    Accepted,
    Refused,
    Unavailable,
}

impl CheckOutcome {
    const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Unavailable];

    const fn label(self) -> (&'static str, &'static str) {
        let outcome = match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        };
        ("outcome", outcome)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum SignInAction {
    SignUp,
    LogIn,
    Refresh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignInOutcome {
    Success,
    Refused,
    /// Not looked at, since too much was tried before.
    Throttled,
    /// A spent refresh token was shown: somebody has stolen one.
    Reuse,
    /// Nothing was decided, since something we need was away or busy.
    Unavailable,
}

impl SignInAction {
    const ALL: [Self; 3] = [Self::SignUp, Self::LogIn, Self::Refresh];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::LogIn => "log_in",
            Self::Refresh => "refresh",
        }
    }
}

impl SignInOutcome {
    const ALL: [Self; 5] = [Self::Success, Self::Refused, Self::Throttled, Self::Reuse, Self::Unavailable];

    pub(super) fn of<T>(outcome: &Result<T, AuthError>) -> Self {
        match outcome {
            Ok(_) => Self::Success,
            Err(
                AuthError::MalformedEmail
                | AuthError::WeakPassword(_)
                | AuthError::EmailTaken
                | AuthError::BadCredentials
                | AuthError::BadToken
                | AuthError::NeedsSession
                | AuthError::NotFound(_)
                | AuthError::BadRequest { .. }
                | AuthError::TooMany(_)
                | AuthError::LastAdministrator
                | AuthError::NeedsInvite
                | AuthError::SignUpClosed,
            ) => Self::Refused,
            Err(AuthError::Throttled { .. }) => Self::Throttled,
            Err(AuthError::Overloaded { .. } | AuthError::Unavailable(_) | AuthError::Internal(_)) => {
                Self::Unavailable
            }
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Reuse => "reuse",
            Self::Unavailable => "unavailable",
        }
    }
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters of each request are held ready: a family costs a lock and a search.
#[derive(Clone)]
pub(super) struct AuthMetrics {
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) unavailable: Counter,
    /// Accepted without a signature check.
    pub(super) remembered: Counter,
    /// Accepted by truth past its life, because the store was away.
    pub(super) stale: Counter,
    /// Refusals of strangers that came too fast to be told of.
    pub(super) untold: Counter,
    look_ups: Family<Labels<1>, Counter>,
    key_look_ups: Family<Labels<1>, Counter>,
    sign_ins: Family<Labels<2>, Counter>,
}

impl AuthMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let checks = Family::<Labels<1>, Counter>::default();
        let of = |outcome: CheckOutcome| checks.get_or_create_owned(&[outcome.label()]);
        let metrics = Self {
            accepted: of(CheckOutcome::Accepted),
            refused: of(CheckOutcome::Refused),
            unavailable: of(CheckOutcome::Unavailable),
            remembered: Counter::default(),
            stale: Counter::default(),
            untold: Counter::default(),
            look_ups: Family::default(),
            key_look_ups: Family::default(),
            sign_ins: Family::default(),
        };
        // Rates of what has not happened yet are 0, not unknown.
        for outcome in CheckOutcome::ALL {
            drop(metrics.look_ups.get_or_create(&[outcome.label()]));
            drop(metrics.key_look_ups.get_or_create(&[outcome.label()]));
        }
        for action in SignInAction::ALL {
            for outcome in SignInOutcome::ALL {
                drop(metrics.sign_ins.get_or_create(&sign_in(action, outcome)));
            }
        }
        registry.register(
            "deepersensor_token_checks",
            "Access tokens and API keys judged, by outcome. Worry when many are refused: somebody guesses, or a client holds an old key",
            checks,
        );
        registry.register(
            "deepersensor_token_cache_hits",
            "Access tokens accepted without checking the signature again. Most should be",
            metrics.remembered.clone(),
        );
        registry.register(
            "deepersensor_session_stale_serves",
            "Callers accepted by what was known before the store went away. Worry at any: the store is away",
            metrics.stale.clone(),
        );
        registry.register(
            "deepersensor_audit_untold",
            "Refusals of strangers that came too fast to be written into the audit trail and the log. Worry when it grows: somebody tries many \
             doors",
            metrics.untold.clone(),
        );
        registry.register(
            "deepersensor_session_look_ups",
            "Questions to the store about a session, by outcome. Worry when any are unavailable",
            metrics.look_ups.clone(),
        );
        registry.register(
            "deepersensor_key_look_ups",
            "Questions to the store about an API key, by outcome. Worry when any are unavailable",
            metrics.key_look_ups.clone(),
        );
        registry.register(
            "deepersensor_sign_ins",
            "Sign-ups, log-ins and refreshes, by outcome. Worry at any reuse (a stolen refresh token) and when log-ins are throttled",
            metrics.sign_ins.clone(),
        );
        metrics
    }

    pub(super) fn looked_up(&self, subject: Subject, found: &Result<Truth, Unknown>) {
        let outcome = match found.as_ref().map(|truth| &truth.state) {
            Ok(State::Session { .. } | State::Key { .. }) => CheckOutcome::Accepted,
            Ok(State::Ended | State::Unknown) => CheckOutcome::Refused,
            Err(Unknown::StoreAway | Unknown::Broken) => CheckOutcome::Unavailable,
        };
        let look_ups = match subject {
            Subject::Session(_) => &self.look_ups,
            Subject::Key(_) => &self.key_look_ups,
        };
        look_ups.get_or_create(&[outcome.label()]).inc();
    }

    pub(super) fn signed_in(&self, action: SignInAction, outcome: SignInOutcome) {
        self.sign_ins.get_or_create(&sign_in(action, outcome)).inc();
    }
}

const fn sign_in(action: SignInAction, outcome: SignInOutcome) -> Labels<2> {
    [("action", action.as_str()), ("outcome", outcome.as_str())]
}
