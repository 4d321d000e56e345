//! The service as it is lived: booted whole on free ports, in front of a scripted Ollama, with real databases.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test that fails is a test that fails"
)]

mod admin;
mod admin_audit;
mod admin_invites;
mod admin_limits;
mod admin_users;
mod auth;
mod backup;
mod branches;
mod breaker;
mod cancel;
mod chat;
mod check_config;
mod clients;
mod conversations;
mod dashboards;
mod database;
mod design;
mod dialects;
mod docs;
mod elsewhere;
mod export;
mod faults;
mod fleet;
mod frozen;
mod harness;
mod health;
mod http;
mod idempotency;
mod identity;
mod kill;
mod killed;
mod limits;
mod logs;
mod metrics;
mod model_access;
mod models;
mod obedience;
mod openapi;
mod ops;
mod outage;
mod overload;
mod pools;
mod proxy;
mod queue;
mod reload;
mod residency;
mod resume;
mod roles;
mod schema;
mod search;
mod shutdown;
mod slow_reader;
mod start;
mod starved;
mod stream;
mod streams;
mod telemetry;
mod turn;
mod upstreams;
mod usage;
mod watch;
