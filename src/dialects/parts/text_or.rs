//! A field that is a text, or a list of parts: read without a copy of either in between.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use utoipa::ToSchema;

/// Entries of one such list.
pub(crate) const ENTRIES: usize = 2_048;

/// A text, or a list of at most 2,048 entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum TextOr<T> {
    Text(String),
    List(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string or a list of at most {ENTRIES} entries")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = entries.next_element()? {
                    if list.len() == ENTRIES {
                        return Err(A::Error::invalid_length(ENTRIES + 1, &self));
                    }
                    list.push(entry);
                }
                Ok(TextOr::List(list))
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// Texts that are one message's: each begins a line of its own.
pub(crate) fn joined(texts: &[String]) -> String {
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_text_or_a_bounded_list_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<TextOr<u8>>(text).ok();
        assert_eq!(read("\"a\\n\""), Some(TextOr::Text("a\n".to_owned())));
        assert_eq!(read("[1,2]"), Some(TextOr::List(vec![1, 2])));
        for neither in ["null", "7", "{}", "[\"a\"]", "true"] {
            assert_eq!(read(neither), None, "{neither}");
        }
        let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(read(&many(ENTRIES)).is_some());
        assert!(read(&many(ENTRIES + 1)).is_none());
    }
}
