//! All that is kept about an account, page by page, for its owner to take along.

use domain::{
    api_key::ApiKey,
    conversation::{Conversation, PAGE_LIMIT_MAX, StoredMessage},
    id::{ApiKeyId, ConversationId, MessageId, SessionId, UserId},
    session::Session,
};

use crate::db::{DbError, DbHandle};

/// Text and images of one page of messages, but for one message more.
const PAGE_BYTES: u32 = 1024 * 1024;

macro_rules! held {
    ($($(#[$doc:meta])* $name:ident by $id:ty => $held:ty;)+) => {
        impl DbHandle {
            $($(#[$doc])* pub async fn $name(&self, user: UserId, after: Option<$id>) -> Result<Vec<$held>, DbError> {
                self.read(move |store| store.$name(user, after, PAGE_LIMIT_MAX)).await
            })+
        }
    };
}

held! {
    /// Sessions, ended ones included, oldest first; an empty page is the end.
    held_sessions by SessionId => Session;
    /// API keys, revoked ones included, oldest first; an empty page is the end.
    held_keys by ApiKeyId => ApiKey;
    /// Conversations, oldest first; an empty page is the end.
    held_conversations by ConversationId => Conversation;
}

impl DbHandle {
    /// Messages with their images, in order of their making; an empty page is the end, and all there is of a conversation
    /// that is not the owner's. Bounded in bytes as well, but for one message that may be larger.
    pub async fn held_messages(
        &self,
        owner: UserId,
        conversation: ConversationId,
        after: Option<MessageId>,
    ) -> Result<Vec<StoredMessage>, DbError> {
        self.read(move |store| store.held_messages(owner, conversation, after, PAGE_LIMIT_MAX, PAGE_BYTES))
            .await
    }
}
