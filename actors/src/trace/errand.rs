//! The request that work is done for, as log lines name it.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use domain::{
    id::UserId,
    reply::{FailureCode, Timings, Usage},
    turn::TurnStatus,
};
use opentelemetry::{
    Context,
    trace::{TraceContextExt as _, TraceId},
};

/// One request: its name from the first moment on, and what is learnt about it on its way.
#[derive(Debug)]
pub struct Errand {
    request_id: Box<str>,
    client: IpAddr,
    user: OnceLock<UserId>,
    turn: OnceLock<TurnEnd>,
}

/// How the turn ended that a request asked for.
#[derive(Debug, Clone)]
pub struct TurnEnd {
    pub model: Box<str>,
    pub status: TurnStatus,
    pub failure: Option<FailureCode>,
    pub usage: Usage,
    pub timings: Timings,
}

impl Errand {
    pub fn new(request_id: &str, client: IpAddr) -> Arc<Self> {
        Arc::new(Self { request_id: request_id.into(), client, user: OnceLock::new(), turn: OnceLock::new() })
    }

    /// As in the reply's header.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    pub const fn client(&self) -> IpAddr {
        self.client
    }

    /// Who asks, once that is known.
    pub fn user(&self) -> Option<UserId> {
        self.user.get().copied()
    }

    /// Notes who asks; the first word counts.
    pub fn is_for(&self, user: UserId) {
        let _ = self.user.set(user);
    }

    /// How its turn ended, if it asked for one and that one is over.
    pub fn turn(&self) -> Option<&TurnEnd> {
        self.turn.get()
    }

    pub(crate) fn turn_ended(&self, end: TurnEnd) {
        let _ = self.turn.set(end);
    }
}

/// Hands over the request that the task at hand works for, and its trace if it has one that is recorded. `None` outside of
/// requests.
pub fn with_current<T>(see: impl FnOnce(&Errand, Option<TraceId>) -> T) -> Option<T> {
    Context::map_current(|context| {
        let errand = context.get::<Arc<Errand>>()?;
        let span = context.span();
        let trace = span.span_context();
        Some(see(errand, trace.is_sampled().then(|| trace.trace_id())))
    })
}
