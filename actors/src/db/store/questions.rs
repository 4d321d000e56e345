//! Every question that can be asked of a store, and the statement that answers it: a function over one connection, of the
//! same name in `sqlite` and in `postgres`.
//!
//! Whether a session, a key or an account is alive must always be asked of the database that is written to: a replica
//! that lags would let in what was ended a moment ago. [`Questions::session`], [`Questions::api_key`],
//! [`Questions::user`], [`Questions::account_by_email`] and [`Questions::signing_keys`] may never be sent to one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, User},
    api_key::{ApiKey, KeyHash},
    audit::{AuditEntry, AuditFilter},
    conversation::{Conversation, StoredMessage},
    email::EmailAddress,
    id::{ApiKeyId, AuditId, ConversationId, InviteId, MessageId, SessionId, UserId},
    invite::Invite,
    session::{Network, Session},
    signing_key::SigningKey,
};
use futures_util::future::BoxFuture;

use super::{
    cut::Cut,
    postgres::{self, PostgresStore},
    sqlite::{self, SqliteStore},
};
use crate::db::DbError;

pub(in crate::db) type Asked<T> = BoxFuture<'static, Result<T, DbError>>;

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty = $module:ident::$statement:ident;)+) => {
        pub(in crate::db) trait Questions: Send + Sync + 'static {
            $($(#[$doc])* fn $name(self: Arc<Self>, $($arg: $type),*) -> Asked<$answer>;)+
        }

        questions! { SqliteStore, sqlite: $($name($($arg: $type),*) -> $answer = $module::$statement;)+ }
        questions! { PostgresStore, postgres: $($name($($arg: $type),*) -> $answer = $module::$statement;)+ }

        /// Finds nothing, as soon as it is told to answer.
        #[cfg(test)]
        impl Questions for crate::db::tests::obedient::Obedient {
            $(fn $name(self: Arc<Self>, $(_: $type),*) -> Asked<$answer> {
                Box::pin(async move {
                    self.wait().await?;
                    Ok(Default::default())
                })
            })+
        }
    };
    ($Store:ident, $store:ident:
     $($name:ident($($arg:ident: $type:ty),*) -> $answer:ty = $module:ident::$statement:ident;)+) => {
        impl Questions for $Store {
            $(fn $name(self: Arc<Self>, $($arg: $type),*) -> Asked<$answer> {
                Box::pin(async move {
                    let mut cut = Cut::acquire(&self.readers).await?;
                    let answer = $store::$module::$statement(cut.connection()?, $($arg),*).await;
                    cut.keep();
                    answer
                })
            })+
        }
    };
}

questions! {
    /// Not a deleted one.
    account_by_email(email: EmailAddress) -> Option<Account> = accounts::by_email;
    /// Not a deleted one.
    user(user: UserId) -> Option<User> = accounts::user;
    /// Newest first, all older than `before`, without the deleted ones.
    users(text: Option<String>, before: Option<UserId>, limit: u32) -> Vec<User> = accounts::search;
    /// Whatever the state of either.
    session(session: SessionId) -> Option<(Session, User)> = sessions::with_user;
    /// Alive and rotated after `rested_since`, most lately used first.
    sessions(user: UserId, now: DateTime<Utc>, rested_since: DateTime<Utc>) -> Vec<Session> = sessions::list;
    knows_network(email: EmailAddress, network: Network, since: DateTime<Utc>) -> bool = sessions::knows_network;
    /// Whatever the state of either.
    api_key(hash: KeyHash) -> Option<(ApiKey, User)> = api_keys::by_hash;
    /// Newest first, all older than `before`, without the revoked ones.
    api_keys(owner: UserId, before: Option<ApiKeyId>, limit: u32) -> Vec<ApiKey> = api_keys::list;
    /// Newest first, all older than `before`, without the first administrator's.
    invites(before: Option<InviteId>, limit: u32) -> Vec<Invite> = invites::list;
    /// Oldest first.
    signing_keys() -> Vec<SigningKey> = signing_keys::list;
    /// Newest first, all older than `before`.
    audit(filter: AuditFilter, before: Option<AuditId>, limit: u32) -> Vec<AuditEntry> = audit::list;
    /// Newest first, all older than `before`.
    conversations(owner: UserId, before: Option<ConversationId>, limit: u32) -> Vec<Conversation> = conversations::list;
    conversation(owner: UserId, id: ConversationId) -> Option<Conversation> = conversations::one;
    /// In order of making and without their images, all younger than `after`; nothing when the conversation is not the
    /// owner's.
    messages(owner: UserId, conversation: ConversationId, after: Option<MessageId>, limit: u32)
        -> Vec<StoredMessage> = conversations::messages;
    /// The newest messages, newest first, until there are `limit` of them or the next would make them more than
    /// `bytes_max`; nothing when the conversation is not the owner's.
    newest_messages(owner: UserId, conversation: ConversationId, limit: u32, bytes_max: u32)
        -> Vec<StoredMessage> = conversations::newest;
    ping() -> () = connect::ping;
}
