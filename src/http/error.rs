//! What clients read when something went wrong. Every such text is written in `words` and `rooms`, but for two kinds: what is
//! wrong with a field is said by whoever knows its rule, to the person who wrote the field, and how a turn ended by the room
//! that ran it, or reads it from the store. No other error's text is passed on.

mod code;
mod rooms;
mod wire;
mod words;

use std::{borrow::Cow, sync::Arc, time::Duration};

use domain::{kind::Kind, wait::whole_seconds};
use http::StatusCode;
use serde::Serialize;

pub(crate) use self::wire::{AnthropicErrorBody, ErrorBody, OllamaErrorBody, Place, Wire};

use self::code::Code;
use crate::config::Problem;

/// A refusal or failure on its way to a client.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: Code,
    kind: Kind,
    message: Cow<'static, str>,
    /// The field of the request that is at fault.
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    /// Whether `Retry-After` may be made longer, so that callers do not come back together.
    may_spread: bool,
    /// For 405: the methods the path has.
    allow: Option<Arc<str>>,
    /// What really happened, for the log only.
    cause: Option<String>,
    /// All that is wrong with the service's settings.
    faults: Option<Box<Faults>>,
}

/// Boxed as a whole: nearly no error has any.
#[derive(Debug)]
struct Faults(Vec<Fault>);

/// One thing to mend in the service's settings; never holds a secret.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct Fault {
    pub(crate) setting: String,
    /// Where its value comes from.
    pub(crate) origin: Option<String>,
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl From<Problem> for Fault {
    fn from(Problem { key, origin, what, fix }: Problem) -> Self {
        Self { setting: key, origin, what, fix }
    }
}

/// `{"code","message","type","param","request_id"}`.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorObject<'a> {
    /// Stable; branch on it.
    pub(crate) code: &'a str,
    /// For people; may change.
    pub(crate) message: &'a str,
    #[serde(rename = "type")]
    pub(crate) class: &'a str,
    /// The field of the request at fault, where there is one.
    pub(crate) param: Option<&'a str>,
    pub(crate) request_id: &'a str,
    /// Seconds; only inside a stream, where no header can say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
    /// All that is wrong with the service's settings; only after a reload that was refused.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    pub(crate) problems: &'a [Fault],
}

/// When nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(1);

impl ApiError {
    fn new(status: StatusCode, code: Code, kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            may_spread: true,
            allow: None,
            cause: None,
            faults: None,
        }
    }

    fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub(crate) fn at(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Asks to come back soon, if at all: waiting as long as would spare us costs the caller more than an answer.
    pub(crate) fn retry_promptly(mut self) -> Self {
        self.retry_after = self.retry_after.map(|wait| wait.min(RETRY_SOON));
        self.may_spread = false;
        self
    }

    /// Whoever refused it has given each caller a moment of its own.
    pub(super) fn paced(mut self) -> Self {
        self.may_spread = false;
        self
    }

    pub(crate) fn may_spread(&self) -> bool {
        self.may_spread
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn allow(&self) -> Option<&str> {
        self.allow.as_deref()
    }

    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub(crate) fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn object<'a>(&'a self, request_id: &'a str) -> ErrorObject<'a> {
        ErrorObject {
            code: self.code.as_str(),
            message: &self.message,
            class: self.code.class(),
            param: self.param.as_deref(),
            request_id,
            retry_after: None,
            problems: self.faults.as_ref().map_or(&[], |faults| &faults.0),
        }
    }

    /// The same inside a stream.
    pub(crate) fn object_in_stream<'a>(&'a self, request_id: &'a str) -> ErrorObject<'a> {
        ErrorObject {
            retry_after: self.retry_after.map(|wait| whole_seconds(wait).max(1)),
            ..self.object(request_id)
        }
    }
}

#[cfg(test)]
mod tests;
