//! Conversations and their messages, for their owner alone.

use std::sync::Arc;

#[cfg(doc)]
use domain::conversation::PAGE_LIMIT_MAX;
use domain::{
    chat::limits,
    conversation::{Conversation, Page, StoredMessage},
    id::{ConversationId, UserId},
};
use uuid::Uuid;

use crate::db::{DbError, DbHandle};

impl DbHandle {
    /// The owner's conversations, newest first; at most [`PAGE_LIMIT_MAX`].
    pub async fn conversations(
        &self,
        owner: UserId,
        before: Option<ConversationId>,
        limit: u32,
    ) -> Result<Page<Conversation>, DbError> {
        let id = |conversation: &Conversation| conversation.id.as_uuid();
        self.page(limit, id, move |store, limit| store.conversations(owner, before, limit)).await
    }

    /// `None` when it does not exist or belongs to somebody else.
    pub async fn conversation(
        &self,
        owner: UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, DbError> {
        self.read(move |store| store.conversation(owner, id)).await
    }

    /// Messages in order of their making, after the cursor; at most [`PAGE_LIMIT_MAX`]. Their images, which no reader is
    /// shown, stay in the database.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the conversation does not exist or belongs to somebody else.
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

    /// The newest messages of a conversation in order of their making: at most `limit`, at most as many as a request may
    /// have, and at most `bytes_max` bytes of text, thinking, images and tool calls together. What is older stays in the
    /// database. `None` when the conversation is not the owner's.
    pub async fn history(
        &self,
        owner: UserId,
        conversation: ConversationId,
        limit: u32,
        bytes_max: u32,
    ) -> Result<Option<Vec<StoredMessage>>, DbError> {
        let limit = limit.min(limits::MESSAGES as u32);
        self.read(move |store| {
            Box::pin(async move {
                let asked = Arc::clone(&store).newest_messages(owner, conversation, limit, bytes_max);
                let mut messages = asked.await?;
                if messages.is_empty() && store.conversation(owner, conversation).await?.is_none() {
                    return Ok(None);
                }
                messages.reverse();
                Ok(Some(messages))
            })
        })
        .await
    }
}
