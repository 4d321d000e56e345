//! `GET /v1/turns`: what each of the caller's turns took, one by one.

use std::sync::Arc;

use actors::system::System;
use domain::{turn::TurnStatus, usage::LedgerFilter};
use http::StatusCode;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    list::{List, PageParams, PageRequest},
    shapes,
    usage::model,
};
use crate::{
    http::{ApiError, Call, Reply, json_reply},
    usage::view::LedgerView,
};

/// What [`list`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what is read")]
pub(crate) struct LedgerParams {
    #[param(schema_with = shapes::model)]
    model: Option<String>,
    #[param(schema_with = shapes::turn_status)]
    status: Option<String>,
    conversation_id: Option<Uuid>,
}

/// Lists the caller's turns, newest first, stored or not.
#[utoipa::path(get, path = "/v1/turns", operation_id = "listTurns", tag = "usage",
    params(LedgerParams, PageParams),
    responses((status = 200, body = List<LedgerView>)))]
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
