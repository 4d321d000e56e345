//! `/v1/admin`: what only administrators see and do.

pub(crate) mod audit;
pub(crate) mod invites;
pub(crate) mod reload;
pub(crate) mod signing_keys;
pub(crate) mod tree;
pub(crate) mod upstreams;
pub(crate) mod usage;
pub(crate) mod users;

use actors::auth::Administrator;

use crate::http::{ApiError, Call};

/// The administrator who calls.
fn administrator(call: &Call) -> Result<Administrator, ApiError> {
    Ok(Administrator::of(&call.principal()?, call.origin()))
}
