//! What is written of a settlement: a version, and the end of the turn as JSON.
//!
//! The format is said here rather than by the domain's types, because a file outlives the binary that wrote it: a field may
//! be added with a default, anything else needs another version.

use std::{borrow::Cow, time::Duration};

use chrono::DateTime;
use domain::{
    chat::ToolCall,
    id::{ApiKeyId, ConversationId, MessageId, TurnId, UserId},
    reply::{Answer, FailureCode, FinishReason, Timings, Usage, UsageSource},
    turn::{Settlement, StoredReply, TurnStatus},
};
use serde::{Deserialize, Serialize};

/// The first byte of each record of this format.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    turn: TurnId,
    user: UserId,
    key: Option<ApiKeyId>,
    model: Cow<'a, str>,
    stored: Option<(ConversationId, MessageId)>,
    status: Cow<'a, str>,
    failure: Option<Cow<'a, str>>,
    finish_reason: Option<Cow<'a, str>>,
    content: Cow<'a, str>,
    thinking: Cow<'a, str>,
    tool_calls: Cow<'a, [ToolCall]>,
    prompt_tokens: u32,
    completion_tokens: u32,
    usage_source: Cow<'a, str>,
    queued: Duration,
    load: Duration,
    first_token: Option<Duration>,
    total: Duration,
    /// Microseconds since 1970, as in the store.
    created_at: i64,
    ended_at: i64,
}

/// A settlement as a record; `None` when it cannot be put into words.
pub(super) fn write(settlement: &Settlement) -> Option<Vec<u8>> {
    let Settlement { answer, usage, timings, .. } = settlement;
    let record = Record {
        turn: settlement.turn,
        user: settlement.user,
        key: settlement.key,
        model: Cow::Borrowed(&settlement.model),
        stored: settlement.stored.map(|stored| (stored.conversation, stored.message)),
        status: settlement.status.as_str().into(),
        failure: settlement.failure.map(|failure| failure.as_str().into()),
        finish_reason: settlement.finish_reason.map(|reason| reason.as_str().into()),
        content: Cow::Borrowed(&answer.content),
        thinking: Cow::Borrowed(&answer.thinking),
        tool_calls: Cow::Borrowed(&answer.tool_calls),
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        usage_source: usage.source.as_str().into(),
        queued: timings.queued,
        load: timings.load,
        first_token: timings.first_token,
        total: timings.total,
        created_at: settlement.created_at.timestamp_micros(),
        ended_at: settlement.ended_at.timestamp_micros(),
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &record).ok()?;
    Some(bytes)
}

/// The settlement of a record; `None` when another binary wrote it, in words that this one does not know.
pub(super) fn read(bytes: &[u8]) -> Option<Settlement> {
    let (&VERSION, json) = bytes.split_first()? else { return None };
    let record: Record<'_> = serde_json::from_slice(json).ok()?;
    Some(Settlement {
        turn: record.turn,
        user: record.user,
        key: record.key,
        model: record.model.into_owned(),
        stored: record.stored.map(|(conversation, message)| StoredReply { conversation, message }),
        status: TurnStatus::parse(&record.status)?,
        failure: known(record.failure, FailureCode::parse)?,
        finish_reason: known(record.finish_reason, FinishReason::parse)?,
        answer: Answer {
            content: record.content.into_owned(),
            thinking: record.thinking.into_owned(),
            tool_calls: record.tool_calls.into_owned(),
            logprobs: Vec::new(),
        },
        usage: Usage {
            prompt_tokens: record.prompt_tokens,
            completion_tokens: record.completion_tokens,
            source: UsageSource::parse(&record.usage_source)?,
        },
        timings: Timings {
            queued: record.queued,
            load: record.load,
            first_token: record.first_token,
            total: record.total,
        },
        created_at: DateTime::from_timestamp_micros(record.created_at)?,
        ended_at: DateTime::from_timestamp_micros(record.ended_at)?,
    })
}

/// A word that may be missing but must be known.
fn known<T>(word: Option<Cow<'_, str>>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    word.map_or(Some(None), |word| parse(&word).map(Some))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        clock::fresh_id,
        db::contract::samples::{begin, settlement},
    };

    #[test]
    fn a_settlement_is_read_back_as_it_was() {
        let stored = settlement(&begin(fresh_id()), "what was \0 said, \"quoted\"\n and 🦀");
        let failed = Settlement {
            key: Some(fresh_id()),
            stored: None,
            status: TurnStatus::Failed,
            failure: Some(FailureCode::UpstreamIncomplete),
            finish_reason: None,
            answer: Answer {
                thinking: "hm".into(),
                tool_calls: vec![ToolCall {
                    id: "call-1".into(),
                    name: "weather".into(),
                    arguments: json!({"z": 1, "a": "\u{7f}"}),
                }],
                ..Answer::default()
            },
            ..stored.clone()
        };
        for settlement in [stored, failed] {
            let record = write(&settlement).unwrap();
            assert!(std::str::from_utf8(&record).is_ok(), "no record has the byte that marks one");
            assert_eq!(format!("{:?}", read(&record).unwrap()), format!("{settlement:?}"));
        }
    }

    #[test]
    fn what_another_binary_wrote_in_other_words_is_not_guessed_at() {
        let record = write(&settlement(&begin(fresh_id()), "hello")).unwrap();
        let mut newer = record.clone();
        newer[0] = VERSION + 1;
        assert!(read(&newer).is_none());
        let text = String::from_utf8(record[1..].to_vec()).unwrap();
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            read(&[&[VERSION], text.replace(from, to).as_bytes()].concat())
        };
        assert!(changed("\"complete\"", "\"complete\"").is_some());
        assert!(changed("\"complete\"", "\"merged\"").is_none(), "an unknown status");
        assert!(changed("\"stop\"", "\"bored\"").is_none(), "an unknown reason");
        assert!(changed("{\"turn\"", "{\"later\":1,\"turn\"").is_some(), "a field that came later");
        assert!(read(&[]).is_none());
    }
}
