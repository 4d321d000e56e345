//! The routes: read a request, call a few handles, write a reply. What they read and write is defined beside them and
//! converts from the domain's types explicitly, so that the wire cannot change by accident.

mod accept;
pub(crate) mod admin;
pub(crate) mod anthropic;
pub(crate) mod api_keys;
mod asking;
pub(crate) mod auth;
pub(crate) mod chat;
pub(crate) mod conversations;
pub(crate) mod docs;
mod expiry;
pub(crate) mod export;
mod exposition;
mod fixed;
pub(crate) mod health;
mod idempotency;
pub(crate) mod jwks;
pub(crate) mod ledger;
mod limits;
mod list;
pub(crate) mod model_access;
pub(crate) mod models;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod openapi;
pub(crate) mod ops;
mod search;
pub(crate) mod shapes;
#[cfg(test)]
mod tests;
pub(crate) mod turns;
pub(crate) mod usage;
