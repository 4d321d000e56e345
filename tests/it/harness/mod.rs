//! What every test of this binary stands on: the real service in this process, a client that keeps what it was sent,
//! and a teardown that fails when anything is left behind.

mod app;
pub(crate) mod canaries;
mod http;
mod leftovers;
mod proof;
mod random;
mod raw;
pub(crate) mod scripts;
mod snapshot;
mod store;
mod wait;

pub(crate) use app::{MODEL, Options, PASSWORD, SECRET, Session, TestApp};
pub(crate) use http::{Call, Frame, Opened, Reply, connect};
pub(crate) use proof::{asked, clock_ahead, start_process};
pub(crate) use random::Random;
pub(crate) use raw::Raw;
pub(crate) use snapshot::snapshot;
pub(crate) use store::{Database, Store};
pub(crate) use wait::{until, until_found};

use std::time::Duration;

/// Longer than anything here takes on a busy machine; a wait that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs each test on SQLite and on Postgres: `both_stores! { async fn name(store) { … } }` makes a module `name` with
/// a test for each.
macro_rules! both_stores {
    ($($(#[$attribute:meta])* async fn $name:ident($store:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            async fn test($store: crate::harness::Store) $body

            #[tokio::test]
            async fn on_sqlite() {
                test(crate::harness::Store::Sqlite).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                test(crate::harness::Store::Postgres).await;
            }
        }
    )+};
}
pub(crate) use both_stores;
