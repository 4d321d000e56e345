//! The supervision tree, for administrators who are not on the machine.

use std::sync::Arc;

use actors::system::System;
use http::StatusCode;

use crate::http::{ApiError, Call, Reply, json_reply};

/// Shows the live supervision tree: each actor's state, restarts and last exit, and how full each gate is.
#[utoipa::path(get, path = "/v1/admin/actors", tag = "admin", responses(
    (status = 200, body = Object), (status = 503)))]
pub(crate) async fn actors(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(json_reply(StatusCode::OK, &system.ops.tree().await?))
}
