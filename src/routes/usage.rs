//! `GET /v1/usage`: what the caller's turns took, added up; as JSON, page by page, or as a CSV file, whole.

use std::sync::Arc;

use actors::system::System;
use chrono::NaiveDate;
use domain::{
    id::UserId,
    model_name::ModelName,
    usage::{
        BadDays, DAYS_MAX, Days, Dimension, Dimensions, GROUPS_MAX, GroupKey, UsageQuery, WHOLE_GROUPS_MAX,
    },
};
use http::{HeaderValue, StatusCode, header::VARY};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{accept, list::at_least_one, shapes};
use crate::{
    http::{ApiError, Call, Reply, attachment, json_reply, text_reply},
    usage::{self, view::UsageReportView},
};

/// What every report can be asked for; each route says what it can be grouped by.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what `report` reads")]
pub(super) struct ReportParams {
    /// The first UTC day; without it, 30 days end with the last.
    from: Option<NaiveDate>,
    /// The last UTC day, all of it; today, if nothing is said.
    to: Option<NaiveDate>,
    #[param(schema_with = shapes::model)]
    model: Option<String>,
    key: Option<Uuid>,
    /// json or csv; `Accept: text/csv` does as well.
    #[param(schema_with = shapes::format_of_report)]
    format: Option<String>,
    /// Groups of a page; more than 1,000 count as 1,000.
    #[param(schema_with = shapes::from_one_on)]
    limit: Option<u32>,
    cursor: Option<String>,
}

/// What is grouped by.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what the routes read")]
pub(crate) struct GroupParam {
    /// One or several of day, model, key, status and, for administrators, user; day, if nothing is said.
    #[param(schema_with = shapes::grouping)]
    by: Option<String>,
}

/// Which page of a report is wanted, or all of it as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Page { after: Option<GroupKey>, limit: u32 },
    File,
}

/// Adds up the caller's turns.
#[utoipa::path(get, path = "/v1/usage", operation_id = "reportUsage", tag = "usage", params(ReportParams,
    GroupParam),
    responses((status = 200, content((UsageReportView = "application/json"), (String = "text/csv")))))]
pub(crate) async fn of_caller(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let user = Some(call.principal()?.user);
    let by = call.query(
        "by",
        "give one or several of day, model, key and status, with commas between them",
        |text| Dimensions::parse(text).filter(|by| !by.contains(Dimension::User)),
    )?;
    report(&system, &call, user, by).await
}

/// Adds up turns of one account or of all.
pub(super) async fn report(
    system: &System,
    call: &Call,
    user: Option<UserId>,
    by: Option<Dimensions>,
) -> Result<Reply, ApiError> {
    let query = UsageQuery {
        days: days(call, system.clock().now().date_naive())?,
        by: by.unwrap_or_else(|| [Dimension::Day].into_iter().collect()),
        user,
        model: model(call)?,
        key: call.query("key", "give the id of an API key", |text| text.parse().ok())?,
    };
    let (days, by) = (query.days, query.by);
    match form(call, by)? {
        Form::Page { after, limit } => {
            let report = system.db.usage(query, after, limit).await?;
            let mut reply = json_reply(StatusCode::OK, &UsageReportView::of(report, days, by));
            reply.headers_mut().append(VARY, HeaderValue::from_static("accept"));
            Ok(reply)
        }
        Form::File => {
            let report = system.db.usage(query, None, WHOLE_GROUPS_MAX).await?;
            if report.next.is_some() {
                let message = "there are more than 10,000 lines: ask for fewer days, or tell less apart";
                return Err(ApiError::invalid(message).at("by"));
            }
            file(&usage::file_name(days), usage::table(by, report).into_csv())
        }
    }
}

/// The model by which turns are filtered, in whichever of its spellings.
pub(super) fn model(call: &Call) -> Result<Option<String>, ApiError> {
    call.query("model", "this is not the name of a model", |text| {
        ModelName::parse(text).ok().map(|name| name.canonical().as_str().to_owned())
    })
}

fn days(call: &Call, today: NaiveDate) -> Result<Days, ApiError> {
    const DAY: &str = "give a UTC day such as 2026-11-30";
    let from = call.query("from", DAY, Days::parse_day)?;
    let to = call.query("to", DAY, Days::parse_day)?;
    Days::asked(from, to, today).map_err(|bad| match bad {
        BadDays::Reversed => {
            ApiError::invalid("`from` is after `to`, which is today if it is left out").at("from")
        }
        BadDays::TooMany => ApiError::invalid(format!("ask for {DAYS_MAX} days at most")).at("from"),
    })
}

fn form(call: &Call, by: Dimensions) -> Result<Form, ApiError> {
    let asked = call.query("format", "`format` is json or csv", |text| match text {
        "json" => Some(false),
        "csv" => Some(true),
        _ => None,
    })?;
    let is_file = asked.unwrap_or_else(|| {
        let [csv, json] = accept::liking(&call.head.headers, ["text/csv", "application/json"]);
        csv > 0.0 && csv >= json
    });
    let after = call.query("cursor", "this is not a cursor of this list", |text| {
        text.parse().ok().filter(|place: &GroupKey| place.fits(by))
    })?;
    let limit = call.query("limit", "`limit` is a number from 1 to 1000", at_least_one)?;
    match (is_file, &after) {
        (true, None) => Ok(Form::File),
        (true, Some(_)) => Err(ApiError::invalid("a CSV file is whole, it has no pages").at("cursor")),
        (false, _) => Ok(Form::Page { after, limit: limit.unwrap_or(GROUPS_MAX).min(GROUPS_MAX) }),
    }
}

fn file(name: &str, text: String) -> Result<Reply, ApiError> {
    let mut reply = text_reply("text/csv; charset=utf-8; header=present", text);
    attachment(&mut reply, name)?;
    reply.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    Ok(reply)
}
