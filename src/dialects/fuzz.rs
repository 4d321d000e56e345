//! Bodies that nobody meant to send, for the property of every dialect's parser that no body panics or is our fault: each is
//! understood, or refused with 400.
//!
//! They are good bodies of which some places were replaced by something else, doubled or taken away, and some bytes changed. So
//! they get further into a parser than noise would.

use proptest::{prelude::*, sample::Index};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value, json};

use crate::http::{ApiError, understand_body};

/// Bodies for each parser: a few seconds without optimisation.
const CASES: u32 = 1_500;

/// Has `build` make sense of many bodies like these.
pub(super) fn no_body_is_our_fault<T: DeserializeOwned, R>(
    good: &[Value],
    build: impl Fn(T) -> Result<R, ApiError>,
) {
    for body in good {
        let text = body.to_string();
        assert!(understand_body(text.as_bytes(), |body, _| build(body)).is_ok(), "not a good body: {text}");
    }
    let bodies = (any::<Index>(), prop::collection::vec(change(), 1..4), noise());
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((which, changes, noise) in bodies)| {
        let mut body = which.get(good).clone();
        for change in changes {
            change.make(&mut body);
        }
        let mut text = body.to_string().into_bytes();
        for (at, byte) in noise {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if let Err(refused) = understand_body(&text, |body, _| build(body)) {
            prop_assert_eq!(refused.status().as_u16(), 400);
        }
    });
}

/// Bytes to change, in one body of four.
fn noise() -> impl Strategy<Value = Vec<(Index, u8)>> {
    let some = prop::collection::vec((any::<Index>(), any::<u8>()), 1..3);
    prop_oneof![3 => Just(Vec::new()), 1 => some]
}

#[derive(Debug, Clone)]
struct Change {
    /// Which of all places in the body.
    at: Index,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Replace(Value),
    /// Of a list or an object: one entry more.
    Add(Value),
    /// Of a list or an object: the first entry.
    Remove,
}

fn change() -> impl Strategy<Value = Change> {
    let what = prop_oneof![
        4 => anything().prop_map(What::Replace),
        1 => anything().prop_map(What::Add),
        1 => Just(What::Remove),
    ];
    (any::<Index>(), what).prop_map(|(at, what)| Change { at, what })
}

/// JSON of all kinds, with values at the edges of ranges, and words and names that parsers look for.
fn anything() -> impl Strategy<Value = Value> {
    let words = [
        "",
        "text",
        "user",
        "assistant",
        "tool",
        "image_url",
        "json_schema",
        "function",
        "required",
        "none",
        "high",
        "data:image/png;base64,AAAA",
        "http://127.0.0.1/",
        "{\"a\":1}",
        "[",
        "\u{2028}",
        "\0",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![
            json!(0),
            json!(-1),
            json!(1),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(0.5),
            json!(1e300)
        ]),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        prop::sample::select(words.map(Value::from).to_vec()),
        any::<String>().prop_map(Value::from),
    ];
    let names = prop::sample::select(
        ["type", "text", "name", "function", "role", "content", "Model", "schema", "id", "\u{212a}eep_alive"]
            .to_vec(),
    );
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|fields| {
                Value::Object(
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

impl Change {
    fn make(self, body: &mut Value) {
        let mut places = 0;
        each(body, &mut |_| places += 1);
        let (chosen, mut nth) = (self.at.index(places), 0);
        let mut what = Some(self.what);
        each(body, &mut |place| {
            if nth == chosen
                && let Some(what) = what.take()
            {
                what.make(place);
            }
            nth += 1;
        });
    }
}

impl What {
    fn make(self, place: &mut Value) {
        match (self, place) {
            (Self::Replace(value), place) => *place = value,
            (Self::Add(value), Value::Array(items)) => items.push(value),
            (Self::Add(value), Value::Object(fields)) => {
                fields.insert("type".to_owned(), value);
            }
            (Self::Remove, Value::Array(items)) => {
                items.pop();
            }
            (Self::Remove, Value::Object(fields)) => {
                let first = fields.keys().next().cloned();
                first.and_then(|name| fields.shift_remove(&name));
            }
            (Self::Add(_) | Self::Remove, _) => {}
        }
    }
}

/// Visits a value and all below it.
fn each(value: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, visit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| each(field, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
