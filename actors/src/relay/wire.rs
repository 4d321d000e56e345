//! What instances say to one another through Redis: the names of the streams, and the words in them.
//!
//! An instance that meets a word it does not know (there are two releases at work) passes over it; what was lost with it is
//! looked up in the store, like everything else that is missing.

use std::time::Duration;

use domain::{
    chat::ToolCall,
    id::{InstanceId, TurnId, UserId},
    reply::{FailureCode, FinishReason, Position, Timings, Usage, UsageSource},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::reply::{Ending, Event, Notice, Outcome};

/// The one field of every entry.
pub(super) const FIELD: &str = "e";

/// The most text in one entry; encoded it is longer by its escapes.
const ENTRY_TEXT_BYTES: usize = 16 << 10;

/// Where others say what they want of an instance.
pub(super) fn asks_of(instance: InstanceId) -> String {
    format!("deepersensor:{{{instance}}}:asks")
}

/// Where its owner tells of a turn.
pub(super) fn stream_of(turn: TurnId) -> String {
    format!("deepersensor:{{{turn}}}:turn")
}

/// Which turn a stream is about.
pub(super) fn turn_of(stream: &str) -> Option<TurnId> {
    stream.strip_prefix("deepersensor:{")?.strip_suffix("}:turn")?.parse().ok()
}

/// What is wanted of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Tell of this turn, for as long as somebody says so again.
    Follow { user: UserId, turn: TurnId },
    /// Look which turns the store wants ended: another instance has just noted one.
    Cancel,
    /// From an instance to itself: there is another stream to read.
    Look,
}

/// A part of what is told of a turn. `at` is where it begins, in its own kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Piece {
    /// Nothing is new, but the owner lives.
    Alive,
    Queued {
        loading: bool,
        position: u32,
        eta_ms: Option<u64>,
    },
    Started,
    Content {
        at: u32,
        text: String,
    },
    Thinking {
        at: u32,
        text: String,
    },
    ToolCall {
        at: u32,
        call: ToolCall,
    },
    Ended {
        end: [u32; 3],
        #[serde(flatten)]
        ending: Told,
    },
}

/// An [`Ending`] in words and whole microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    outcome: ToldOutcome,
    prompt_tokens: u32,
    completion_tokens: u32,
    source: String,
    queued_us: u64,
    load_us: u64,
    first_token_us: Option<u64>,
    total_us: u64,
    stored: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToldOutcome {
    Complete { reason: String },
    Failed { code: String, message: String, retry_after_us: Option<u64> },
}

impl Piece {
    /// `None` for what only the turn's own instance tells.
    pub(super) fn of(event: Event<'_>) -> Option<Self> {
        Some(match event {
            Event::Logprobs { .. } => return None,
            Event::Queued(Notice { loading, position, eta }) => {
                let eta_ms = eta.map(|eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX));
                Self::Queued { loading, position, eta_ms }
            }
            Event::Started => Self::Started,
            Event::Content { text, end } => {
                Self::Content { at: end.content - bytes(text), text: text.to_owned() }
            }
            Event::Thinking { text, end } => {
                Self::Thinking { at: end.thinking - bytes(text), text: text.to_owned() }
            }
            Event::ToolCall { call, end } => Self::ToolCall { at: end.tool_calls - 1, call: call.clone() },
            Event::Ended { ending, end } => {
                Self::Ended { end: [end.content, end.thinking, end.tool_calls], ending: Told::of(ending) }
            }
        })
    }

    /// Moves what is too much for an entry with `room` bytes left into a piece of its own.
    fn split(&mut self, room: usize) -> Option<Self> {
        let rest = |at: &mut u32, text: &mut String| {
            if text.len() <= room {
                return None;
            }
            let rest = text.split_off(text.floor_char_boundary(room));
            Some((*at + bytes(text), rest))
        };
        match self {
            Self::Content { at, text } => rest(at, text).map(|(at, text)| Self::Content { at, text }),
            Self::Thinking { at, text } => rest(at, text).map(|(at, text)| Self::Thinking { at, text }),
            _ => None,
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Content { text, .. } | Self::Thinking { text, .. } => text.len(),
            _ => 0,
        }
    }
}

/// What lies in a log is shorter than 4 GiB.
fn bytes(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

impl Told {
    fn of(ending: &Ending) -> Self {
        let Ending { outcome, usage, timings, stored } = ending;
        let outcome = match outcome {
            Outcome::Complete(reason) => ToldOutcome::Complete { reason: reason.as_str().to_owned() },
            Outcome::Failed { code, message, retry_after } => ToldOutcome::Failed {
                code: code.as_str().to_owned(),
                message: message.clone(),
                retry_after_us: retry_after.map(micros),
            },
        };
        Self {
            outcome,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            source: usage.source.as_str().to_owned(),
            queued_us: micros(timings.queued),
            load_us: micros(timings.load),
            first_token_us: timings.first_token.map(micros),
            total_us: micros(timings.total),
            stored: *stored,
        }
    }

    /// `None` where a word is unknown here.
    pub(super) fn ending(self) -> Option<Ending> {
        let outcome = match self.outcome {
            ToldOutcome::Complete { reason } => Outcome::Complete(FinishReason::parse(&reason)?),
            ToldOutcome::Failed { code, message, retry_after_us } => Outcome::Failed {
                code: FailureCode::parse(&code)?,
                message,
                retry_after: retry_after_us.map(Duration::from_micros),
            },
        };
        Some(Ending {
            outcome,
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                completion_tokens: self.completion_tokens,
                source: UsageSource::parse(&self.source)?,
            },
            timings: Timings {
                queued: Duration::from_micros(self.queued_us),
                load: Duration::from_micros(self.load_us),
                first_token: self.first_token_us.map(Duration::from_micros),
                total: Duration::from_micros(self.total_us),
            },
            stored: self.stored,
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn position([content, thinking, tool_calls]: [u32; 3]) -> Position {
    Position { content, thinking, tool_calls }
}

/// The pieces in entries of bounded size, in their order.
pub(super) fn entries(pieces: Vec<Piece>) -> Vec<Vec<u8>> {
    let (mut entries, mut entry, mut room) = (Vec::new(), Vec::new(), ENTRY_TEXT_BYTES);
    for mut piece in pieces {
        loop {
            let rest = piece.split(room);
            room = room.saturating_sub(piece.text_bytes());
            entry.push(piece);
            match rest {
                Some(rest) => {
                    entries.push(encode(&std::mem::take(&mut entry)));
                    room = ENTRY_TEXT_BYTES;
                    piece = rest;
                }
                None => break,
            }
        }
    }
    if !entry.is_empty() {
        entries.push(encode(&entry));
    }
    entries
}

pub(super) fn encode<T: Serialize>(words: &T) -> Vec<u8> {
    // Strings, numbers and JSON values with string keys are all that can be in there.
    serde_json::to_vec(words).unwrap_or_default()
}

/// `None`: these are no words of ours.
pub(super) fn decode<T: DeserializeOwned>(entry: &[u8]) -> Option<T> {
    serde_json::from_slice(entry).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::fresh_id;

    fn round_trip(pieces: Vec<Piece>) -> Vec<Piece> {
        let told: Option<Vec<Vec<Piece>>> = entries(pieces).iter().map(|entry| decode(entry)).collect();
        told.unwrap().into_iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn no_entry_is_large_and_no_byte_gets_lost_between_them(
            texts in proptest::collection::vec(("[aß€🦀]{1,9000}", any::<bool>()), 1..6),
        ) {
            let (mut content, mut thinking) = (String::new(), String::new());
            let pieces: Vec<_> = texts.into_iter().map(|(text, is_content)| {
                let all = if is_content { &mut content } else { &mut thinking };
                let at = bytes(all);
                all.push_str(&text);
                if is_content { Piece::Content { at, text } } else { Piece::Thinking { at, text } }
            }).collect();
            for entry in entries(pieces.clone()) {
                let told: Vec<Piece> = decode(&entry).unwrap();
                prop_assert!(told.iter().map(Piece::text_bytes).sum::<usize>() <= ENTRY_TEXT_BYTES);
            }
            let (mut told_content, mut told_thinking) = (String::new(), String::new());
            for piece in round_trip(pieces) {
                let (at, text, all) = match piece {
                    Piece::Content { at, text } => (at, text, &mut told_content),
                    Piece::Thinking { at, text } => (at, text, &mut told_thinking),
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(at as usize, all.len());
                all.push_str(&text);
            }
            prop_assert_eq!((told_content, told_thinking), (content, thinking));
        }
    }

    #[test]
    fn a_stream_is_known_by_its_name() {
        let turn: TurnId = fresh_id();
        assert_eq!(turn_of(&stream_of(turn)), Some(turn));
        assert_eq!(turn_of(&asks_of(fresh_id())), None);
    }

    #[test]
    fn an_ending_arrives_as_it_was() {
        let usage = Usage { prompt_tokens: 7, completion_tokens: 9, source: UsageSource::Counted };
        let timings = Timings {
            queued: Duration::from_micros(3),
            load: Duration::ZERO,
            first_token: Some(Duration::from_millis(8)),
            total: Duration::from_secs(600),
        };
        let failed = Outcome::Failed {
            code: FailureCode::Overloaded,
            message: "too many".to_owned(),
            retry_after: Some(Duration::from_secs(4)),
        };
        for outcome in [Outcome::Complete(FinishReason::Length), failed] {
            for stored in [None, Some(true), Some(false)] {
                let ending = Ending { outcome: outcome.clone(), usage, timings, stored };
                let end = Position { content: 1, thinking: 2, tool_calls: 3 };
                let piece = Piece::of(Event::Ended { ending: &ending, end });
                let Some(Piece::Ended { end: told, ending: said }) =
                    round_trip(piece.into_iter().collect()).pop()
                else {
                    panic!("no end");
                };
                assert_eq!((position(told), said.ending()), (end, Some(ending)));
            }
        }
    }

    #[test]
    fn words_of_another_release_are_passed_over() {
        assert_eq!(decode::<Vec<Piece>>(br#"[{"sung":{"at":0}}]"#), None);
        assert_eq!(decode::<Ask>(br#""pause""#), None);
        for ask in [Ask::Follow { user: fresh_id(), turn: fresh_id() }, Ask::Cancel, Ask::Look] {
            assert_eq!(decode(&encode(&ask)), Some(ask));
        }
    }
}
