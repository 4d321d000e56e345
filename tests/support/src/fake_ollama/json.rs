//! JSON as Go writes and reads it.
//!
//! Writing: `<`, `>`, `&`, U+2028 and U+2029 are escaped, everything else stays raw UTF-8.
//! Reading: object keys match without regard to case (with Unicode folding) and the last one wins.

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Serialises with Go's escapes.
pub(crate) fn to_go<T: Serialize>(value: &T) -> String {
    // Only maps with keys that are no strings fail to serialise, and none is sent here.
    let plain = serde_json::to_string(value).unwrap_or_default();
    let mut out = String::with_capacity(plain.len());
    // These characters only ever stand inside strings, so that the text can be rewritten without parsing it.
    for c in plain.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

/// The members of a JSON object in the order of the text, duplicates included.
#[derive(Debug, Default)]
pub(crate) struct Members(Vec<(String, Value)>);

impl Members {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The value Go would decode into the field called `name`; `null` leaves a field as it was.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().rev().find(|(key, value)| !value.is_null() && folds_to(key, name));
        found.map(|(_, value)| value)
    }
}

/// The value of a nested object's field by Go's rules.
pub(crate) fn field<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let mut members = object.as_object()?.iter().rev();
    members.find(|(key, value)| !value.is_null() && folds_to(key, name)).map(|(_, value)| value)
}

fn folds_to(key: &str, name: &str) -> bool {
    // Through upper case, so that the long s and the Kelvin sign become the letters they look like.
    key == name || key.to_uppercase().to_lowercase() == name
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        assert_eq!(to_go(&"a<b>&\u{2028}é😀\u{85}"), "\"a\\u003cb\\u003e\\u0026\\u2028é😀\u{85}\"");
    }

    #[test]
    fn the_last_key_wins_whatever_its_case() {
        let members: Members =
            serde_json::from_str(r#"{"model":"a","Model":"b","MODEL":"c","model":"d","\u212aeep_alive":0}"#)
                .unwrap();
        assert_eq!(members.field("model").unwrap(), "d");
        assert_eq!(members.field("keep_alive").unwrap(), 0);
        assert!(members.field("stream").is_none());
    }
}
