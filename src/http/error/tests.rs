use actors::{auth::AuthError, db::DbError, model::ModelError, rate_limit::LimitError};

use domain::password::WeakPassword;
use domain::reply::FailureCode;

use super::*;
use crate::http::json;

fn shown(error: ApiError) -> (u16, String) {
    let mut body = Vec::new();
    json::append(&mut body, &error.object("r-1"));
    (error.status().as_u16(), String::from_utf8(body).unwrap())
}

fn object(code: &str, message: &str, class: &str, param: &str) -> String {
    format!(
        r#"{{"code":"{code}","message":"{message}","type":"{class}","param":{param},"request_id":"r-1"}}"#
    )
}

#[test]
fn b12_each_code_has_one_status_and_one_shape() {
    let wait = Duration::from_secs(3);
    let cases: [(ApiError, u16, &str, &str); 27] = [
        (ApiError::invalid("x"), 400, "invalid_request", "invalid_request_error"),
        (AuthError::MalformedEmail.into(), 400, "invalid_request", "invalid_request_error"),
        (
            AuthError::WeakPassword(WeakPassword::Common).into(),
            422,
            "invalid_request",
            "invalid_request_error",
        ),
        (AuthError::EmailTaken.into(), 409, "conflict", "invalid_request_error"),
        (AuthError::BadCredentials.into(), 401, "unauthenticated", "authentication_error"),
        (AuthError::BadToken.into(), 401, "unauthenticated", "authentication_error"),
        (ApiError::needs_administrator(), 403, "forbidden", "permission_error"),
        (AuthError::NeedsSession.into(), 403, "forbidden", "permission_error"),
        (AuthError::NeedsInvite.into(), 403, "forbidden", "permission_error"),
        (AuthError::SignUpClosed.into(), 403, "forbidden", "permission_error"),
        (AuthError::NotFound("session").into(), 404, "not_found", "not_found_error"),
        (AuthError::TooMany("keys").into(), 409, "conflict", "invalid_request_error"),
        (AuthError::LastAdministrator.into(), 409, "conflict", "invalid_request_error"),
        (
            AuthError::BadRequest { field: "name", why: "x" }.into(),
            422,
            "invalid_request",
            "invalid_request_error",
        ),
        (AuthError::Throttled { retry_after: wait }.into(), 429, "rate_limited", "rate_limit_error"),
        (ApiError::no_route(), 404, "not_found", "not_found_error"),
        (ModelError::UnknownModel("m".into()).into(), 404, "model_not_found", "not_found_error"),
        (ModelError::UserQueueFull { retry_after: wait }.into(), 429, "rate_limited", "rate_limit_error"),
        (ModelError::QueueFull { retry_after: wait }.into(), 503, "overloaded", "overloaded_error"),
        (ModelError::ServerAway { retry_after: wait }.into(), 503, "overloaded", "overloaded_error"),
        (ModelError::Draining { retry_after: wait }.into(), 503, "overloaded", "overloaded_error"),
        (ApiError::deadline(), 504, "deadline_exceeded", "timeout_error"),
        (ApiError::turn_failed(FailureCode::UpstreamError, "x", None), 502, "upstream_error", "api_error"),
        (
            ApiError::turn_failed(FailureCode::UpstreamIncomplete, "x", None),
            502,
            "upstream_incomplete",
            "api_error",
        ),
        (ApiError::turn_failed(FailureCode::ReplyTooLarge, "x", None), 502, "reply_too_large", "api_error"),
        (ModelError::ShuttingDown.into(), 503, "server_shutting_down", "overloaded_error"),
        (ApiError::internal("secret cause"), 500, "internal", "api_error"),
    ];
    for (error, status, code, class) in cases {
        let (message, param) = (error.message.to_string(), error.param.clone());
        let param = param.map_or("null".to_owned(), |param| format!("\"{param}\""));
        assert_eq!(shown(error), (status, object(code, &message, class, &param)), "{code}");
    }
}

#[test]
fn b12_what_really_happened_is_never_shown() {
    let causes: [ApiError; 7] = [
        AuthError::Unavailable("canary".into()).into(),
        AuthError::Internal("canary".into()).into(),
        ModelError::Unavailable("canary".into()).into(),
        ModelError::Internal("canary".into()).into(),
        DbError::Away("canary".into()).into(),
        DbError::Unavailable("canary".into()).into(),
        DbError::Broken("canary".into()).into(),
    ];
    for error in causes {
        assert_eq!(error.cause(), Some("canary"));
        assert!(!shown(error).1.contains("canary"));
    }
}

#[test]
fn every_429_and_503_says_when_to_come_back() {
    let wait = Duration::from_secs(7);
    let errors: [ApiError; 11] = [
        AuthError::Overloaded { retry_after: Duration::from_secs(2) }.into(),
        AuthError::Unavailable(String::new()).into(),
        ModelError::NoRoom("x").into(),
        ModelError::Degraded.into(),
        DbError::Overloaded.into(),
        DbError::Timeout.into(),
        LimitError::Unavailable.into(),
        ApiError::shutting_down(),
        ApiError::turn_failed(FailureCode::Overloaded, "x", None),
        ApiError::turn_failed(FailureCode::Overloaded, "x", Some(wait)),
        ModelError::CannotStartInTime { retry_after: wait }.into(),
    ];
    for error in errors {
        assert!(error.wait().is_some_and(|wait| !wait.is_zero()), "{error:?}");
    }
}
