//! What the world sees: HTTP in, a few handle calls, HTTP out.

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
mod dialects;
pub mod http;
pub mod logging;
mod router;
mod routes;

pub use routes::openapi::openapi;
