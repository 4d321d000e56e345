//! What the world sees: HTTP in, a few handle calls, HTTP out.

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
mod dialects;
pub mod http;
mod router;
mod routes;
pub mod telemetry;
mod usage;

pub use routes::openapi::openapi;
