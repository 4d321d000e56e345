//! Calls whose reply is one piece of JSON: listing, describing and loading models, and turning texts into vectors. Rare, or slow by
//! themselves, so an ordinary pooled client serves them.
//!
//! Each is bounded in time and in bytes, follows no redirect and uses no proxy from the environment: the operator's base URL is
//! the only place these go.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderMap;
use reqwest::{RequestBuilder, StatusCode, Url, redirect};
use serde::{Serialize, de::DeserializeOwned};

use super::{Address, words::sanitise};
use crate::model::{
    Timeouts,
    provider::{ProviderConfigError, UpstreamError, answer::flaw},
};

/// The most bytes of one reply: a thousand models take half a megabyte, a licence and a template a few hundred KB.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// Idle connections kept to one server for these.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// Calls to one server; clones share connections.
#[derive(Clone)]
pub(in crate::model::provider) struct Calls {
    http: reqwest::Client,
    timeouts: Arc<ArcSwap<Timeouts>>,
}

impl Calls {
    /// Calls that all have these headers.
    ///
    /// # Errors
    ///
    /// [`ProviderConfigError`] when the HTTP client cannot be made (no usable TLS set-up).
    pub(in crate::model::provider) fn new(
        address: &Address,
        headers: HeaderMap,
        timeouts: Arc<ArcSwap<Timeouts>>,
    ) -> Result<Self, ProviderConfigError> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(timeouts.load().connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .user_agent(super::USER_AGENT)
            .default_headers(headers)
            .build()
            .map_err(|_| address.refuse("cannot be served: the HTTP client does not start"))?;
        Ok(Self { http, timeouts })
    }

    pub(in crate::model::provider) fn timeouts(&self) -> Timeouts {
        **self.timeouts.load()
    }

    pub(in crate::model::provider) fn get(&self, url: &Url) -> RequestBuilder {
        self.http.get(url.clone())
    }

    pub(in crate::model::provider) fn post(&self, url: &Url, body: &impl Serialize) -> RequestBuilder {
        self.http.post(url.clone()).json(body)
    }

    /// A reply's status and body, whatever they are.
    pub(in crate::model::provider) async fn reply_to(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<(StatusCode, Vec<u8>), UpstreamError> {
        let lost = |error: reqwest::Error| {
            if error.is_connect() {
                UpstreamError::Connect(sanitise(&error.without_url().to_string()))
            } else if error.is_timeout() {
                UpstreamError::FirstByteTimeout(within)
            } else {
                UpstreamError::Failed(sanitise(&error.without_url().to_string()))
            }
        };
        let mut response = request.timeout(within).send().await.map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > REPLY_BYTES_MAX {
                return Err(UpstreamError::Garbage(format!("a reply of more than {REPLY_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }
}

/// # Errors
///
/// [`UpstreamError::Garbage`] when it is no JSON of this kind.
pub(in crate::model::provider) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(body)
        .map_err(|error| UpstreamError::Garbage(format!("a reply that is no JSON of ours: {}", flaw(&error))))
}
