//! A request as a route sees it: who asks, for what, and until when.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actors::auth::Origin;
use domain::principal::Principal;
use http::{HeaderMap, HeaderName, request::Parts};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    body::{Inbound, ReadJson, Subject},
    config::HttpConfig,
    error::ApiError,
    request_id::RequestId,
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
    pub(crate) request_id: RequestId,
    pub(crate) client: IpAddr,
    pub(crate) deadline: Instant,
    /// The variable part of the path, decoded.
    pub(crate) param: Option<String>,
    /// Cancelled when replies must end because the service does.
    pub(crate) ending: CancellationToken,
    pub(crate) config: Arc<HttpConfig>,
}

impl Call {
    /// Who is asking.
    ///
    /// # Errors
    ///
    /// 500 on a public route, which has no principal: the route table and the route disagree.
    pub(crate) fn principal(&self) -> Result<Principal, ApiError> {
        self.principal.ok_or_else(|| ApiError::internal("a public route asked for its principal"))
    }

    /// Where the call came from, for the audit trail.
    pub(crate) fn origin(&self) -> Origin {
        Origin { address: Some(self.client), request_id: Some(self.request_id.as_str().to_owned()) }
    }

    pub(crate) fn param(&self) -> &str {
        self.param.as_deref().unwrap_or_default()
    }

    /// The first value of a query parameter, decoded; `None` when absent or not UTF-8.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let pairs = self.head.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
        percent_decode_str(value).decode_utf8().ok().map(|text| text.into_owned())
    }

    /// Reads a body about an account; see [`Inbound::json`].
    pub(crate) async fn account<T: ReadJson>(&mut self) -> Result<T, ApiError> {
        self.body.json(&self.head.headers, Subject::Account, self.deadline, Ok).await
    }

    /// Reads the body of a chat and builds the request it asks for; see [`Inbound::json`].
    pub(crate) async fn chat<T: ReadJson, R>(
        &mut self,
        build: impl FnOnce(T) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        let subject = Subject::Chat { limit_bytes: self.config.max_request_bytes };
        self.body.json(&self.head.headers, subject, self.deadline, build).await
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
