//! Every question that can be asked of a store, and the statement that answers it: a function over one connection, of the
//! same name in `sqlite` and in `postgres`; and who may answer it.
//!
//! Whether a session, a key or an account is alive must always be asked of the database that is written to: a replica
//! that lags would let in what was ended a moment ago. So must the history that a model is given, and how a turn stands. What people and
//! administrators list may come from a replica, each within its [`Scope`].

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, User},
    api_key::{ApiKey, KeyHash},
    audit::{AuditEntry, AuditFilter},
    conversation::{Activity, Branch, Conversation, StoredMessage},
    email::EmailAddress,
    id::{ApiKeyId, AuditId, ConversationId, InstanceId, InviteId, MessageId, SessionId, TurnId, UserId},
    invite::Invite,
    reply::Answer,
    session::{Network, Session},
    signing_key::SigningKey,
    turn::StoredTurn,
    usage::{GroupKey, LedgerEntry, LedgerFilter, UsageGroup, UsageQuery},
};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{
    cut::Cut,
    postgres::{
        self, PostgresStore,
        replica::Scope::{self, Accounts, Ledger, Of, Trail},
    },
    sqlite::{self, SqliteStore},
};
use crate::{
    db::{
        DbError,
        indexing::{Wordless, WordlessTitle},
    },
    trace::{Span, names},
};

/// Who answers a question: the database that is written to, or also a replica that has all of a scope.
type Source = Option<Scope>;
const PRIMARY: Source = None;

pub(in crate::db) type Asked<T> = BoxFuture<'static, Result<T, DbError>>;

/// Answers within a span of the caller's trace.
async fn within_span<T>(
    name: &'static str,
    system: &'static str,
    asked: impl Future<Output = Result<T, DbError>>,
) -> Result<T, DbError> {
    let span = Span::call(name);
    span.tell(names::DB_SYSTEM, system);
    let answer = span.around(asked).await;
    answer.inspect_err(|error| span.fail(error.label()))
}

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty = $module:ident::$statement:ident from $source:expr;)+) => {
        pub(in crate::db) trait Questions: Send + Sync + 'static {
            $($(#[$doc])* fn $name(self: Arc<Self>, $($arg: $type),*) -> Asked<$answer>;)+
        }

        impl Questions for SqliteStore {
            $(fn $name(self: Arc<Self>, $($arg: $type),*) -> Asked<$answer> {
                const NAME: &str = concat!("db.", stringify!($module), ".", stringify!($statement));
                Box::pin(within_span(NAME, "sqlite", async move {
                    let mut cut = Cut::acquire(&self.readers).await?;
                    let answer = sqlite::$module::$statement(cut.connection()?, $($arg),*).await;
                    cut.keep();
                    answer
                }))
            })+
        }

        impl Questions for PostgresStore {
            $(fn $name(self: Arc<Self>, $($arg: $type),*) -> Asked<$answer> {
                const NAME: &str = concat!("db.", stringify!($module), ".", stringify!($statement));
                Box::pin(within_span(NAME, "postgresql", async move {
                    let source: Source = $source;
                    if let Some(replica) = source.and_then(|scope| self.replica_with(scope)) {
                        let asked = async {
                            let mut cut = replica.connection().await?;
                            let answer =
                                postgres::$module::$statement(cut.connection()?, $(Clone::clone(&$arg)),*).await;
                            cut.keep();
                            answer
                        };
                        if let Some(answer) = replica.answered(asked).await {
                            return Ok(answer);
                        }
                    }
                    let mut cut = Cut::acquire(&self.readers).await?;
                    let answer = postgres::$module::$statement(cut.connection()?, $($arg),*).await;
                    cut.keep();
                    answer
                }))
            })+
        }

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
}

questions! {
    /// Not a deleted one.
    account_by_email(email: EmailAddress) -> Option<Account> = accounts::by_email from PRIMARY;
    /// Not a deleted one.
    user(user: UserId) -> Option<User> = accounts::user from PRIMARY;
    /// Newest first, all older than `before`, without the deleted ones.
    users(text: Option<String>, before: Option<UserId>, limit: u32) -> Vec<User> = accounts::search from Some(Accounts);
    /// Whatever the state of either.
    session(session: SessionId) -> Option<(Session, User)> = sessions::with_user from PRIMARY;
    /// Alive and rotated after `rested_since`, most lately used first.
    sessions(user: UserId, now: DateTime<Utc>, rested_since: DateTime<Utc>) -> Vec<Session> = sessions::list from PRIMARY;
    knows_network(email: EmailAddress, network: Network, since: DateTime<Utc>) -> bool = sessions::knows_network from PRIMARY;
    /// Whatever the state of either.
    api_key(hash: KeyHash) -> Option<(ApiKey, User)> = api_keys::by_hash from PRIMARY;
    /// Newest first, all older than `before`, without the revoked ones.
    api_keys(owner: UserId, before: Option<ApiKeyId>, limit: u32) -> Vec<ApiKey> = api_keys::list from PRIMARY;
    /// Newest first, all older than `before`, without the first administrator's.
    invites(before: Option<InviteId>, limit: u32) -> Vec<Invite> = invites::list from Some(Accounts);
    /// Oldest first.
    signing_keys() -> Vec<SigningKey> = signing_keys::list from PRIMARY;
    /// Newest first, all older than `before`.
    audit(filter: AuditFilter, before: Option<AuditId>, limit: u32) -> Vec<AuditEntry> = audit::list from Some(Trail);
    /// By last activity, the latest first, all before `before`, without their system prompts. Of what was thrown away this
    /// one and those below know nothing.
    conversations(owner: UserId, before: Activity, limit: u32) -> Vec<Conversation> = conversations::list from Some(Of(owner));
    conversation(owner: UserId, id: ConversationId) -> Option<Conversation> = conversations::one from Some(Of(owner));
    /// In order of making and without their images, all younger than `after`; nothing when the conversation is not the
    /// owner's.
    messages(owner: UserId, conversation: ConversationId, after: Option<MessageId>, limit: u32)
        -> Vec<StoredMessage> = conversations::messages from Some(Of(owner));
    /// The newest messages that are searched by nothing yet, newest first, until there are `limit` of them or those before
    /// have `bytes` together; none that is still being written.
    wordless(limit: u32, bytes: u32) -> Vec<Wordless> = search::wordless from PRIMARY;
    wordless_titles(limit: u32) -> Vec<WordlessTitle> = search::wordless_titles from PRIMARY;
    /// Conversations whose title has, or one of whose messages has, all the words, the last one active first, each with the
    /// newest such message and without its system prompt; all later in that order than `before`.
    find(owner: UserId, words: Vec<String>, before: Activity, limit: u32)
        -> Vec<(Conversation, Option<MessageId>)> = search::find from Some(Of(owner));
    /// What is looked at of the owner's messages among these.
    texts(owner: UserId, messages: Vec<MessageId>) -> Vec<(MessageId, String)> = search::texts from Some(Of(owner));
    /// Oldest first, all younger than `after`, whatever their state; and so are those below.
    held_sessions(user: UserId, after: Option<SessionId>, limit: u32) -> Vec<Session> = held::sessions from PRIMARY;
    held_keys(user: UserId, after: Option<ApiKeyId>, limit: u32) -> Vec<ApiKey> = held::keys from PRIMARY;
    held_conversations(user: UserId, after: Option<ConversationId>, limit: u32) -> Vec<Conversation> = held::conversations from PRIMARY;
    /// With their images, until there are `limit` of them or those before have `bytes` together; nothing when the
    /// conversation is not the owner's or was thrown away.
    held_messages(owner: UserId, conversation: ConversationId, after: Option<MessageId>, limit: u32, bytes: u32)
        -> Vec<StoredMessage> = held::messages from PRIMARY;
    /// With its answer; nothing when it is not the user's.
    turn(user: UserId, turn: TurnId) -> Option<(StoredTurn, Answer)> = ledger::turn from PRIMARY;
    /// Some of the running turns of this owner that somebody wants to end.
    cancel_requests(owner: InstanceId) -> Vec<TurnId> = ledger::cancel_requests from PRIMARY;
    /// The turn that a key stands for, and what was asked with it.
    claimed(user: UserId, key: [u8; 32]) -> Option<(TurnId, [u8; 32])> = claims::of_key from PRIMARY;
    /// Sorted by what they are grouped by, all after `after`.
    usage(query: UsageQuery, after: Option<GroupKey>, limit: u32)
        -> Vec<UsageGroup> = usage::groups from Some(query.user.map_or(Ledger, Of));
    /// Newest first, all older than `before`.
    ledger(owner: UserId, filter: LedgerFilter, before: Option<TurnId>, limit: u32)
        -> Vec<LedgerEntry> = usage::ledger from Some(Of(owner));
    /// The conversation and the message `end` of it, or its newest, with what that follows, up to the beginning or until
    /// there are `limit` of them or the next would make them more than `bytes_max`; without messages where there is no
    /// such one.
    branch(owner: UserId, conversation: ConversationId, end: Option<Uuid>, limit: u32, bytes_max: u32)
        -> Option<Branch> = conversations::branch from PRIMARY;
    ping() -> () = connect::ping from PRIMARY;
}
