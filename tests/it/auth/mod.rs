//! `/v1/auth`

mod api_keys;
mod browsers;
mod cut_off;
mod forge;
mod forged;
mod hashes;
mod leaving;
mod logout;
mod password;
mod refresh;
mod rotation;
mod secrets;
mod sessions;
mod sign_in;
mod sign_up;

/// What every token that is not let in gets, whatever is wrong with it.
pub(crate) const REFUSED: &str = r#"401
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

/// What an id that leads nowhere gets, whoever's it is.
pub(crate) const NOTHING: &str = r#"404
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "not_found",
    "message": "there is no such thing",
    "type": "not_found_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;

/// What a command that says nothing in return gets.
pub(crate) const DONE: &str = "204\nx-request-id: ‹uuid v7›\n";
