//! `/v1/conversations`: what was said, for whom it belongs to. Somebody else's conversation is not found.

use std::sync::Arc;

use actors::{db::DbError, system::System};
use chrono::{DateTime, Utc};
use domain::{
    conversation::{Conversation, Page, StoredMessage},
    id::{ConversationId, MessageId, TurnId, UserId},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::list::{List, PageRequest};
use crate::{
    dialects::native::ToolCallBody,
    http::{ApiError, Call, Reply, json_reply},
};

#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationView {
    #[schema(value_type = Uuid)]
    id: ConversationId,
    object: &'static str,
    title: String,
    /// Put before every prompt in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    system_prompt: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A conversation with the first page of its messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationWithMessages {
    #[serde(flatten)]
    conversation: ConversationView,
    messages: Vec<MessageView>,
    /// The cursor of the next page of messages.
    next_cursor: Option<Uuid>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct MessageView {
    #[schema(value_type = Uuid)]
    id: MessageId,
    /// `system`, `user`, `assistant` or `tool`.
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallBody>,
    /// `streaming`, `complete`, `interrupted`, `cancelled` or `failed`.
    status: &'static str,
    #[schema(value_type = Uuid)]
    turn_id: TurnId,
    /// The message it follows, or the conversation itself where it is a beginning; `null`: what was made before it.
    parent_id: Option<Uuid>,
    created_at: DateTime<Utc>,
}

impl From<Conversation> for ConversationView {
    fn from(conversation: Conversation) -> Self {
        let Conversation { id, title, system_prompt, created_at, updated_at } = conversation;
        Self { id, object: "conversation", title, system_prompt, created_at, updated_at }
    }
}

impl From<StoredMessage> for MessageView {
    fn from(stored: StoredMessage) -> Self {
        Self {
            id: stored.id,
            role: stored.message.role.as_str(),
            content: stored.message.content,
            thinking: stored.message.thinking,
            tool_calls: stored.message.tool_calls.into_iter().map(ToolCallBody::from).collect(),
            status: stored.status.as_str(),
            turn_id: stored.turn,
            parent_id: stored.parent,
            created_at: stored.created_at,
        }
    }
}

/// Lists the caller's conversations, newest first.
#[utoipa::path(get, path = "/v1/conversations", tag = "conversations",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<Uuid>, Query)), responses(
    (status = 200, body = List<ConversationView>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let page = PageRequest::of(&call)?;
    let before = page.cursor.map(ConversationId::from);
    let found = system.db.conversations(call.principal()?.user, before, page.limit).await?;
    let conversations = found.items.into_iter().map(ConversationView::from).collect();
    Ok(json_reply(StatusCode::OK, &List::new(conversations, found.next)))
}

/// Reads a conversation and the first page of its messages.
#[utoipa::path(get, path = "/v1/conversations/{id}", tag = "conversations",
    params(("id" = Uuid, Path), ("limit" = Option<u32>, Query)), responses(
    (status = 200, body = ConversationWithMessages), (status = 404)))]
pub(crate) async fn read(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let (owner, id) = named(&call)?;
    let conversation = system.db.conversation(owner, id).await?.ok_or_else(missing)?;
    let page = page_of(&system, owner, id, None, &call).await?;
    let messages = page.items.into_iter().map(MessageView::from).collect();
    let conversation = ConversationView::from(conversation);
    let view = ConversationWithMessages { conversation, messages, next_cursor: page.next };
    Ok(json_reply(StatusCode::OK, &view))
}

/// Lists the messages of a conversation in the order they were made.
#[utoipa::path(get, path = "/v1/conversations/{id}/messages", tag = "conversations",
    params(("id" = Uuid, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<Uuid>, Query)), responses(
    (status = 200, body = List<MessageView>), (status = 404)))]
pub(crate) async fn messages(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let after = PageRequest::of(&call)?.cursor;
    let (owner, id) = named(&call)?;
    let page = page_of(&system, owner, id, after, &call).await?;
    let messages = page.items.into_iter().map(MessageView::from).collect();
    Ok(json_reply(StatusCode::OK, &List::new(messages, page.next)))
}

/// The caller, and the conversation the path names.
fn named(call: &Call) -> Result<(UserId, ConversationId), ApiError> {
    Ok((call.principal()?.user, call.param().parse().map_err(|_| missing())?))
}

/// The conversation's messages after the cursor.
async fn page_of(
    system: &System,
    owner: UserId,
    id: ConversationId,
    after: Option<Uuid>,
    call: &Call,
) -> Result<Page<StoredMessage>, ApiError> {
    let limit = PageRequest::of(call)?.limit;
    system.db.messages(owner, id, after, limit).await.map_err(|error| match error {
        DbError::NotFound => missing(),
        other => other.into(),
    })
}

fn missing() -> ApiError {
    ApiError::not_found("there is no such conversation")
}
