//! Saying what is wrong with a body without repeating what is in it.

use super::ReadJson;
use crate::http::{error::ApiError, json::Strict};

/// Says which field is wrong. Only an error pays for finding out: the body is parsed again, keeping track of the path.
/// serde's own text is not passed on, since it quotes values, and a value may be a password.
pub(super) fn explain<T: ReadJson>(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    if !error.is_data() {
        let (line, column) = (error.line(), error.column());
        return ApiError::invalid(format!("the body is not valid JSON: line {line}, column {column}"));
    }
    let path =
        serde_path_to_error::deserialize::<_, T>(Strict(&mut serde_json::Deserializer::from_slice(bytes)))
            .map_or_else(|error| error.path().to_string(), |_| String::new());
    let path = if path == "." { "" } else { path.as_str() };
    let text = error.to_string();
    let named = |prefix: &str| text.strip_prefix(prefix)?.split('`').next().map(bounded);
    let below = |field: String| if path.is_empty() { field } else { format!("{path}.{field}") };
    if let Some(field) = named("missing field `") {
        return ApiError::invalid("a required field is missing").at(below(field));
    }
    if let Some(field) = named("duplicate field `") {
        return ApiError::invalid("a field is given twice")
            .at(bounded(path.trim_end_matches(&field)) + &field);
    }
    if let Some(field) = named("unknown field `") {
        let at = if path.ends_with(&field) { bounded(path) } else { below(field) };
        return ApiError::invalid("there is no such field").at(at);
    }
    let error = ApiError::invalid("a field has the wrong type or value");
    if path.is_empty() { error } else { error.at(bounded(path)) }
}

/// A name out of a request, short enough to send back.
fn bounded(name: &str) -> String {
    const SHOWN: usize = 64;
    name.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Account {
        #[expect(dead_code, reason = "only its parsing is tested")]
        email: String,
        #[expect(dead_code, reason = "only its parsing is tested")]
        tags: Option<Vec<u8>>,
    }

    fn refused(body: &str) -> (String, serde_json::Value) {
        let error = serde_json::from_slice::<Account>(body.as_bytes()).unwrap_err();
        let error = explain::<Account>(body.as_bytes(), &error);
        let object = serde_json::to_value(error.object("r")).unwrap();
        (object["message"].as_str().unwrap().to_owned(), object["param"].clone())
    }

    #[test]
    fn b05_unknown_duplicate_missing_and_mistyped_fields_are_named_without_their_values() {
        let cases = [
            (r#"{"email":"a","role":"admin"}"#, "there is no such field", "role"),
            (r#"{"email":"a","email":"b"}"#, "a field is given twice", "email"),
            (r#"{}"#, "a required field is missing", "email"),
            (r#"{"email":7}"#, "a field has the wrong type or value", "email"),
            (r#"{"email":"a","tags":[1,"canary"]}"#, "a field has the wrong type or value", "tags[1]"),
        ];
        for (body, message, param) in cases {
            assert_eq!(refused(body), (message.to_owned(), param.into()), "{body}");
        }
        assert_eq!(refused("{\"email\": \n nope}").0, "the body is not valid JSON: line 2, column 3");
    }
}
