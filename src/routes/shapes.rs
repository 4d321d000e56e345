//! Shapes of fields as the description tells them, made from the rules they are read by.

use domain::{
    audit::AuditEvent,
    limits::Priority,
    model_name::ModelName,
    principal::{Role, Scope},
    signing_key::SigningAlgorithm,
    turn::TurnStatus,
};
use utoipa::openapi::{
    ArrayBuilder, Object, Schema,
    schema::{KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, SchemaType, Type},
};

/// One of these words.
fn one_of(words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

/// One of these words, or `null`.
fn one_or_none(words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(words.into_iter().map(Some).chain([None])))
        .build()
}

/// `"json"`, nothing, or a JSON schema.
pub(crate) fn format() -> Schema {
    let none = ObjectBuilder::new().schema_type(Type::Null);
    let any = ObjectBuilder::new().schema_type(Type::Object);
    Schema::OneOf(OneOfBuilder::new().item(one_of(["json", ""])).item(any).item(none).build())
}

/// Whether to think, or how hard.
pub(crate) fn think() -> Schema {
    let yes_or_no = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Boolean, Type::Null]));
    let words = one_of(["low", "medium", "high", "max"]);
    Schema::OneOf(OneOfBuilder::new().item(yes_or_no).item(words).build())
}

/// Text of this form.
fn like(pattern: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build()
}

pub(crate) fn priority() -> Object {
    one_or_none(Priority::ALL.map(Priority::as_str))
}

pub(crate) fn role() -> Object {
    one_or_none([Role::User, Role::Admin].map(Role::as_str))
}

pub(crate) fn scopes() -> Schema {
    let scope = one_of(Scope::ALL.map(Scope::as_str));
    Schema::Array(ArrayBuilder::new().items(scope).build())
}

pub(crate) fn algorithm() -> Object {
    one_or_none([SigningAlgorithm::Hs256, SigningAlgorithm::EdDsa].map(SigningAlgorithm::as_str))
}

pub(crate) fn event() -> Object {
    one_of(AuditEvent::ALL.map(AuditEvent::as_str))
}

pub(crate) fn turn_status() -> Object {
    use TurnStatus::{Cancelled, Complete, Failed, Interrupted, Streaming};
    one_of([Streaming, Complete, Interrupted, Cancelled, Failed].map(TurnStatus::as_str))
}

pub(crate) fn format_of_report() -> Object {
    one_of(["json", "csv"])
}

pub(crate) fn format_of_export() -> Object {
    one_of(["json", "markdown"])
}

pub(crate) fn grouping() -> Object {
    like("^(day|user|model|key|status)(,(day|user|model|key|status))*$")
}

/// A number from one on; no bound above, since what is too large counts as the largest that is not.
pub(crate) fn from_one_on() -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build()
}

pub(crate) fn address() -> Schema {
    let kind = |format| {
        ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)))
    };
    Schema::OneOf(OneOfBuilder::new().item(kind(KnownFormat::Ipv4)).item(kind(KnownFormat::Ipv6)).build())
}

/// One `@`, something on both sides, nothing blank, no dot at either end of the host.
pub(crate) fn email() -> Object {
    let part = r"[^@\s\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f-\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202f\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]";
    let mut shape = like(&format!("^{part}+@(?![.]){part}+(?<![.])$"));
    shape.max_length = Some(domain::email::EmailAddress::MAX_BYTES);
    shape.examples = vec!["ada@example.org".into()];
    shape
}

/// Any spelling of a model's name.
pub(crate) fn model() -> Object {
    let mut shape = like("^[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?$");
    shape.max_length = Some(ModelName::MAX_BYTES);
    shape
}

pub(crate) fn idempotency_key() -> Object {
    let mut shape = like("^[!-~]+$");
    (shape.min_length, shape.max_length) = (Some(1), Some(255));
    shape
}

/// `content[.thinking.tool_calls]`
pub(crate) fn position() -> Object {
    like(r"^[0-9]{1,9}(\.[0-9]{1,9}\.[0-9]{1,9})?$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_are_read() {
        let shown = serde_json::to_value(priority()).unwrap();
        assert_eq!(shown["enum"], serde_json::json!(["interactive", "batch", null]));
        assert_eq!(shown["type"], serde_json::json!(["string", "null"]));
        assert!(
            serde_json::to_value(event()).unwrap()["enum"].as_array().unwrap().len() == AuditEvent::ALL.len()
        );
    }
}
