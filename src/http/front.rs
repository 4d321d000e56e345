//! The front end's settings in force, which may change while it serves.
//!
//! A request takes the terms of its arrival along, so what it meets on its way is of one piece; a connection keeps the trust
//! it was accepted with.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tower_http::cors::CorsLayer;

use super::{config::HttpConfig, cors};

/// The settings by which both listeners serve.
pub struct Front(ArcSwap<Terms>);

/// An immutable snapshot.
pub(crate) struct Terms {
    pub(crate) config: Arc<HttpConfig>,
    /// `None` when no origin is allowed.
    pub(crate) cors: Option<CorsLayer>,
}

impl Front {
    pub fn new(config: HttpConfig) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Terms::of(config))))
    }

    pub(crate) fn terms(&self) -> Arc<Terms> {
        Guard::into_inner(self.0.load())
    }

    /// Goes by these origins, trusted proxies and size of a body from now on; nothing else of `new` counts.
    pub(crate) fn reconfigure(&self, new: &HttpConfig) {
        self.0.rcu(|terms| {
            Terms::of(HttpConfig {
                allowed_origins: new.allowed_origins.clone(),
                trusted_proxies: new.trusted_proxies.clone(),
                max_request_bytes: new.max_request_bytes,
                ..HttpConfig::clone(&terms.config)
            })
        });
    }
}

impl Terms {
    fn of(config: HttpConfig) -> Self {
        let cors = cors::layer(&config.allowed_origins, config.browser_sessions.is_some());
        Self { config: Arc::new(config), cors }
    }
}
