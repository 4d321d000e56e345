//! The model servers behind this instance, and taking one out of service without losing a turn.

use std::{collections::BTreeMap, sync::Arc};

use actors::{
    model::{Drained, ServerStanding},
    system::System,
};
use domain::audit::AuditEvent;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::administrator;
use crate::{
    http::{ApiError, Call, Reply, json_reply},
    routes::list::List,
};

#[derive(Serialize, ToSchema)]
pub(crate) struct UpstreamView {
    name: String,
    /// `ollama`, `openai` or `demo`.
    kind: &'static str,
    /// Without credentials; `null` for the built-in model.
    address: Option<String>,
    /// Its share of the turns of a model that several servers have, against theirs.
    weight: u32,
    /// `up`, `away` or `draining`.
    state: &'static str,
    /// `closed`, `half_open` or `open`.
    breaker: &'static str,
    models: Vec<String>,
    /// Turns that it may run at once, all its models together.
    slots: usize,
    running: usize,
    /// How often it failed, by kind.
    failures: BTreeMap<&'static str, u64>,
}

impl From<ServerStanding> for UpstreamView {
    fn from(server: ServerStanding) -> Self {
        let ServerStanding { name, kind, address, weight, state, breaker, models, slots, running, failures } =
            server;
        let (state, failures) = (state.as_str(), failures.into_iter().collect());
        Self { name, kind, address, weight, state, breaker, models, slots, running, failures }
    }
}

/// Lists the model servers in the order of the configuration, as this instance knows them.
#[utoipa::path(get, path = "/v1/admin/upstreams", operation_id = "listUpstreams", tag = "admin",
    responses((status = 200, body = List<UpstreamView>)))]
pub(crate) async fn list(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    let servers = system.models.fleet().into_iter().map(UpstreamView::from).collect();
    Ok(json_reply(StatusCode::OK, &List::new(servers, None)))
}

/// Lets no turn begin on a model server any more; those that run end there, those that wait are served by the others. Known to
/// this instance only, until it is resumed or restarted.
#[utoipa::path(post, path = "/v1/admin/upstreams/{name}/drain", operation_id = "drainUpstream", tag = "admin",
    params(("name" = String, Path)), responses((status = 200, body = UpstreamView)))]
pub(crate) async fn drain(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    change(&system, &call, true)
}

/// Lets turns begin on a model server again.
#[utoipa::path(post, path = "/v1/admin/upstreams/{name}/resume", operation_id = "resumeUpstream", tag = "admin",
    params(("name" = String, Path)), responses((status = 200, body = UpstreamView)))]
pub(crate) async fn resume(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    change(&system, &call, false)
}

fn change(system: &System, call: &Call, drains: bool) -> Result<Reply, ApiError> {
    let by = administrator(call)?;
    let no_server = || ApiError::not_found("there is no model server of this name");
    let Drained { server, is_change } = system.models.drain(call.param(), drains).ok_or_else(no_server)?;
    if is_change {
        let event = if drains { AuditEvent::SysUpstreamDrained } else { AuditEvent::SysUpstreamResumed };
        tracing::info!(
            event = event.as_str(),
            upstream = server.name,
            "an administrator drains or resumes a model server"
        );
        system.auth.record_operation(&by, event, server.name.clone());
    }
    Ok(json_reply(StatusCode::OK, &UpstreamView::from(server)))
}
