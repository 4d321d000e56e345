//! The service's settings, read again, and the filter of its log.

use std::sync::Arc;

use actors::system::System;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::administrator;
use crate::{
    config::Change,
    control::{BadFilter, Control, FILTER_BYTES_MAX, FILTER_SECS, FILTER_SECS_MAX, Refusal, Told},
    http::{ApiError, Call, Fault, Reply, json_reply},
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReloadRequest {
    /// Only tell what would change.
    dry_run: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ReloadView {
    /// `applied`, `unchanged` or `dry_run`.
    outcome: &'static str,
    changed: Vec<ChangeView>,
    /// What has changed too, but stays as it was until a restart.
    needs_restart: Vec<ChangeView>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ChangeView {
    setting: &'static str,
    /// `null` where it was not set; a secret is never shown.
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFilterRequest {
    /// `tracing` filter directives such as `info,actors=debug`.
    #[schema(max_length = 1024)]
    filter: String,
    /// 1 to 3600; 600 if it is left out.
    #[schema(minimum = 1, maximum = 3600)]
    for_secs: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct LogFilterView {
    filter: String,
    until: DateTime<Utc>,
    /// What filters the log from then on.
    then: String,
}

impl From<&Change> for ChangeView {
    fn from(change: &Change) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self { setting: change.name(), from: owned(change.from()), to: owned(change.to()) }
    }
}

impl From<Told> for ReloadView {
    fn from(told: Told) -> Self {
        let views = |changes: &[Change]| changes.iter().map(ChangeView::from).collect();
        let (changed, needs_restart) = (views(&told.changed), views(&told.needs_restart));
        Self { outcome: told.outcome.as_str(), changed, needs_restart }
    }
}

/// Reads the service's `.env`, TOML file and secret files again and puts in force what can change while it runs: all of it, or
/// nothing if anything is invalid.
#[utoipa::path(post, path = "/v1/admin/reload", operation_id = "reload", tag = "admin",
    request_body = Option<ReloadRequest>,
    responses((status = 200, body = ReloadView), (status = 409, description = "There is nothing to read again"),
    (status = 422, description = "The settings are invalid: nothing has changed")))]
pub(crate) async fn reload(system: Arc<System>, mut call: Call, control: Control) -> Result<Reply, ApiError> {
    let ReloadRequest { dry_run } = call.account_or_default().await?;
    let told = control.reload(&system, administrator(&call)?, dry_run.unwrap_or_default()).await;
    let told = told.map_err(|refusal| match refusal {
        Refusal::Invalid(problems) => {
            ApiError::settings_refused(problems.0.into_iter().map(Fault::from).collect())
        }
        Refusal::UnderWay => ApiError::reload_under_way(),
        Refusal::Stopping => ApiError::shutting_down(),
        Refusal::NothingToRead => ApiError::no_sources(),
        Refusal::Internal(cause) => ApiError::internal(cause),
    })?;
    Ok(json_reply(StatusCode::OK, &ReloadView::from(told)))
}

/// Changes what is logged, for a while; then what is usual is logged again.
#[utoipa::path(post, path = "/v1/admin/log-filter", operation_id = "filterLog", tag = "admin",
    request_body = LogFilterRequest, responses((status = 200, body = LogFilterView),
    (status = 409, description = "The log is not this service's"), (status = 422)))]
pub(crate) async fn filter_log(
    system: Arc<System>,
    mut call: Call,
    control: Control,
) -> Result<Reply, ApiError> {
    let LogFilterRequest { filter, for_secs } = call.account().await?;
    let seconds = for_secs.unwrap_or(FILTER_SECS);
    control.filter_log(&system, &administrator(&call)?, &filter, seconds).map_err(|bad| match bad {
        BadFilter::Malformed => {
            ApiError::unfit("give filter directives such as info or info,actors=debug").at("filter")
        }
        BadFilter::TooLong => {
            ApiError::unfit(format!("a filter has at most {FILTER_BYTES_MAX} bytes")).at("filter")
        }
        BadFilter::OutOfBounds => {
            ApiError::unfit(format!("give 1 to {FILTER_SECS_MAX} seconds")).at("for_secs")
        }
        BadFilter::NotOurs => ApiError::no_sources(),
    })?;
    let for_a_while = TimeDelta::seconds(i64::try_from(seconds).unwrap_or_default());
    let until = system.clock().now() + for_a_while;
    Ok(json_reply(StatusCode::OK, &LogFilterView { filter, until, then: control.usual_filter() }))
}
