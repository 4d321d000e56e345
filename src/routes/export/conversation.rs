//! `GET /v1/conversations/{id}/export`: one conversation as a file.

use std::sync::Arc;

use actors::system::System;
use chrono::{DateTime, Utc};
use domain::{
    conversation::Conversation,
    id::{ConversationId, MessageId, UserId},
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{Document, Exports, download, markdown::Markdown, views::MessageExported};
use crate::{
    http::{ApiError, Call, Reply, append_json},
    routes::{conversations::ConversationView, shapes},
};

/// What [`export`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what is read")]
pub(crate) struct FormatParam {
    #[param(schema_with = shapes::format_of_export)]
    format: Option<String>,
}

/// How it is written.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Markdown,
}

impl Format {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "json" => Some(Self::Json),
            "markdown" => Some(Self::Markdown),
            _ => None,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "md",
        }
    }
}

/// What the file holds.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationFile {
    /// `conversation.export`
    object: &'static str,
    exported_at: DateTime<Utc>,
    conversation: ConversationView,
    /// In the order they were made, of all branches.
    messages: Vec<MessageExported>,
}

/// Downloads a conversation: `format=json` (the default), which holds everything, or `format=markdown` to read, without
/// thinking and images. A download that ends early is broken and not whole.
#[utoipa::path(get, path = "/v1/conversations/{id}/export", operation_id = "exportConversation", tag = "conversations",
    params(("id" = Uuid, Path), FormatParam),
    responses((status = 200, content((ConversationFile = "application/json"), (String = "text/markdown"))),
    (status = 503, description = "The store is away, or too many exports are under way")))]
pub(crate) async fn export(system: Arc<System>, call: Call, exports: Exports) -> Result<Reply, ApiError> {
    let format = call.query("format", "`format` is json or markdown", Format::parse)?.unwrap_or(Format::Json);
    let owner = call.principal()?.user;
    let id: ConversationId = call.param().parse().map_err(|_| ApiError::no_conversation())?;
    let slot = exports.begin(owner)?;
    let conversation = system.db.conversation(owner, id).await?.ok_or_else(ApiError::no_conversation)?;
    let filename = format!("conversation-{id}.{}", format.extension());
    let messages = Messages { system: Arc::clone(&system), owner, conversation: id, after: None };
    let now = system.clock().now();
    match format {
        Format::Json => {
            let document = Json { head: Some((conversation, now)), messages, is_first: true, is_over: false };
            download(document, slot, &call, format.content_type(), &filename)
        }
        Format::Markdown => {
            let document = Text { head: Some((conversation, now)), messages, markdown: Markdown::default() };
            download(document, slot, &call, format.content_type(), &filename)
        }
    }
}

/// A way through a conversation's messages.
pub(super) struct Messages {
    pub(super) system: Arc<System>,
    pub(super) owner: UserId,
    pub(super) conversation: ConversationId,
    pub(super) after: Option<MessageId>,
}

impl Messages {
    /// The next page; empty at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<domain::conversation::StoredMessage>, ApiError> {
        let page = self.system.db.held_messages(self.owner, self.conversation, self.after).await?;
        self.after = page.last().map(|last| last.id).or(self.after);
        Ok(page)
    }

    /// There is nothing left to read of a conversation that was thrown away meanwhile, and what was read is not whole.
    async fn demand_the_conversation(&self) -> Result<(), ApiError> {
        self.system
            .db
            .conversation(self.owner, self.conversation)
            .await?
            .map(drop)
            .ok_or_else(ApiError::no_conversation)
    }
}

/// Appends items of a JSON array that has been opened, as they go on.
pub(super) fn append_items<T: Serialize>(
    out: &mut Vec<u8>,
    is_first: &mut bool,
    items: impl IntoIterator<Item = T>,
) {
    for item in items {
        if !std::mem::replace(is_first, false) {
            out.push(b',');
        }
        append_json(out, &item);
    }
}

struct Json {
    /// Until it was written.
    head: Option<(Conversation, DateTime<Utc>)>,
    messages: Messages,
    is_first: bool,
    is_over: bool,
}

impl Document for Json {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        if self.is_over {
            return Ok(None);
        }
        let mut out = Vec::new();
        if let Some((conversation, now)) = self.head.take() {
            out.extend_from_slice(br#"{"object":"conversation.export","exported_at":"#);
            append_json(&mut out, &now);
            out.extend_from_slice(br#","conversation":"#);
            append_json(&mut out, &ConversationView::from(conversation));
            out.extend_from_slice(br#","messages":["#);
        }
        let page = self.messages.next().await?;
        if page.is_empty() {
            self.messages.demand_the_conversation().await?;
            self.is_over = true;
            out.extend_from_slice(b"]}\n");
        }
        append_items(&mut out, &mut self.is_first, page.into_iter().map(MessageExported::from));
        Ok(Some(out))
    }
}

struct Text {
    head: Option<(Conversation, DateTime<Utc>)>,
    messages: Messages,
    markdown: Markdown,
}

impl Document for Text {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        if let Some((conversation, now)) = self.head.take() {
            return Ok(Some(self.markdown.head(&conversation, now).into()));
        }
        let page = self.messages.next().await?;
        if page.is_empty() {
            self.messages.demand_the_conversation().await?;
        }
        let text: String = page.iter().map(|message| self.markdown.message(message)).collect();
        Ok((!page.is_empty()).then(|| text.into()))
    }
}
