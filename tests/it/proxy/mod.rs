//! The service as it stands in production: behind nginx with the files that are shipped, mostly two instances on one
//! Postgres.
//!
//! nginx counts by address, so clients that must not be counted together call from addresses of their own; all of
//! 127.0.0.0/8 is this machine.

mod bodies;
mod closed;
mod compression;
mod curl;
mod dialects;
mod errors;
mod floods;
mod http2;
mod idle;
mod in_step;
mod instances;
mod killed;
mod recorder;
mod restart;
mod slow;
mod smuggling;
mod spoofed;
mod streams;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};

use deepersensor::app::App;
use support::nginx::Proxy;
use tokio::time::timeout;

use crate::harness::{Call, Options, PATIENCE, TestApp};

/// A client that is neither the harness nor the proxy.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Two instances of this process and the proxy before them. [`Ground::finish`] must end it.
struct Ground {
    app: TestApp,
    twin: App,
    proxy: Proxy,
}

impl Ground {
    async fn lay(options: Options) -> Self {
        Self::lay_with(options, &[]).await
    }

    /// The same with these files of `nginx/available` enabled.
    async fn lay_with(options: Options, enabled: &[&str]) -> Self {
        let app = TestApp::start(options).await;
        let twin = app.start_twin(|_| ()).await;
        let proxy = Proxy::start_with(&[app.addr(), twin.addr()], enabled).await.unwrap();
        Self { app, twin, proxy }
    }

    fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.addr(), method, path)
    }

    /// As [`TestApp::finish`], for both instances.
    async fn finish(self) {
        let Self { app, twin, proxy } = self;
        app.quiet().await;
        drop(proxy);
        timeout(PATIENCE, twin.stop()).await.expect("the twin stops in time");
        app.finish().await;
    }
}
