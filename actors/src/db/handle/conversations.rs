//! Conversations and their messages, for their owner alone.

use std::sync::Arc;

use chrono::{DateTime, Utc};
#[cfg(doc)]
use domain::conversation::{CONVERSATIONS_PER_USER, PAGE_LIMIT_MAX};
use domain::{
    chat::limits,
    conversation::{Activity, Branch, Conversation, ConversationChange, Page, StoredMessage},
    id::{ConversationId, UserId},
};
use uuid::Uuid;

use crate::db::{DbError, DbHandle, message::Write};

impl DbHandle {
    /// Stores a conversation in which nothing was said yet.
    ///
    /// # Errors
    ///
    /// [`DbError::Conflict`] when its owner has [`CONVERSATIONS_PER_USER`]; [`DbError::NotFound`] when the account is gone.
    pub async fn create_conversation(
        &self,
        owner: UserId,
        conversation: Conversation,
    ) -> Result<(), DbError> {
        let conversation = Box::new(conversation);
        self.write(conversation.id.as_uuid(), Write::CreateConversation { owner, conversation }).await
    }

    /// Changes a conversation, and returns it as it is then. What is so already changes nothing.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when it does not exist, was thrown away or belongs to somebody else.
    pub async fn change_conversation(
        &self,
        owner: UserId,
        conversation: ConversationId,
        change: ConversationChange,
        now: DateTime<Utc>,
    ) -> Result<Conversation, DbError> {
        let change = Box::new(change);
        self.write(conversation.as_uuid(), Write::UpdateConversation { owner, conversation, change, now })
            .await
    }

    /// Throws a conversation away: from now on nobody sees it, and no turn begins in it. A turn that runs in it goes on to
    /// its end.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when it does not exist, was thrown away before or belongs to somebody else.
    pub async fn delete_conversation(
        &self,
        owner: UserId,
        conversation: ConversationId,
        now: DateTime<Utc>,
    ) -> Result<(), DbError> {
        self.write(conversation.as_uuid(), Write::DeleteConversation { owner, conversation, now }).await
    }

    /// The owner's conversations by last activity, the latest first, without their system prompts; at most
    /// [`PAGE_LIMIT_MAX`]. One in which something happens between two pages moves to the front, out of the reader's way.
    pub async fn conversations(
        &self,
        owner: UserId,
        before: Option<Activity>,
        limit: u32,
    ) -> Result<Page<Conversation, Activity>, DbError> {
        let before = before.unwrap_or_else(Activity::latest);
        self.page(limit, Conversation::activity, move |store, limit| {
            store.conversations(owner, before, limit)
        })
        .await
    }

    /// `None` when it does not exist, was thrown away or belongs to somebody else.
    pub async fn conversation(
        &self,
        owner: UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, DbError> {
        self.read(move |store| store.conversation(owner, id)).await
    }

    /// Messages in order of their making, after the cursor, those of all branches; at most [`PAGE_LIMIT_MAX`]. Their images,
    /// which no reader is shown, stay in the database.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the conversation does not exist, was thrown away or belongs to somebody else.
    pub async fn messages(
        &self,
        owner: UserId,
        conversation: ConversationId,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Page<StoredMessage>, DbError> {
        let after = after.map(Into::into);
        let id = |message: &StoredMessage| message.id.as_uuid();
        self.page(limit, id, move |store, limit| {
            Box::pin(async move {
                let items = Arc::clone(&store).messages(owner, conversation, after, limit).await?;
                if items.is_empty() && store.conversation(owner, conversation).await?.is_none() {
                    return Err(DbError::NotFound);
                }
                Ok(items)
            })
        })
        .await
    }

    /// The message `end` of a conversation, or its newest where none is named, and what it follows: that one whatever its
    /// size, and before it, up to the beginning, at most `limit` in all, at most as many as a request may have, and at most
    /// `bytes_max` bytes of text, thinking, images and tool calls together. What is older stays in the database, and what
    /// stands on other branches. There are no messages where there is no such one; `end` may be the conversation's own id.
    ///
    /// `None` when the conversation does not exist, was thrown away or belongs to somebody else.
    pub async fn branch(
        &self,
        owner: UserId,
        conversation: ConversationId,
        end: Option<Uuid>,
        limit: u32,
        bytes_max: u32,
    ) -> Result<Option<Branch>, DbError> {
        let limit = limit.min(limits::MESSAGES as u32);
        let found = self.read(move |store| store.branch(owner, conversation, end, limit, bytes_max)).await?;
        Ok(found.map(|mut branch| {
            branch.messages.reverse();
            branch
        }))
    }
}
