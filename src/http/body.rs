//! Reading request bodies: never more than allowed, never for longer than allowed, never deeper than allowed.
//!
//! What can be refused by the head alone is refused before the first byte is asked for, so that a client that waits for
//! `100 Continue` sends nothing. All bodies being read share one budget of memory, which they take from as their bytes
//! arrive; what is only announced takes nothing. Bodies about accounts have a budget of their own, so that whoever fills
//! the other one keeps nobody from signing in.

mod explain;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{config::HttpConfig, error::ApiError, json, socket::Input};

/// Bodies about accounts are small.
const ACCOUNT_BODY_BYTES: usize = 16 << 10;

/// A system prompt of which every character is escaped, and a title.
const CONVERSATION_BODY_BYTES: usize = 256 << 10;

/// All bodies about accounts being read at once: as many of the largest as requests are served at once by default.
const ACCOUNT_BUDGET_BYTES: usize = 32 << 20;

/// A body takes from its budget in steps of this size, so that small frames do not ask for each of their bytes.
const STEP_BYTES: usize = 64 << 10;
/// The same for bodies about accounts, most of which fit into one.
const ACCOUNT_STEP_BYTES: usize = 1 << 10;

/// A refused request's body up to this size is read away in this time, which keeps its connection.
const SMALL_BODY_BYTES: u64 = 16 << 10;
const SMALL_BODY_WAIT: Duration = Duration::from_millis(50);

/// What routes read bodies into. Types about accounts also say `deny_unknown_fields`; derived types refuse duplicate keys.
pub(crate) trait ReadJson: DeserializeOwned {}
impl<T: DeserializeOwned> ReadJson for T {}

/// The bounds all bodies of a server share.
pub(crate) struct Intake {
    progress: Duration,
    total: Duration,
    /// One permit a byte.
    chats: Arc<Semaphore>,
    accounts: Arc<Semaphore>,
}

/// What a body is about; decides how large it may be and which budget it takes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    Account,
    Conversation,
    Chat {
        limit_bytes: usize,
    },
    /// The same of clients that do not say what they send (ollama-wire §1).
    Untyped {
        limit_bytes: usize,
    },
}

impl Subject {
    const fn limit_bytes(self) -> usize {
        match self {
            Self::Account => ACCOUNT_BODY_BYTES,
            Self::Conversation => CONVERSATION_BODY_BYTES,
            Self::Chat { limit_bytes } | Self::Untyped { limit_bytes } => limit_bytes,
        }
    }
}

/// A body's part of its budget; given back on drop.
struct Reservation {
    held: OwnedSemaphorePermit,
    step_bytes: usize,
    /// No body is longer than it announced or than it may be.
    most_bytes: usize,
}

impl Reservation {
    /// Makes it cover `bytes`.
    fn cover(&mut self, bytes: usize) -> Result<(), ApiError> {
        let held = self.held.num_permits();
        if bytes <= held {
            return Ok(());
        }
        let wanted = bytes.next_multiple_of(self.step_bytes).min(self.most_bytes).max(bytes);
        let more = u32::try_from(wanted - held).map_err(|_| ApiError::overloaded())?;
        let budget = Arc::clone(self.held.semaphore());
        self.held.merge(budget.try_acquire_many_owned(more).map_err(|_| ApiError::overloaded())?);
        Ok(())
    }
}

impl Intake {
    pub(crate) fn new(config: &HttpConfig) -> Arc<Self> {
        let budget = config.body_budget_bytes.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            progress: config.body_progress_timeout,
            total: config.body_timeout,
            chats: Arc::new(Semaphore::new(budget)),
            accounts: Arc::new(Semaphore::new(ACCOUNT_BUDGET_BYTES)),
        })
    }

    /// An empty reservation for a body that will have at most `most_bytes`.
    fn reservation(&self, subject: Subject, most_bytes: usize) -> Result<Reservation, ApiError> {
        let (budget, step_bytes) = match subject {
            Subject::Account => (&self.accounts, ACCOUNT_STEP_BYTES),
            Subject::Conversation | Subject::Chat { .. } | Subject::Untyped { .. } => {
                (&self.chats, STEP_BYTES)
            }
        };
        let held = Arc::clone(budget).try_acquire_many_owned(0).map_err(|_| ApiError::overloaded())?;
        Ok(Reservation { held, step_bytes, most_bytes })
    }
}

/// A body that has not been read yet.
pub(crate) struct Inbound {
    incoming: Option<Incoming>,
    input: Arc<Input>,
    intake: Arc<Intake>,
}

impl Inbound {
    pub(crate) fn new(incoming: Incoming, input: Arc<Input>, intake: Arc<Intake>) -> Self {
        if incoming.is_end_stream() {
            input.body_ended();
            return Self { incoming: None, input, intake };
        }
        input.body_begins();
        Self { incoming: Some(incoming), input, intake }
    }

    /// Whether the request came without a body.
    pub(crate) const fn is_empty(&self) -> bool {
        self.incoming.is_none()
    }

    /// Reads the whole body as one JSON object and makes of it (and of its bytes) what `build` does, before its memory is given
    /// back.
    ///
    /// # Errors
    ///
    /// 415 (type or encoding), 413 (size), 408 (too slow), 503 (no memory left for bodies), 400 (not a JSON object, too
    /// deep, or not the shape asked for; `param` names the field), and those of `build`.
    pub(crate) async fn json<T: ReadJson, R>(
        &mut self,
        headers: &HeaderMap,
        subject: Subject,
        deadline: Instant,
        build: impl FnOnce(T, &[u8]) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        if !matches!(subject, Subject::Untyped { .. }) {
            check_type(headers)?;
        }
        let limit_bytes = subject.limit_bytes();
        let announced = announced_length(headers);
        if announced.is_some_and(|length| length > limit_bytes as u64) {
            return Err(ApiError::body_too_large(limit_bytes));
        }
        let announced = announced.and_then(|length| usize::try_from(length).ok());
        let reservation = self.intake.reservation(subject, announced.unwrap_or(limit_bytes))?;
        // Kept until the request is built: until then there are two copies of it.
        let (bytes, _reservation) = self.read(limit_bytes, reservation, deadline).await?;
        understand(&bytes, build)
    }

    async fn read(
        &mut self,
        limit_bytes: usize,
        mut reservation: Reservation,
        deadline: Instant,
    ) -> Result<(Bytes, Reservation), ApiError> {
        let Some(mut incoming) = self.incoming.take() else { return Ok((Bytes::new(), reservation)) };
        let end = deadline.min(Instant::now() + self.intake.total);
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        let mut length = 0;
        loop {
            let wait = end.min(Instant::now() + self.intake.progress);
            let frame = timeout_at(wait, incoming.frame()).await.map_err(|_| ApiError::body_too_slow())?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| ApiError::invalid("the body broke off or is badly framed"))?;
            // Trailers mean nothing to us.
            let Ok(piece) = frame.into_data() else { continue };
            length += piece.len();
            if length > limit_bytes {
                return Err(ApiError::body_too_large(limit_bytes));
            }
            reservation.cover(length)?;
            if first.is_empty() && rest.is_empty() {
                first = piece;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&piece);
        }
        self.input.body_ended();
        Ok((if rest.is_empty() { first } else { rest.into() }, reservation))
    }

    /// Reads away the small body of a request that is about to be refused, if it is already here.
    pub(crate) async fn discard_if_small(&mut self, headers: &HeaderMap) {
        let is_small = announced_length(headers).is_some_and(|length| length <= SMALL_BODY_BYTES);
        if !is_small || headers.contains_key(EXPECT) {
            return;
        }
        let Some(mut incoming) = self.incoming.take() else { return };
        let end = Instant::now() + SMALL_BODY_WAIT;
        while let Ok(frame) = timeout_at(end, incoming.frame()).await {
            match frame {
                Some(Ok(_)) => {}
                Some(Err(_)) => return,
                None => return self.input.body_ended(),
            }
        }
    }
}

/// The part of [`Inbound::json`] that has to do with what was sent only.
pub(crate) fn understand<T: ReadJson, R>(
    bytes: &[u8],
    build: impl FnOnce(T, &[u8]) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    if !json::may_be_object(bytes) {
        return Err(ApiError::invalid("the body must be a JSON object"));
    }
    if json::is_deeper_than(bytes, json::DEPTH_MAX) {
        return Err(ApiError::invalid("the JSON nests deeper than 64 levels"));
    }
    build(json::from_slice(bytes).map_err(|error| explain::explain::<T>(bytes, &error))?, bytes)
}

/// hyper has already refused lengths that are malformed or differ.
fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let encodings = headers.get_all(CONTENT_ENCODING);
    if encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::encoded());
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return Err(ApiError::not_json()) };
    let text = only.to_str().map_err(|_| ApiError::not_json())?;
    let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_utf8 = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .all(|(_, charset)| charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"));
    if media_type.trim().eq_ignore_ascii_case("application/json") && is_utf8 {
        Ok(())
    } else {
        Err(ApiError::not_json())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn b05_only_plain_utf8_json_is_read() {
        let typed = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
            check_type(&headers).is_ok()
        };
        for value in
            ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""]
        {
            assert!(typed(value), "{value}");
        }
        for value in ["text/plain", "application/json; charset=latin1", "application/jsonx", ""] {
            assert!(!typed(value), "{value}");
        }
        assert!(check_type(&HeaderMap::new()).is_err());
    }
}
