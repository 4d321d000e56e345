//! One scenario in one dialect: what was got, whether it is well-formed, and how it is shown.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Dialect, redact::Redacted};
use crate::harness::Reply;

/// Where a piece's text is, in the dialect that has it.
const TEXTS: [&str; 9] = [
    "/content",
    "/message/content",
    "/message/thinking",
    "/choices/0/delta/content",
    "/choices/0/delta/reasoning",
    "/choices/0/delta/reasoning_content",
    "/delta",
    "/delta/text",
    "/delta/thinking",
];

/// Where its tokens' probabilities are; they come after the text they are of, sooner or later.
const LOGPROBS: [&str; 2] = ["/logprobs", "/choices/0/logprobs/content"];

pub(super) struct Cell {
    pub(super) dialect: Dialect,
    reply: Reply,
    pieces: Vec<Piece>,
    /// It says that nothing is missing.
    pub(super) is_whole: bool,
    /// What it told of the answer's content, if it is whole.
    pub(super) text: String,
}

/// A frame of a stream, a line of one, or a whole reply.
struct Piece {
    /// The lines before its data.
    head: String,
    /// `None`: `[DONE]`.
    data: Option<Value>,
}

impl Piece {
    fn kind(&self) -> &str {
        self.data.as_ref().and_then(|data| data["type"].as_str()).unwrap_or_default()
    }

    fn is_event(&self, name: &str) -> bool {
        self.head.lines().any(|line| line.strip_prefix("event: ") == Some(name))
    }

    /// The same without its texts and probabilities, and where these were.
    fn without_texts(&self) -> (Value, Vec<&'static str>) {
        let mut data = self.data.clone().unwrap_or_default();
        let says = |value: &Value| {
            value.as_str().is_some_and(|text| !text.is_empty())
                || value.as_array().is_some_and(|tokens| !tokens.is_empty())
        };
        let found = TEXTS.into_iter().chain(LOGPROBS).filter(|at| {
            let found = data.pointer_mut(at).filter(|value| says(value));
            found.map(|value| *value = Value::Null).is_some()
        });
        let found = found.collect();
        (data, found)
    }

    fn has_logprobs(&self) -> bool {
        self.without_texts().1.iter().any(|at| LOGPROBS.contains(at))
    }

    /// Takes up the text of `next`, if the two are pieces of one.
    fn take_up(&mut self, next: &Self) -> bool {
        let (ours, theirs) = (self.without_texts(), next.without_texts());
        let is_one = !ours.1.is_empty() && ours == theirs && self.event_line() == next.event_line();
        if let (true, Some(data), Some(more)) = (is_one, &mut self.data, &next.data) {
            for at in ours.1 {
                match (data.pointer_mut(at), more.pointer(at)) {
                    (Some(Value::String(text)), Some(Value::String(more))) => text.push_str(more),
                    (Some(Value::Array(tokens)), Some(Value::Array(more))) => tokens.extend_from_slice(more),
                    _ => {}
                }
            }
            self.head.clone_from(&next.head);
        }
        is_one
    }

    fn event_line(&self) -> Option<&str> {
        self.head.lines().find(|line| line.starts_with("event: "))
    }
}

impl Cell {
    pub(super) fn of(dialect: Dialect, reply: Reply) -> Self {
        let text = reply.text();
        let content_type = reply.header("content-type").unwrap_or_default();
        let mut pieces: Vec<Piece> = match content_type {
            "text/event-stream" => {
                assert!(text.ends_with("\n\n"), "{reply:?}");
                text.split_terminator("\n\n").filter(|frame| !frame.starts_with(':')).map(frame).collect()
            }
            "application/x-ndjson" => {
                assert!(text.ends_with('\n'), "{reply:?}");
                text.lines().map(|line| data(String::new(), line)).collect()
            }
            "application/json" => vec![data(String::new(), &text)],
            other => panic!("{other}: {reply:?}"),
        };
        let is_stream = content_type != "application/json";
        assert_eq!(is_stream, dialect.is_streamed && reply.status == 200, "{reply:?}");
        pieces.retain(|piece| !piece.is_event("queue") && !piece.is_event("ping"));
        let mut cell = Self { dialect, reply, pieces, is_whole: false, text: String::new() };
        cell.is_whole = cell.ends() == (1, 0);
        if cell.is_whole {
            cell.text = cell.told();
        }
        cell
    }

    /// How many pieces say that it is whole, and how many that it failed.
    fn ends(&self) -> (usize, usize) {
        let is_json = !self.dialect.is_streamed;
        let is_end = |piece: &&Piece| match self.dialect.path {
            "/v1/chat/stream" => piece.is_event("done"),
            "/v1/chat/completions" if !is_json => piece.data.is_none(),
            "/v1/responses" if !is_json => {
                matches!(piece.kind(), "response.completed" | "response.incomplete")
            }
            "/v1/messages" if !is_json => piece.kind() == "message_stop",
            "/api/chat" => piece.data.as_ref().is_some_and(|data| data["done"] == true),
            _ => self.reply.status == 200,
        };
        let is_failure = |piece: &&Piece| {
            piece.data.as_ref().is_some_and(|data| data.get("error").is_some_and(|error| !error.is_null()))
        };
        (self.pieces.iter().filter(is_end).count(), self.pieces.iter().filter(is_failure).count())
    }

    /// The content of the answer.
    fn told(&self) -> String {
        let text = |at: &str| -> String {
            let texts = self.pieces.iter().filter_map(|piece| piece.data.as_ref()?.pointer(at)?.as_str());
            texts.collect()
        };
        let of = |kind: &str, at: &str| -> String {
            let pieces = self.pieces.iter().filter(|piece| piece.kind() == kind);
            pieces.filter_map(|piece| piece.data.as_ref()?.pointer(at)?.as_str()).collect()
        };
        let first = |field: &str, kind: &str, text: &str| -> String {
            let items = self.pieces[0].data.as_ref().and_then(|data| data[field].as_array());
            let mut items = items.into_iter().flatten().filter(|item| item["type"] == kind);
            items.next().and_then(|item| item.pointer(text)?.as_str()).unwrap_or_default().to_owned()
        };
        match (self.dialect.path, self.dialect.is_streamed) {
            ("/v1/chat/stream", _) => {
                let chunks = self.pieces.iter().filter(|piece| piece.is_event("chunk"));
                chunks.filter_map(|piece| piece.data.as_ref()?["content"].as_str()).collect()
            }
            ("/v1/chat/completions", true) => text("/choices/0/delta/content"),
            ("/v1/chat/completions", false) => text("/choices/0/message/content"),
            ("/v1/responses", true) => of("response.output_text.delta", "/delta"),
            ("/v1/responses", false) => first("output", "message", "/content/0/text"),
            ("/v1/messages", true) => text("/delta/text"),
            ("/v1/messages", false) => first("content", "text", "/text"),
            _ => text("/message/content"),
        }
    }

    /// It ends once, in one of the two ways, and a failure is told in the words of its dialect.
    pub(super) fn check(&self, scenario: &str) {
        let case = format!("{scenario} in {}: {:?}", self.dialect.name, self.reply);
        let (ends, failures) = self.ends();
        assert_eq!(ends + failures, 1, "{case}");
        if failures == 1 {
            let last = self.pieces.last().and_then(|piece| piece.data.as_ref()).expect(&case);
            let error = &last["error"];
            let is_told = match self.dialect.path {
                "/api/chat" => error.is_string(),
                "/v1/messages" => last["type"] == "error" && error["message"].is_string(),
                "/v1/responses" if self.reply.status == 200 => {
                    last["type"] == "error" && error["code"] == last["code"] && error["message"].is_string()
                }
                _ => error["code"].is_string() && error["message"].is_string(),
            };
            assert!(is_told, "{case}");
            let has_id = error.is_string()
                || [&error["request_id"], &last["request_id"]]
                    .contains(&&json!(self.reply.header("x-request-id")));
            assert!(has_id, "{case}");
        }
        let numbers: Vec<_> =
            self.pieces.iter().filter_map(|piece| piece.data.as_ref()?["sequence_number"].as_u64()).collect();
        assert!(numbers.iter().enumerate().all(|(nth, number)| *number == nth as u64), "{case}");
    }

    pub(super) fn shown(&self) -> String {
        let mut text = format!("=== {}\n{}", self.dialect.name, self.reply.status);
        for name in ["content-type", "retry-after"] {
            if let Some(value) = self.reply.header(name) {
                let value = if name == "retry-after" { "‹n›" } else { value };
                write!(text, " {name}: {value}").unwrap();
            }
        }
        text.push('\n');
        let mut redacted = Redacted::default();
        let mut shown: Vec<Piece> = Vec::new();
        for piece in &self.pieces {
            let mut data = piece.data.clone();
            if let Some(data) = &mut data {
                redacted.value(data);
                if let Some(number) = data.get_mut("sequence_number") {
                    *number = json!("‹n›");
                }
            }
            let piece = Piece { head: piece.head.clone(), data };
            join(&mut shown, piece);
        }
        for Piece { head, data } in shown {
            text.push_str(&head);
            match data {
                Some(data) => writeln!(text, "{data}").unwrap(),
                None => text.push_str("[DONE]\n"),
            }
        }
        text
    }
}

/// Adds a piece to others of its kind. A text stands before the probabilities of its tokens, in whichever order they came.
fn join(shown: &mut Vec<Piece>, piece: Piece) {
    let is_beside = shown.last().is_some_and(|last| last.has_logprobs() != piece.has_logprobs());
    let same = shown.len().checked_sub(1 + usize::from(is_beside));
    if same.is_some_and(|at| shown[at].take_up(&piece)) {
        return;
    }
    let is_text = !piece.has_logprobs() && !piece.without_texts().1.is_empty();
    let at = if is_beside && is_text { shown.len() - 1 } else { shown.len() };
    shown.insert(at, piece);
}

/// A server-sent event: lines, the last of which is its data.
fn frame(text: &str) -> Piece {
    let at = text.find("data: ").unwrap_or_else(|| panic!("{text:?}")) + "data: ".len();
    let (head, rest) = text.split_at(at);
    if rest == "[DONE]" {
        return Piece { head: head.to_owned(), data: None };
    }
    data(head.to_owned(), rest)
}

/// A piece whose data is one line of JSON without a blank.
fn data(head: String, text: &str) -> Piece {
    let data: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert_eq!(data.to_string(), text, "not written as tight as it can be");
    Piece { head, data: Some(data) }
}
