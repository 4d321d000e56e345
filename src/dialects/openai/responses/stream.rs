//! The answer as it comes: `response.created`, items one after another, and how it ended; each event has its number.

use std::io::Write as _;

use super::{
    events::{
        ArgumentsDelta, ArgumentsDone, ErrorEvent, ItemEvent, MESSAGE, REASONING, ResponseEvent, Words, frame,
    },
    item::{Item, ItemStatus, PartView},
    reply::{ResponseReply, called},
    settings::Settings,
};
use crate::{
    dialects::{
        Encode,
        native::finish_reason,
        openai::{frames::Frames, logprobs::ChatLogprob},
    },
    http::{ApiError, RequestId, append_json},
};
use actors::{
    model::TurnNames,
    reply::{Ending, Event},
};
use domain::{
    chat::ToolCall,
    reply::{FinishReason, TokenLogprob},
};

/// Turns a turn's events into those of a response.
pub(crate) struct Encoder {
    names: TurnNames,
    request_id: RequestId,
    settings: Settings,
    /// The number of the next event.
    sequence: u64,
    has_begun: bool,
    /// All of the answer so far, which is told again at the end. The reply's own bound is theirs.
    items: Vec<Item<'static>>,
    /// The last of them grows.
    open: Option<Open>,
    /// Of a message that has not begun.
    early: Vec<TokenLogprob>,
    calls: usize,
}

/// An item that grows.
struct Open {
    words: &'static Words,
    /// `"item_id":"…","output_index":…,"…_index":0`: where its words belong, prepared once.
    place: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(names: TurnNames, request_id: RequestId, settings: Settings) -> Self {
        Self {
            names,
            request_id,
            settings,
            sequence: 0,
            has_begun: false,
            items: Vec::new(),
            open: None,
            early: Vec::new(),
            calls: 0,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        for event in ["response.created", "response.in_progress"] {
            let number = self.number();
            let response = ResponseReply::opening(&self.names, &self.settings);
            frame(out, event, number, &ResponseEvent { response });
        }
    }

    fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    /// Sees to it that an item with these words is open.
    fn enter(&mut self, words: &'static Words, out: &mut Vec<u8>) {
        if self.open.as_ref().is_some_and(|open| open.words == words) {
            return;
        }
        self.close(ItemStatus::Completed, out);
        let early = std::mem::take(&mut self.early);
        let item = if *words == MESSAGE {
            Item::Message { text: String::new().into(), logprobs: Vec::new().into() }
        } else {
            Item::Reasoning { text: String::new().into() }
        };
        self.add(item, out);
        let index = self.items.len() - 1;
        let mut place = b"\"item_id\":".to_vec();
        append_json(&mut place, &self.items[index].id(self.names.turn, index));
        // Writing to memory cannot fail.
        let _ = write!(place, ",\"output_index\":{index},\"{}\":0", words.index);
        self.open = Some(Open { words, place });
        self.of_open(
            |words| words.part_added,
            out,
            |item, _, out| {
                out.extend_from_slice(b",\"part\":");
                append_json(out, &item.part());
            },
        );
        if *words == MESSAGE && !early.is_empty() {
            self.likely(&early, out);
        }
    }

    /// Tells of a new item, of which nothing is told yet.
    fn add(&mut self, item: Item<'static>, out: &mut Vec<u8>) {
        self.items.push(item);
        self.item("response.output_item.added", ItemStatus::InProgress, out);
    }

    /// Tells how the last item stands.
    fn item(&mut self, event: &'static str, status: ItemStatus, out: &mut Vec<u8>) {
        let number = self.number();
        if let Some(item) = self.items.last() {
            let output_index = self.items.len() - 1;
            let item = item.view(self.names.turn, output_index, status);
            frame(out, event, number, &ItemEvent { output_index, item });
        }
    }

    /// An event of the open item's words, with what `write` adds.
    fn of_open(
        &mut self,
        event: impl FnOnce(&'static Words) -> &'static str,
        out: &mut Vec<u8>,
        write: impl FnOnce(&Item<'static>, &'static Words, &mut Vec<u8>),
    ) {
        let number = self.number();
        if let (Some(open), Some(item)) = (&self.open, self.items.last()) {
            let event = event(open.words);
            // Writing to memory cannot fail.
            let _ = write!(out, "event: {event}\ndata: {{\"type\":\"{event}\",\"sequence_number\":{number},");
            out.extend_from_slice(&open.place);
            write(item, open.words, out);
            out.extend_from_slice(b"}\n\n");
        }
    }

    /// More of the open item.
    fn said(&mut self, more: &str, out: &mut Vec<u8>) {
        if let Some(Item::Reasoning { text } | Item::Message { text, .. }) = self.items.last_mut() {
            text.to_mut().push_str(more);
        }
        self.of_open(
            |words| words.delta,
            out,
            |_, words, out| {
                out.extend_from_slice(b",\"delta\":");
                append_json(out, more);
                out.extend_from_slice(words.after);
            },
        );
    }

    /// How likely the tokens of the open message were.
    fn likely(&mut self, tokens: &[TokenLogprob], out: &mut Vec<u8>) {
        if let Some(Item::Message { logprobs, .. }) = self.items.last_mut() {
            logprobs.to_mut().extend_from_slice(tokens);
        }
        self.of_open(
            |words| words.delta,
            out,
            |_, _, out| {
                out.extend_from_slice(b",\"delta\":\"\",\"logprobs\":");
                append_json(out, &tokens.iter().map(ChatLogprob::from).collect::<Vec<_>>());
            },
        );
    }

    /// Ends the item that is open, if there is one, and tells it whole.
    fn close(&mut self, status: ItemStatus, out: &mut Vec<u8>) {
        if self.open.is_none() {
            return;
        }
        self.of_open(
            |words| words.done,
            out,
            |item, _, out| match item.part() {
                Some(PartView::SummaryText { text }) => {
                    out.extend_from_slice(b",\"text\":");
                    append_json(out, text);
                }
                Some(PartView::OutputText { text, logprobs, .. }) => {
                    out.extend_from_slice(b",\"text\":");
                    append_json(out, text);
                    out.extend_from_slice(b",\"logprobs\":");
                    append_json(out, &logprobs);
                }
                None => {}
            },
        );
        self.of_open(
            |words| words.part_done,
            out,
            |item, _, out| {
                out.extend_from_slice(b",\"part\":");
                append_json(out, &item.part());
            },
        );
        self.open = None;
        self.item("response.output_item.done", status, out);
    }

    fn call(&mut self, call: &ToolCall, out: &mut Vec<u8>) {
        self.close(ItemStatus::Completed, out);
        let nth = self.calls;
        self.calls += 1;
        let item = called(call, self.names.turn, nth).into_owned();
        self.add(item, out);
        let (first, second) = (self.number(), self.number());
        let output_index = self.items.len() - 1;
        if let Some(item @ Item::Call { name, arguments, .. }) = self.items.last() {
            let item_id = &*item.id(self.names.turn, output_index);
            let delta = ArgumentsDelta { item_id, output_index, delta: arguments };
            frame(out, "response.function_call_arguments.delta", first, &delta);
            let done = ArgumentsDone { item_id, output_index, name, arguments };
            frame(out, "response.function_call_arguments.done", second, &done);
        }
        self.item("response.output_item.done", ItemStatus::Completed, out);
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) {
        let finish = match finish_reason(ending) {
            Err(error) => return self.give_up(&error, Some(ending), out),
            Ok(finish) => finish,
        };
        self.begin(out);
        let is_told = self.items.iter().any(|item| !matches!(item, Item::Reasoning { .. }));
        if !is_told {
            self.enter(&MESSAGE, out);
        }
        let (status, event) = match finish {
            FinishReason::Length => (ItemStatus::Incomplete, "response.incomplete"),
            FinishReason::Stop | FinishReason::ToolCalls => (ItemStatus::Completed, "response.completed"),
        };
        self.close(status, out);
        let number = self.number();
        let response = ResponseReply::ended(&self.names, &self.settings, &self.items, finish, ending);
        frame(out, event, number, &ResponseEvent { response });
    }

    /// What a reader of events is told of a failure, and then what OpenAI's libraries raise.
    fn give_up(&mut self, error: &ApiError, ending: Option<&Ending>, out: &mut Vec<u8>) {
        self.begin(out);
        self.close(ItemStatus::Incomplete, out);
        let (first, second) = (self.number(), self.number());
        let error = error.object_in_stream(self.request_id.as_str());
        let (code, message, param) = (error.code, error.message, error.param);
        let response =
            ResponseReply::failed(&self.names, &self.settings, &self.items, (code, message), ending);
        frame(out, "response.failed", first, &ResponseEvent { response });
        frame(out, "error", second, &ErrorEvent { code, message, param, error });
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Queued(notice) => Frames::queue(out, notice),
            Event::Started => self.begin(out),
            Event::Content { text, .. } => {
                self.begin(out);
                self.enter(&MESSAGE, out);
                self.said(text, out);
            }
            Event::Thinking { text, .. } => {
                self.begin(out);
                self.enter(&REASONING, out);
                self.said(text, out);
            }
            Event::ToolCall { call, .. } => {
                self.begin(out);
                self.call(call, out);
            }
            Event::Logprobs { tokens } => match &self.open {
                Some(open) if *open.words == MESSAGE => self.likely(tokens, out),
                // There is no place for those of thoughts.
                Some(_) => {}
                None => self.early.extend_from_slice(tokens),
            },
            Event::Ended { ending, .. } => self.end(ending, out),
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.give_up(error, None, out);
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        Frames::heartbeat(out);
    }
}

#[cfg(test)]
mod tests;
