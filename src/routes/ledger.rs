//! `GET /v1/turns`: what each of the caller's turns took, one by one.

use std::sync::Arc;

use actors::system::System;
use domain::{turn::TurnStatus, usage::LedgerFilter};
use http::StatusCode;

use super::{
    list::{List, PageRequest},
    usage::model,
};
use crate::{
    http::{ApiError, Call, Reply, json_reply},
    usage::view::LedgerView,
};

/// Lists the caller's turns, newest first, stored or not.
#[utoipa::path(get, path = "/v1/turns", tag = "usage", params(
    ("model" = Option<String>, Query), ("status" = Option<String>, Query), ("conversation_id" = Option<Uuid>, Query),
    ("limit" = Option<u32>, Query), ("cursor" = Option<Uuid>, Query)),
    responses((status = 200, body = List<LedgerView>), (status = 400), (status = 503)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    const STATUS: &str = "`status` is streaming, complete, interrupted, cancelled or failed";
    let page = PageRequest::of(&call)?;
    let filter = LedgerFilter {
        model: model(&call)?,
        status: call.query("status", STATUS, TurnStatus::parse)?,
        conversation: call
            .query("conversation_id", "give the id of a conversation", |text| text.parse().ok())?,
    };
    let found = system.db.ledger(call.principal()?.user, filter, page.before(), page.limit).await?;
    Ok(json_reply(StatusCode::OK, &List::<LedgerView>::of(found)))
}
