//! Usage of all accounts.

use std::sync::Arc;

use actors::system::System;
use domain::usage::Dimensions;

use crate::{
    http::{ApiError, Call, Reply},
    routes::usage::{GroupParam, ReportParams, report},
    usage::view::UsageReportView,
};

/// Adds up the turns of all accounts, deleted ones too, or of one.
#[utoipa::path(get, path = "/v1/admin/usage", operation_id = "reportAllUsage", tag = "admin", params(ReportParams,
    GroupParam, ("user" = Option<Uuid>, Query)),
    responses((status = 200, content((UsageReportView = "application/json"), (String = "text/csv")))))]
pub(crate) async fn of_all(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let wanted = "give one or several of day, user, model, key and status, with commas between them";
    let by = call.query("by", wanted, Dimensions::parse)?;
    let user = call.query("user", "give the id of an account", |text| text.parse().ok())?;
    report(&system, &call, user, by).await
}
