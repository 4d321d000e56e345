//! `/v1/auth`

mod forged;
mod refresh;
mod sign_in;
mod sign_up;

/// What every token that is not let in gets, whatever is wrong with it.
const REFUSED: &str = r#"401
content-type: application/json
www-authenticate: Bearer
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "unauthenticated",
    "message": "the token is not valid, or no longer",
    "type": "authentication_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;
