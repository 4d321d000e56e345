//! `GET /v1/auth/me/export`: everything that is kept about the caller, as one JSON document.

use std::{collections::VecDeque, sync::Arc};

use actors::system::System;
use chrono::{DateTime, Utc};
use domain::{
    account::User,
    audit::AuditFilter,
    conversation::{Conversation, PAGE_LIMIT_MAX},
    id::{ApiKeyId, AuditId, ConversationId, SessionId, TurnId, UserId},
    usage::LedgerFilter,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Document, Exports,
    conversation::{Messages, append_items},
    download,
    views::{AccountExported, EventExported, KeyExported, MessageExported, SessionExported},
};
use crate::{
    http::{ApiError, Call, Reply, append_json},
    routes::conversations::ConversationView,
    usage::view::LedgerView,
};

/// What the file holds.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountFile {
    /// `account.export`
    object: &'static str,
    exported_at: DateTime<Utc>,
    account: AccountExported,
    /// Ended ones are kept for a while.
    sessions: Vec<SessionExported>,
    api_keys: Vec<KeyExported>,
    conversations: Vec<ConversationWithAllMessages>,
    /// The account's part of the usage ledger, newest first.
    usage: Vec<LedgerView>,
    /// What the audit trail says about the account, newest first.
    audit: Vec<EventExported>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationWithAllMessages {
    #[serde(flatten)]
    conversation: ConversationView,
    messages: Vec<MessageExported>,
}

/// Downloads everything that is kept about the caller. A download that ends early is broken and not whole.
#[utoipa::path(get, path = "/v1/auth/me/export", operation_id = "exportMe", tag = "auth",
    responses((status = 200, body = AccountFile),
    (status = 503, description = "The store is away, or too many exports are under way")))]
pub(crate) async fn export(system: Arc<System>, call: Call, exports: Exports) -> Result<Reply, ApiError> {
    let caller = call.principal()?;
    let slot = exports.begin(caller.user)?;
    let account = system.auth.me(&caller).await?;
    let filename = format!("account-{}.json", caller.user);
    let document = Account {
        now: system.clock().now(),
        system,
        user: caller.user,
        is_first: true,
        at: Place::Account(Box::new(account)),
    };
    download(document, slot, &call, "application/json", &filename)
}

/// How far the document has come. Each list is at what was written last.
enum Place {
    Account(Box<User>),
    Sessions(Option<SessionId>),
    Keys(Option<ApiKeyId>),
    Conversations(Option<ConversationId>),
    /// Those of a page, the first of which is open once some of its messages were written.
    Said {
        page: VecDeque<Conversation>,
        last: ConversationId,
        open: Option<Messages>,
    },
    Usage(Option<TurnId>),
    Audit(Option<AuditId>),
    End,
}

struct Account {
    system: Arc<System>,
    user: UserId,
    now: DateTime<Utc>,
    at: Place,
    /// Whether nothing of the list it is at was written yet.
    is_first: bool,
}

impl Document for Account {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        let mut out = Vec::new();
        let (db, user) = (&self.system.db, self.user);
        let first = &mut self.is_first;
        self.at = match std::mem::replace(&mut self.at, Place::End) {
            Place::Account(account) => {
                out.extend_from_slice(br#"{"object":"account.export","exported_at":"#);
                append_json(&mut out, &self.now);
                out.extend_from_slice(br#","account":"#);
                append_json(&mut out, &AccountExported::from(*account));
                open(&mut out, first, "sessions");
                Place::Sessions(None)
            }
            Place::Sessions(after) => {
                let page = db.held_sessions(user, after).await?;
                let last = page.last().map(|last| last.id);
                append_items(&mut out, first, page.into_iter().map(SessionExported::from));
                match last {
                    Some(_) => Place::Sessions(last),
                    None => close(&mut out, first, Some("api_keys"), Place::Keys(None)),
                }
            }
            Place::Keys(after) => {
                let page = db.held_keys(user, after).await?;
                let last = page.last().map(|last| last.id);
                append_items(&mut out, first, page.into_iter().map(KeyExported::from));
                match last {
                    Some(_) => Place::Keys(last),
                    None => close(&mut out, first, Some("conversations"), Place::Conversations(None)),
                }
            }
            Place::Conversations(after) => {
                let page = VecDeque::from(db.held_conversations(user, after).await?);
                match page.back().map(|last| last.id) {
                    Some(last) => Place::Said { page, last, open: None },
                    None => close(&mut out, first, Some("usage"), Place::Usage(None)),
                }
            }
            Place::Said { page, last, open: Some(mut messages) } => {
                let said = messages.next().await?;
                if said.is_empty() {
                    out.extend_from_slice(b"]}");
                    *first = false;
                    Place::Said { page, last, open: None }
                } else {
                    append_items(&mut out, first, said.into_iter().map(MessageExported::from));
                    Place::Said { page, last, open: Some(messages) }
                }
            }
            Place::Said { mut page, last, open: None } => match page.pop_front() {
                Some(conversation) => {
                    if !*first {
                        out.push(b',');
                    }
                    let messages = Messages {
                        system: Arc::clone(&self.system),
                        owner: user,
                        conversation: conversation.id,
                        after: None,
                    };
                    append_json(&mut out, &ConversationView::from(conversation));
                    // Its object goes on with what was said in it.
                    out.pop();
                    out.extend_from_slice(br#","messages":["#);
                    *first = true;
                    Place::Said { page, last, open: Some(messages) }
                }
                None => Place::Conversations(Some(last)),
            },
            Place::Usage(before) => {
                let page = db.ledger(user, LedgerFilter::default(), before, PAGE_LIMIT_MAX).await?;
                append_items(&mut out, first, page.items.into_iter().map(LedgerView::from));
                match page.next {
                    Some(next) => Place::Usage(Some(next.into())),
                    None => close(&mut out, first, Some("audit"), Place::Audit(None)),
                }
            }
            Place::Audit(before) => {
                let filter = AuditFilter { user: Some(user), ..AuditFilter::default() };
                let page = db.audit(filter, before, PAGE_LIMIT_MAX).await?;
                append_items(&mut out, first, page.items.into_iter().map(EventExported::from));
                match page.next {
                    Some(next) => Place::Audit(Some(next.into())),
                    None => close(&mut out, first, None, Place::End),
                }
            }
            Place::End => return Ok(None),
        };
        Ok(Some(out))
    }
}

fn open(out: &mut Vec<u8>, is_first: &mut bool, list: &str) {
    *is_first = true;
    out.extend_from_slice(format!(",\"{list}\":[").as_bytes());
}

/// Ends a list and opens the next one, or ends the document; what comes next.
fn close(out: &mut Vec<u8>, is_first: &mut bool, next: Option<&str>, place: Place) -> Place {
    out.push(b']');
    match next {
        Some(list) => open(out, is_first, list),
        None => out.extend_from_slice(b"}\n"),
    }
    place
}
