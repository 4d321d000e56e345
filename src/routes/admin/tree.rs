//! The supervision tree, for administrators who are not on the machine.

use std::sync::Arc;

use actors::system::System;
use domain::audit::AuditEvent;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::administrator;
use crate::http::{ApiError, Call, Reply, empty_reply, json_reply};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActorRestart {
    /// Its place in the tree, such as `models_sup/llama3.2:latest/worker-0`.
    path: String,
}

/// Shows the live supervision tree: each actor's state, restarts and last exit, and how full each gate is.
#[utoipa::path(get, path = "/v1/admin/actors", operation_id = "showActors", tag = "admin",
    responses((status = 200, body = Object)))]
pub(crate) async fn actors(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(json_reply(StatusCode::OK, &system.ops.tree().await?))
}

/// Kills an actor, which its supervisor starts anew: what it had in hand fails as if it had crashed. For one that is stuck,
/// and to see what a crash would cost. Supervisors are not restarted by hand.
#[utoipa::path(post, path = "/v1/admin/actors/restart", operation_id = "restartActor", tag = "admin",
    request_body = ActorRestart, responses((status = 204), (status = 404, description = "No such actor is up"),
    (status = 422)))]
pub(crate) async fn restart(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let ActorRestart { path } = call.account().await?;
    let by = administrator(&call)?;
    if !system.kill_actor(&path).await? {
        return Err(ApiError::not_found("no such actor is up").at("path"));
    }
    tracing::info!(actor = path, "an administrator restarts an actor");
    system.auth.record_operation(&by, AuditEvent::SysRestart, path);
    Ok(empty_reply())
}
