//! A request as a route sees it: who asks, for what, and until when.

use std::{net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use actors::{
    auth::Origin,
    rate_limit::{Decision, TokenReserve, TurnSize},
};
use domain::{model_name::ModelName, principal::Principal, session::DEVICE_CHARS};
use http::{HeaderMap, HeaderName, header::USER_AGENT, request::Parts};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    body::{Inbound, ReadJson, Subject},
    browser,
    config::HttpConfig,
    connection::Peer,
    doors::Doors,
    error::ApiError,
    request_id::RequestId,
    spending::{self, Told},
};

const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

/// The longest time a request may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);

/// A request that was let in.
pub(crate) struct Call {
    pub(crate) head: Parts,
    pub(crate) body: Inbound,
    /// Present on every route whose access is not public.
    pub(crate) principal: Option<Principal>,
    /// Whether a browser's cookie said who asks.
    pub(crate) is_by_cookie: bool,
    pub(crate) request_id: RequestId,
    pub(crate) client: IpAddr,
    pub(super) peer: Peer,
    pub(crate) deadline: Instant,
    /// The variable part of the path, decoded.
    pub(crate) param: Option<String>,
    /// Cancelled when replies must end because the service does.
    pub(crate) ending: CancellationToken,
    pub(crate) config: Arc<HttpConfig>,
    /// On the routes of turns.
    pub(super) told: Option<Told>,
}

impl Call {
    /// Who is asking.
    ///
    /// # Errors
    ///
    /// 500 on a public route, which has no principal: the route table and the route disagree.
    pub(crate) fn principal(&self) -> Result<Principal, ApiError> {
        self.principal.clone().ok_or_else(|| ApiError::internal("a public route asked for its principal"))
    }

    /// Spends what the turn costs that was asked for, before it is begun with what is returned.
    ///
    /// # Errors
    ///
    /// 429 when one of the principal's buckets refuses; 500 on a route that is no turn's.
    pub(crate) async fn pay_for_turn(
        &self,
        doors: &impl Doors,
        model: &ModelName,
        size: TurnSize,
    ) -> Result<TokenReserve, ApiError> {
        let principal = self.principal()?;
        let (said, reserve) = doors.take_turn(&principal, model, size).await?;
        self.spend(doors, &principal, said)?;
        Ok(reserve)
    }

    /// Spends a request like any other, where there is nothing to begin a turn with.
    ///
    /// # Errors
    ///
    /// As [`Call::pay_for_turn`].
    pub(crate) async fn pay_for_request(&self, doors: &impl Doors) -> Result<(), ApiError> {
        let principal = self.principal()?;
        let said = doors.take_principal(&principal).await?;
        self.spend(doors, &principal, said)
    }

    fn spend(
        &self,
        doors: &impl Doors,
        principal: &Principal,
        said: Option<Decision>,
    ) -> Result<(), ApiError> {
        let told = self.told.as_ref().ok_or_else(|| ApiError::internal("a turn on a route of requests"))?;
        let Some(said) = said else { return Ok(()) };
        let admitted = spending::admitted(doors, &said, Some(principal.user), || self.origin());
        told.remember(said);
        admitted
    }

    /// Where the call came from, for the audit trail.
    pub(crate) fn origin(&self) -> Origin {
        origin(&self.head.headers, self.client, &self.request_id)
    }

    /// How long a browser keeps its refresh token; `None` when browsers' sessions are off.
    pub(crate) fn browser_sessions(&self) -> Option<Duration> {
        self.config.browser_sessions
    }

    /// Whether the calling page may be given, or may spend, a browser's session; see [`browser::check_page`].
    pub(crate) fn check_page(&self) -> Result<(), ApiError> {
        browser::check_page(&self.head, self.peer, &self.config.allowed_origins)
    }

    pub(crate) fn param(&self) -> &str {
        self.param.as_deref().unwrap_or_default()
    }

    /// What the path names; one that is no id names nothing.
    pub(crate) fn id<Id: FromStr>(&self) -> Result<Id, ApiError> {
        self.param().parse().map_err(|_| ApiError::nothing())
    }

    /// A query parameter as `parse` understands it; the first one counts.
    ///
    /// # Errors
    ///
    /// 400 with `wanted` when it says something else.
    pub(crate) fn query<T>(
        &self,
        name: &'static str,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let pairs = self.head.uri.query().into_iter().flat_map(|query| query.split('&'));
        let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        let Some((_, value)) = value else { return Ok(None) };
        let text = percent_decode_str(value).decode_utf8().ok();
        let parsed = text.and_then(|text| parse(&text));
        parsed.map(Some).ok_or_else(|| ApiError::invalid(wanted).at(name))
    }

    /// Like [`Call::account`], but no body at all is an empty object.
    pub(crate) async fn account_or_default<T: ReadJson + Default>(&mut self) -> Result<T, ApiError> {
        if self.body.is_empty() { Ok(T::default()) } else { self.account().await }
    }

    /// Reads a body about an account; see [`Inbound::json`].
    pub(crate) async fn account<T: ReadJson>(&mut self) -> Result<T, ApiError> {
        self.body.json(&self.head.headers, Subject::Account, self.deadline, |body, _| Ok(body)).await
    }

    /// Reads a body about a conversation, none at all as an empty object; see [`Inbound::json`].
    pub(crate) async fn conversation<T: ReadJson + Default>(&mut self) -> Result<T, ApiError> {
        if self.body.is_empty() {
            return Ok(T::default());
        }
        self.body.json(&self.head.headers, Subject::Conversation, self.deadline, |body, _| Ok(body)).await
    }

    /// Reads the body of a chat and builds the request it asks for; see [`Inbound::json`].
    pub(crate) async fn chat<T: ReadJson, R>(
        &mut self,
        build: impl FnOnce(T, &[u8]) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        let subject = Subject::Chat { limit_bytes: self.config.max_request_bytes };
        self.body.json(&self.head.headers, subject, self.deadline, build).await
    }

    /// The same whatever the request says of its type. A page could have a browser send such a body to another site, so it is
    /// read only from callers who showed their credentials themselves.
    pub(crate) async fn untyped_chat<T: ReadJson, R>(
        &mut self,
        build: impl FnOnce(T, &[u8]) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        if self.is_by_cookie {
            return self.chat(build).await;
        }
        let subject = Subject::Untyped { limit_bytes: self.config.max_request_bytes };
        self.body.json(&self.head.headers, subject, self.deadline, build).await
    }
}

/// Where a request came from, for the audit trail.
pub(super) fn origin(headers: &HeaderMap, client: IpAddr, request_id: &RequestId) -> Origin {
    let device = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    Origin {
        address: Some(client),
        request_id: Some(request_id.as_str().to_owned()),
        device: device.map(|text| text.chars().take(DEVICE_CHARS).collect()),
    }
}

/// How long the caller is willing to wait: `X-Request-Timeout` in whole seconds, or what is customary.
///
/// # Errors
///
/// 400 when the header is not a whole number of seconds from 1 on. More than an hour counts as an hour.
pub(crate) fn patience(headers: &HeaderMap, customary: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(customary) };
    match value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        None | Some(0) => {
            Err(ApiError::invalid("X-Request-Timeout is a whole number of seconds").at("X-Request-Timeout"))
        }
        Some(seconds) => Ok(Duration::from_secs(seconds).min(TIMEOUT_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, value.parse().unwrap());
        patience(&headers, Duration::from_secs(10)).ok().map(|wait| wait.as_secs())
    }

    #[test]
    fn d04_a_caller_may_say_how_long_it_waits_in_whole_seconds() {
        assert_eq!(patience(&HeaderMap::new(), Duration::from_secs(10)).ok(), Some(Duration::from_secs(10)));
        assert_eq!(asked("3"), Some(3));
        assert_eq!(asked("999999"), Some(3_600));
        for value in ["0", "-1", "1.5", "soon", "", "99999999999999999999999"] {
            assert_eq!(asked(value), None, "{value}");
        }
    }
}
