//! `/health`, `/healthz`, `/readyz`: whether to send us traffic, and whether to restart us.

use std::sync::Arc;

use actors::{ops::Check, system::System};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::{ApiError, Call, Reply, json_reply};

#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok` or `unavailable`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<CheckView>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct CheckView {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Says that the process serves, whatever it depends on may do: a restart would not mend a database.
#[utoipa::path(get, path = "/healthz", operation_id = "liveness", tag = "operations",
    responses((status = 200, body = Health)))]
pub(crate) async fn process(_system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(json_reply(StatusCode::OK, &Health { status: "ok", checks: None }))
}

/// Says whether to send us traffic.
#[utoipa::path(get, path = "/readyz", operation_id = "readiness", tag = "operations",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn readiness(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(checked(&system, |_| None))
}

/// Says the same, in detail.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "operations",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn details(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(checked(&system, |check| Some(check.detail.clone())))
}

fn checked(system: &System, detail: impl Fn(&Check) -> Option<String>) -> Reply {
    let readiness = system.ops.readiness();
    let view = |check: &Check| CheckView { name: check.name, ok: check.ok, detail: detail(check) };
    let checks = Some(readiness.checks.iter().map(view).collect());
    let (code, status) = match readiness.ready {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    json_reply(code, &Health { status, checks })
}
