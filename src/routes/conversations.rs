//! `/v1/conversations`: what was said, for whom it belongs to. Somebody else's conversation is not found, nor is one that was
//! thrown away.

use std::sync::Arc;

use actors::{clock::fresh_id, db::DbError, system::System};
use chrono::{DateTime, Utc};
use domain::{
    conversation::{self, Activity, Conversation, ConversationChange, Page, StoredMessage, UNTITLED},
    id::{ConversationId, MessageId, TurnId, UserId},
};
use http::{HeaderValue, StatusCode, header::LOCATION};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    limits::nullable,
    list::{LimitParam, List, PageParams, PageRequest},
    search::{self, FoundView},
};
use crate::{
    dialects::native::ToolCallBody,
    http::{ApiError, Call, Reply, empty_reply, json_reply},
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewConversation {
    /// One line of 1 to 200 characters. Left out, it becomes the beginning of what is said first.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
    /// Put before every prompt in it, unless the prompt brings a system message of its own; at most 32 KiB.
    system_prompt: Option<String>,
}

/// What changes; what is left out stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConversationPatch {
    /// One line of 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
    /// At most 32 KiB; `null` removes it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    system_prompt: Option<Option<String>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationView {
    #[schema(value_type = Uuid)]
    id: ConversationId,
    object: &'static str,
    title: String,
    /// Put before every prompt in it; not shown in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    system_prompt: Option<String>,
    created_at: DateTime<Utc>,
    /// When something was last said in it, or it was changed.
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
    /// Which call, and which function, a `tool` message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<String>,
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
            tool_call_id: stored.message.tool_call_id,
            tool_name: stored.message.tool_name,
            status: stored.status.as_str(),
            turn_id: stored.turn,
            parent_id: stored.parent,
            created_at: stored.created_at,
        }
    }
}

/// Makes a conversation in which nothing was said yet. A chat makes its own, too.
#[utoipa::path(post, path = "/v1/conversations", operation_id = "createConversation", tag = "conversations",
    request_body = Option<NewConversation>,
    responses((status = 201, body = ConversationView, headers(("Location" = String))),
    (status = 409, description = "There are too many"),
    (status = 422, description = "Something about the title or the system prompt will not do")))]
pub(crate) async fn create(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let NewConversation { title, system_prompt } = call.conversation().await?;
    let now = system.clock().now();
    let made = Conversation {
        id: fresh_id(),
        title: title.as_deref().map_or(Ok(UNTITLED.to_owned()), title_of)?,
        system_prompt: system_prompt.map_or(Ok(None), system_prompt_of)?,
        created_at: now,
        updated_at: now,
    };
    let stored = system.db.create_conversation(call.principal()?.user, made.clone()).await;
    stored.map_err(|error| match error {
        DbError::Conflict(_) => ApiError::too_many_conversations(),
        other => other.into(),
    })?;
    let place = HeaderValue::try_from(format!("/v1/conversations/{}", made.id));
    let mut reply = json_reply(StatusCode::CREATED, &ConversationView::from(made));
    reply.headers_mut().insert(LOCATION, place.map_err(|error| ApiError::internal(error.to_string()))?);
    Ok(reply)
}

/// Lists the caller's conversations by last activity, the latest first. One in which something happens meanwhile moves to
/// the front. With `q` those whose title has, or one of whose messages has, all its words (whole words, in upper or lower
/// case, at most 8), each with the newest such message.
#[utoipa::path(get, path = "/v1/conversations", operation_id = "listConversations", tag = "conversations",
    params(LimitParam, ("cursor" = Option<String>, Query), ("q" = Option<String>, Query, min_length = 2)),
    responses((status = 200, body = List<FoundView>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    if let Some(query) = search::asked(&call)? {
        return search::find(&system, &call, query).await;
    }
    let page = PageRequest::<Activity>::by(&call)?;
    let found = system.db.conversations(call.principal()?.user, page.cursor, page.limit).await?;
    Ok(json_reply(StatusCode::OK, &List::<ConversationView>::of(found)))
}

/// Reads a conversation and the first page of its messages, which `GET /v1/conversations/{id}/messages` lists on.
#[utoipa::path(get, path = "/v1/conversations/{id}", operation_id = "readConversation", tag = "conversations",
    params(("id" = Uuid, Path), LimitParam),
    responses((status = 200, body = ConversationWithMessages)))]
pub(crate) async fn read(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let (owner, id) = named(&call)?;
    let conversation = system.db.conversation(owner, id).await?.ok_or_else(ApiError::no_conversation)?;
    let first = PageRequest { cursor: None, limit: PageRequest::limit_of(&call)? };
    let page = page_of(&system, owner, id, first).await?;
    let messages = page.items.into_iter().map(MessageView::from).collect();
    let conversation = ConversationView::from(conversation);
    let view = ConversationWithMessages { conversation, messages, next_cursor: page.next };
    Ok(json_reply(StatusCode::OK, &view))
}

/// Changes a conversation's title or system prompt. What is so already changes nothing.
#[utoipa::path(patch, path = "/v1/conversations/{id}", operation_id = "changeConversation", tag = "conversations",
    params(("id" = Uuid, Path)), request_body = Option<ConversationPatch>,
    responses((status = 200, body = ConversationView),
    (status = 422, description = "Something about the title or the system prompt will not do")))]
pub(crate) async fn change(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let ConversationPatch { title, system_prompt } = call.conversation().await?;
    let (owner, id) = named(&call)?;
    let change = ConversationChange {
        title: title.as_deref().map(title_of).transpose()?,
        system_prompt: system_prompt.map(|given| given.map_or(Ok(None), system_prompt_of)).transpose()?,
    };
    let changed = system.db.change_conversation(owner, id, change, system.clock().now()).await;
    Ok(json_reply(StatusCode::OK, &ConversationView::from(changed.map_err(not_there)?)))
}

/// Throws a conversation away, with all that was said in it: from now on nobody sees it, and it is not found. A turn that
/// runs in it goes on to its end; its usage stays.
#[utoipa::path(delete, path = "/v1/conversations/{id}", operation_id = "deleteConversation", tag = "conversations",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn delete(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let (owner, id) = named(&call)?;
    system.db.delete_conversation(owner, id, system.clock().now()).await.map_err(not_there)?;
    Ok(empty_reply())
}

/// Lists the messages of a conversation in the order they were made, those of all branches: each says what it follows.
#[utoipa::path(get, path = "/v1/conversations/{id}/messages", operation_id = "listMessages", tag = "conversations",
    params(("id" = Uuid, Path), PageParams),
    responses((status = 200, body = List<MessageView>)))]
pub(crate) async fn messages(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let page = PageRequest::of(&call)?;
    let (owner, id) = named(&call)?;
    let page = page_of(&system, owner, id, page).await?;
    Ok(json_reply(StatusCode::OK, &List::<MessageView>::of(page)))
}

/// The caller, and the conversation the path names.
fn named(call: &Call) -> Result<(UserId, ConversationId), ApiError> {
    Ok((call.principal()?.user, call.param().parse().map_err(|_| ApiError::no_conversation())?))
}

fn title_of(given: &str) -> Result<String, ApiError> {
    conversation::title(given).map_err(|why| ApiError::unfit(why).at("title"))
}

fn system_prompt_of(given: String) -> Result<Option<String>, ApiError> {
    conversation::system_prompt(given).map_err(|why| ApiError::unfit(why).at("system_prompt"))
}

/// A page of the conversation's messages.
async fn page_of(
    system: &System,
    owner: UserId,
    id: ConversationId,
    PageRequest { cursor, limit }: PageRequest,
) -> Result<Page<StoredMessage>, ApiError> {
    system.db.messages(owner, id, cursor, limit).await.map_err(not_there)
}

/// What went wrong where a conversation was named.
fn not_there(error: DbError) -> ApiError {
    match error {
        DbError::NotFound => ApiError::no_conversation(),
        other => other.into(),
    }
}
