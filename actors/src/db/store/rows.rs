//! Rows on their way in: one JSON array per table, which both databases unfold in one statement (`jsonb_each`,
//! `json_to_recordset`).
//!
//! Times travel as microseconds since 1970. A NUL character is stored as U+FFFD: Postgres has no text with NUL, and one
//! such message must not fail the transaction it shares.

use std::{borrow::Cow, collections::HashMap, net::IpAddr, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    audit::AuditEntry,
    chat::Role,
    conversation::{NewMessage, title_words},
    id::{ApiKeyId, AuditId, ConversationId, InstanceId, MessageId, TurnId, UserId},
    reply::{Answer, FinishReason},
    session::Ending,
    turn::{BeginTurn, Checkpoint, Claim, Exchange, Settlement, TurnStatus},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock::fresh_id,
    db::{
        DbError,
        indexing::{Worded, WordedTitle},
    },
    digest::hex,
};

/// How many turns one look for requests to cancel finds; the next one finds those that are left.
pub(super) const CANCELS_MAX: u32 = 1_000;

/// A key, what was asked with it, and the turn that it is to stand for.
#[derive(Serialize)]
pub(super) struct ClaimRow {
    turn: TurnId,
    user: UserId,
    key: String,
    request: String,
    at: i64,
}

/// Where a turn wants to be said, and by whom.
#[derive(Serialize)]
pub(super) struct PlaceRow<'a> {
    turn: TurnId,
    user: UserId,
    /// Null: nowhere.
    conversation: Option<ConversationId>,
    /// Null demands that the conversation exists.
    title: Option<Cow<'a, str>>,
    title_words: Option<String>,
    parent: Option<Uuid>,
    at: i64,
}

#[derive(Serialize)]
pub(super) struct TurnRow<'a> {
    id: TurnId,
    user: UserId,
    key: Option<ApiKeyId>,
    conversation: Option<ConversationId>,
    reply: Option<MessageId>,
    model: &'a str,
    owner: InstanceId,
    lease_until: i64,
    at: i64,
}

#[derive(Serialize)]
pub(super) struct MessageRow<'a> {
    id: MessageId,
    conversation: ConversationId,
    turn: TurnId,
    parent: Option<Uuid>,
    role: &'static str,
    content: Cow<'a, str>,
    thinking: Option<Cow<'a, str>>,
    images: Option<String>,
    tool_calls: Option<String>,
    tool_name: Option<Cow<'a, str>>,
    tool_call_id: Option<Cow<'a, str>>,
    status: &'static str,
    at: i64,
}

#[derive(Serialize)]
pub(super) struct CheckpointRow<'a> {
    id: MessageId,
    turn: TurnId,
    seq: u32,
    content: Cow<'a, str>,
    thinking: Option<Cow<'a, str>>,
    tool_calls: Option<String>,
}

/// The ledger's row of a turn that ended.
#[derive(Serialize)]
pub(super) struct UsageRow<'a> {
    id: TurnId,
    user: UserId,
    key: Option<ApiKeyId>,
    conversation: Option<ConversationId>,
    reply: Option<MessageId>,
    model: &'a str,
    status: &'static str,
    failure: Option<&'static str>,
    finish_reason: Option<&'static str>,
    prompt_tokens: u32,
    completion_tokens: u32,
    usage_source: &'static str,
    queued_ms: u64,
    load_ms: u64,
    first_token_ms: Option<u64>,
    total_ms: u64,
    at: i64,
    ended_at: i64,
}

/// The final text of an answer.
#[derive(Serialize)]
pub(super) struct ReplyRow<'a> {
    id: MessageId,
    turn: TurnId,
    content: Cow<'a, str>,
    thinking: Option<Cow<'a, str>>,
    tool_calls: Option<String>,
    status: &'static str,
}

/// One entry of the audit trail.
#[derive(Serialize)]
pub(super) struct AuditRow<'a> {
    id: AuditId,
    event: &'static str,
    actor: Option<UserId>,
    user: Option<UserId>,
    detail: Option<Cow<'a, str>>,
    address: Option<IpAddr>,
    request_id: Option<Cow<'a, str>>,
    at: i64,
}

/// The words of a message, and what its text is known by.
#[derive(Serialize)]
pub(super) struct WordsRow<'a> {
    id: MessageId,
    status: &'static str,
    bytes: i64,
    words: &'a [String],
}

/// The words of a title.
#[derive(Serialize)]
pub(super) struct TitleRow<'a> {
    id: ConversationId,
    title: Cow<'a, str>,
    words: Cow<'a, str>,
}

/// When something was last used.
#[derive(Serialize)]
pub(super) struct TouchRow {
    id: Uuid,
    at: i64,
}

impl ClaimRow {
    /// Nothing for a turn without a key.
    pub(super) fn of(begin: &BeginTurn) -> Option<Self> {
        let Claim { key, request } = begin.claim?;
        Some(Self {
            turn: begin.turn,
            user: begin.user,
            // Both databases read it with a function of their own (`unhex`, `decode`).
            key: hex(key),
            request: hex(request),
            at: micros(begin.created_at),
        })
    }
}

impl<'a> PlaceRow<'a> {
    pub(super) fn of(begin: &'a BeginTurn) -> Self {
        let exchange = begin.exchange.as_ref();
        let title = exchange.and_then(|exchange| exchange.new_conversation_title.as_deref());
        Self {
            turn: begin.turn,
            user: begin.user,
            conversation: exchange.map(|exchange| exchange.conversation),
            title: title.map(storable),
            title_words: title.map(title_words),
            parent: exchange.and_then(|exchange| exchange.parent),
            at: micros(begin.created_at),
        }
    }
}

impl<'a> TurnRow<'a> {
    pub(super) fn of(begin: &'a BeginTurn) -> Self {
        Self {
            id: begin.turn,
            user: begin.user,
            key: begin.key,
            conversation: begin.stored().map(|stored| stored.conversation),
            reply: begin.stored().map(|stored| stored.message),
            model: &begin.model,
            owner: begin.owner,
            lease_until: micros(begin.lease_until),
            at: micros(begin.created_at),
        }
    }
}

impl<'a> MessageRow<'a> {
    /// The caller's messages and the empty answer, each following the one before it; nothing for a turn that is not stored.
    pub(super) fn of(begin: &'a BeginTurn) -> impl Iterator<Item = Self> {
        begin.exchange.iter().flat_map(move |exchange| {
            let mut parent = exchange.parent;
            let said = exchange
                .messages
                .iter()
                .map(move |new| Self::said(begin, exchange, parent.replace(new.id.as_uuid()), new));
            let last = exchange.messages.last().map_or(exchange.parent, |last| Some(last.id.as_uuid()));
            said.chain([Self::reply(begin, exchange, last)])
        })
    }

    fn said(begin: &BeginTurn, exchange: &'a Exchange, parent: Option<Uuid>, new: &'a NewMessage) -> Self {
        let message = &new.message;
        Self {
            id: new.id,
            conversation: exchange.conversation,
            turn: begin.turn,
            parent,
            role: message.role.as_str(),
            content: storable(&message.content),
            thinking: message.thinking.as_deref().map(storable),
            images: json_list(&message.images),
            tool_calls: json_list(&message.tool_calls),
            tool_name: message.tool_name.as_deref().map(storable),
            tool_call_id: message.tool_call_id.as_deref().map(storable),
            status: TurnStatus::Complete.as_str(),
            at: micros(begin.created_at),
        }
    }

    fn reply(begin: &BeginTurn, exchange: &Exchange, parent: Option<Uuid>) -> Self {
        Self {
            id: exchange.reply,
            conversation: exchange.conversation,
            turn: begin.turn,
            parent,
            role: Role::Assistant.as_str(),
            content: Cow::Borrowed(""),
            thinking: None,
            images: None,
            tool_calls: None,
            tool_name: None,
            tool_call_id: None,
            status: TurnStatus::Streaming.as_str(),
            at: micros(begin.created_at),
        }
    }
}

impl<'a> CheckpointRow<'a> {
    pub(super) fn of(checkpoint: &'a Checkpoint) -> Self {
        let (content, thinking, tool_calls) = text_of(&checkpoint.answer);
        Self {
            id: checkpoint.reply,
            turn: checkpoint.turn,
            seq: checkpoint.seq,
            content,
            thinking,
            tool_calls,
        }
    }
}

impl<'a> UsageRow<'a> {
    pub(super) fn of(settlement: &'a Settlement) -> Self {
        let Settlement { usage, timings, .. } = settlement;
        Self {
            id: settlement.turn,
            user: settlement.user,
            key: settlement.key,
            conversation: settlement.stored.map(|stored| stored.conversation),
            reply: settlement.stored.map(|stored| stored.message),
            model: &settlement.model,
            status: settlement.status.as_str(),
            failure: settlement.failure.map(|failure| failure.as_str()),
            finish_reason: settlement.finish_reason.map(FinishReason::as_str),
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            usage_source: usage.source.as_str(),
            queued_ms: milliseconds(timings.queued),
            load_ms: milliseconds(timings.load),
            first_token_ms: timings.first_token.map(milliseconds),
            total_ms: milliseconds(timings.total),
            at: micros(settlement.created_at),
            ended_at: micros(settlement.ended_at),
        }
    }
}

impl<'a> ReplyRow<'a> {
    /// Nothing for a turn that is not stored.
    pub(super) fn of(settlement: &'a Settlement) -> Option<Self> {
        let stored = settlement.stored?;
        let (content, thinking, tool_calls) = text_of(&settlement.answer);
        Some(Self {
            id: stored.message,
            turn: settlement.turn,
            content,
            thinking,
            tool_calls,
            status: settlement.status.as_str(),
        })
    }
}

impl<'a> AuditRow<'a> {
    pub(super) fn of(entry: &'a AuditEntry) -> Self {
        Self {
            id: entry.id,
            event: entry.event.as_str(),
            actor: entry.actor,
            user: entry.user,
            detail: entry.detail.as_deref().map(storable),
            address: entry.address,
            request_id: entry.request_id.as_deref().map(storable),
            at: micros(entry.at),
        }
    }
}

impl<'a> WordsRow<'a> {
    pub(super) fn of(worded: &'a [Worded]) -> Vec<Self> {
        let row = |one: &'a Worded| Self {
            id: one.message,
            status: one.status.as_str(),
            bytes: one.bytes,
            words: &one.marks,
        };
        worded.iter().map(row).collect()
    }
}

impl<'a> TitleRow<'a> {
    pub(super) fn of(worded: &'a [WordedTitle]) -> Vec<Self> {
        let row = |one: &'a WordedTitle| Self {
            id: one.conversation,
            title: Cow::Borrowed(&one.title),
            words: Cow::Borrowed(&one.words),
        };
        worded.iter().map(row).collect()
    }

    /// What turns call the conversations that have no title: one for each.
    pub(super) fn of_untitled(begins: &[(usize, &'a BeginTurn)]) -> Vec<Self> {
        let mut rows = HashMap::new();
        for exchange in begins.iter().filter_map(|(_, begin)| begin.exchange.as_ref()) {
            let Some(title) = &exchange.title_if_untitled else { continue };
            rows.entry(exchange.conversation).or_insert_with(|| Self {
                id: exchange.conversation,
                title: storable(title),
                words: Cow::Owned(title_words(title)),
            });
        }
        rows.into_values().collect()
    }
}

impl TouchRow {
    pub(super) fn of<Id: Into<Uuid> + Copy>(touched: &[(Id, DateTime<Utc>)]) -> Vec<Self> {
        touched.iter().map(|(id, at)| Self { id: (*id).into(), at: micros(*at) }).collect()
    }
}

/// The one session that ends, and the one that does not, if any is named.
pub(super) fn only_but(which: Ending) -> (Option<Uuid>, Option<Uuid>) {
    match which {
        Ending::One(session) => (Some(session.as_uuid()), None),
        Ending::AllBut(session) => (None, Some(session.as_uuid())),
        Ending::All => (None, None),
    }
}

/// One statement's worth of rows.
pub(super) fn json<R: Serialize>(rows: &[R]) -> Result<String, DbError> {
    serde_json::to_string(rows).map_err(|error| DbError::Broken(error.to_string()))
}

pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// What a deleted account is called. Drawn anew, or somebody could take the name first and so keep an account from going.
pub(super) fn nobodys_address() -> String {
    format!("{}@deleted.invalid", fresh_id::<Uuid>())
}

pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

fn text_of(answer: &Answer) -> (Cow<'_, str>, Option<Cow<'_, str>>, Option<String>) {
    let thinking = (!answer.thinking.is_empty()).then(|| storable(&answer.thinking));
    (storable(&answer.content), thinking, json_list(&answer.tool_calls))
}

/// `None` when there is nothing in it; a NUL inside is escaped by JSON itself.
fn json_list<T: Serialize>(items: &[T]) -> Option<String> {
    if items.is_empty() { None } else { serde_json::to_string(items).ok() }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(i64::MAX as u64).min(i64::MAX as u64)
}
