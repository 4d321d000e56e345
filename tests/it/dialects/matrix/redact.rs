//! What differs from run to run, replaced by its form.

use serde_json::Value;

/// Texts are shown up to here.
const SHOWN_BYTES: usize = 300;

/// Ids in the order of their appearance within one reply.
#[derive(Default)]
pub(super) struct Redacted {
    seen: Vec<String>,
}

impl Redacted {
    pub(super) fn value(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let is_time = name.ends_with("_ms")
                        || name.ends_with("_duration")
                        || matches!(name.as_str(), "created" | "created_at" | "retry_after");
                    if is_time && field.is_u64() {
                        *field = "‹n›".into();
                    } else {
                        self.value(field);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::String(text) => *text = self.text(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str) -> String {
        if chrono::DateTime::parse_from_rfc3339(text).is_ok() {
            assert!(text.ends_with('Z'), "{text}");
            return "‹utc time›".to_owned();
        }
        let id = |part: &str| uuid::Uuid::try_parse(part).is_ok_and(|id| id.get_version_num() == 7);
        if id(text) {
            return self.seen(text);
        }
        if text.len() > SHOWN_BYTES {
            return format!("‹{} bytes›", text.len());
        }
        let parts = text.split('_').flat_map(|part| part.split('-'));
        match parts.into_iter().find(|part| part.len() == 32 && id(part)) {
            Some(part) => text.replace(part, &self.seen(part)),
            None => text.to_owned(),
        }
    }

    fn seen(&mut self, id: &str) -> String {
        let id = id.replace('-', "");
        let known = self.seen.iter().position(|known| *known == id).unwrap_or(self.seen.len());
        if known == self.seen.len() {
            self.seen.push(id);
        }
        format!("‹uuid {}›", known + 1)
    }
}
