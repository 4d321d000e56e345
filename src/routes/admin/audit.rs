//! The audit trail.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use actors::system::System;
use chrono::{DateTime, Utc};
use domain::{
    audit::{AuditEntry, AuditEvent, AuditFilter},
    id::{AuditId, UserId},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    http::{ApiError, Call, Reply, json_reply},
    routes::{
        list::{List, PageParams, PageRequest},
        shapes,
    },
};

/// What [`filter`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what is read")]
pub(super) struct AuditParams {
    #[param(schema_with = shapes::event)]
    event: Option<String>,
    actor: Option<Uuid>,
    /// The account it concerns.
    user: Option<Uuid>,
    #[param(schema_with = shapes::address)]
    address: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AuditView {
    #[schema(value_type = Uuid)]
    id: AuditId,
    /// In the words of OWASP's logging vocabulary, such as `authn_login_fail`.
    event: &'static str,
    /// `success` or `failure`.
    outcome: &'static str,
    /// Who did it; `null` for somebody unknown, and for the command line.
    #[schema(value_type = Option<Uuid>)]
    actor: Option<UserId>,
    /// The account it concerns.
    #[schema(value_type = Option<Uuid>)]
    user: Option<UserId>,
    /// What it was done to or how: an id, a role, a route.
    detail: Option<String>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    request_id: Option<String>,
    at: DateTime<Utc>,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            event: entry.event.as_str(),
            outcome: entry.event.outcome(),
            actor: entry.actor,
            user: entry.user,
            detail: entry.detail,
            address: entry.address,
            request_id: entry.request_id,
            at: entry.at,
        }
    }
}

/// Lists what happened, newest first.
#[utoipa::path(get, path = "/v1/admin/audit", operation_id = "listAuditTrail", tag = "admin",
    params(AuditParams, PageParams),
    responses((status = 200, body = List<AuditView>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let page = PageRequest::of(&call)?;
    let found = system.auth.audit_trail(filter(&call)?, page.before(), page.limit).await?;
    Ok(json_reply(StatusCode::OK, &List::<AuditView>::of(found)))
}

/// 9999-12-31T00:00:00Z
const LAST_INSTANT: i64 = 253_402_214_400;

fn filter(call: &Call) -> Result<AuditFilter, ApiError> {
    const ID: &str = "give the id of an account";
    const TIME: &str = "give an instant such as 2026-01-31T00:00:00Z";
    Ok(AuditFilter {
        event: call.query("event", "there is no such event", AuditEvent::parse)?,
        actor: call.query("actor", ID, parsed)?,
        user: call.query("user", ID, parsed)?,
        address: call.query("address", "give an IP address", parsed)?,
        since: call.query("since", TIME, instant)?,
        until: call.query("until", TIME, instant)?,
    })
}

/// Nothing is older than the first year that both databases know, or younger than the last.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let (first, last) = (DateTime::UNIX_EPOCH, DateTime::from_timestamp(LAST_INSTANT, 0)?);
    parsed::<DateTime<Utc>>(text).map(|at| at.clamp(first, last))
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}
