//! The room's handle: each method is one read or one change.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, AuditEntry, PasswordHash, Rotation, Session, User},
    chat::limits,
    conversation::{Conversation, PAGE_LIMIT_MAX, Page, StoredMessage},
    email::EmailAddress,
    id::{ConversationId, InstanceId, SessionId, TurnId, UserId},
    turn::{BeginTurn, Checkpoint, Settlement},
};
use futures_util::future::BoxFuture;
use ractor::factory::{FactoryMessage, Job as FactoryJob, JobOptions};
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

use super::{
    DbError, DbHandle, OnSettled, RotateSession, SettlePermit,
    lane::{Answer, Job, Lane},
    message::{Write, Written},
    room::PATH,
    store::Store,
    worker::ReadMessage,
};
use crate::handle::AskError;

impl DbHandle {
    // --- accounts -------------------------------------------------------------------------------------------------

    /// Stores a new account and its audit entry.
    ///
    /// # Errors
    ///
    /// [`DbError::Conflict`] when the e-mail is taken.
    pub async fn create_user(&self, account: Account, audit: AuditEntry) -> Result<(), DbError> {
        let user = account.user.id.as_uuid();
        self.write(user, Write::CreateUser(Box::new((account, audit)))).await?;
        Ok(())
    }

    pub async fn account_by_email(&self, email: EmailAddress) -> Result<Option<Account>, DbError> {
        self.read(|store| Box::pin(async move { store.account_by_email(&email).await })).await
    }

    pub async fn user(&self, user: UserId) -> Result<Option<User>, DbError> {
        self.read(move |store| Box::pin(async move { store.user(user).await })).await
    }

    /// Replaces `old` by `new` if `old` is still the stored hash (rehash on login).
    pub async fn replace_password_hash(
        &self,
        user: UserId,
        old: PasswordHash,
        new: PasswordHash,
    ) -> Result<bool, DbError> {
        match self.write(user.as_uuid(), Write::ReplacePasswordHash { user, old, new }).await? {
            Written::Replaced(replaced) => Ok(replaced),
            other => Err(mismatch(&other)),
        }
    }

    // --- sessions -------------------------------------------------------------------------------------------------

    /// Stores a sign-in and its audit entry.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the user does not exist.
    pub async fn start_session(&self, session: Session, audit: AuditEntry) -> Result<(), DbError> {
        let lane = session.id.as_uuid();
        self.write(lane, Write::StartSession(Box::new((session, audit)))).await?;
        Ok(())
    }

    /// The session and its user, whatever their state.
    pub async fn session(&self, session: SessionId) -> Result<Option<(Session, User)>, DbError> {
        self.read(move |store| Box::pin(async move { store.session(session).await })).await
    }

    /// Applies the refresh rule atomically: see [`Rotation`]. `grace` is measured from the last rotation, `idle` too.
    pub async fn rotate_session(&self, rotate: RotateSession) -> Result<Rotation, DbError> {
        match self.write(rotate.session.as_uuid(), Write::RotateSession(Box::new(rotate))).await? {
            Written::Rotated(rotation) => Ok(rotation),
            other => Err(mismatch(&other)),
        }
    }

    // --- turns ----------------------------------------------------------------------------------------------------

    /// Stores the caller's messages and an assistant row `streaming`, in one commit.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the conversation does not exist or belongs to somebody else.
    pub async fn begin_turn(&self, begin: BeginTurn) -> Result<(), DbError> {
        self.write(begin.turn.as_uuid(), Write::BeginTurn(Box::new(begin))).await?;
        Ok(())
    }

    /// Writes the text so far; a lower `seq` than the stored one, or a settled turn, changes nothing. Nobody waits for it:
    /// when the lane is full the checkpoint is dropped, since a later one covers it.
    pub fn checkpoint(&self, checkpoint: Checkpoint) {
        let lane = self.lane(checkpoint.turn.as_uuid());
        lane.place_checkpoint(Write::Checkpoint(Box::new(checkpoint)));
    }

    /// Reserves the place that the turn's settlement will need.
    ///
    /// # Errors
    ///
    /// [`DbError::Overloaded`]: refuse the turn with 503.
    pub fn reserve_settlement(&self, turn: TurnId) -> Result<SettlePermit, DbError> {
        Ok(SettlePermit(self.lane(turn.as_uuid()).reserve()?))
    }

    /// Hands a turn's end to its lane; synchronous and infallible, so that it can be called from `Drop`.
    ///
    /// `permit` must have been reserved for this turn. Unstored turns (`settlement.stored == None`) may linger up to
    /// [`DbConfig::usage_linger`](super::DbConfig::usage_linger) to share a commit, and their `on_settled` need not be
    /// waited for by the caller. While the database is away `on_settled` hears of it once, and the settlement is tried
    /// again until it is written.
    pub fn settle(&self, permit: SettlePermit, settlement: Settlement, on_settled: OnSettled) {
        let lane = self.lane(settlement.turn.as_uuid());
        lane.place(Job::new(Write::Settle(Box::new(settlement)), Answer::Settled(on_settled), permit.0));
    }

    /// Extends the lease of all streaming turns of `owner`.
    pub async fn renew_leases(&self, owner: InstanceId, until: DateTime<Utc>) -> Result<(), DbError> {
        self.write(owner.as_uuid(), Write::RenewLeases { owner, until }).await?;
        Ok(())
    }

    /// Marks streaming turns whose lease ran out as interrupted; returns how many.
    pub async fn sweep_expired_turns(&self, now: DateTime<Utc>) -> Result<u64, DbError> {
        match self.write(Uuid::nil(), Write::SweepExpired { now }).await? {
            Written::Swept(count) => Ok(count),
            other => Err(mismatch(&other)),
        }
    }

    // --- conversations --------------------------------------------------------------------------------------------

    /// The owner's conversations, newest first; at most [`PAGE_LIMIT_MAX`].
    pub async fn conversations(
        &self,
        owner: UserId,
        before: Option<ConversationId>,
        limit: u32,
    ) -> Result<Page<Conversation>, DbError> {
        let limit = limit.clamp(1, PAGE_LIMIT_MAX);
        let items = self
            .read(move |store| Box::pin(async move { store.conversations(owner, before, limit + 1).await }))
            .await?;
        Ok(page(items, limit, |conversation| conversation.id.as_uuid()))
    }

    /// `None` when it does not exist or belongs to somebody else.
    pub async fn conversation(
        &self,
        owner: UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, DbError> {
        self.read(move |store| Box::pin(async move { store.conversation(owner, id).await })).await
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
        let limit = limit.clamp(1, PAGE_LIMIT_MAX);
        let after = after.map(Into::into);
        let items = self
            .read(move |store| {
                Box::pin(async move {
                    let items = store.messages(owner, conversation, after, limit + 1).await?;
                    if items.is_empty() && store.conversation(owner, conversation).await?.is_none() {
                        return Err(DbError::NotFound);
                    }
                    Ok(items)
                })
            })
            .await?;
        Ok(page(items, limit, |message| message.id.as_uuid()))
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
                let mut messages = store.newest_messages(owner, conversation, limit, bytes_max).await?;
                if messages.is_empty() && store.conversation(owner, conversation).await?.is_none() {
                    return Ok(None);
                }
                messages.reverse();
                Ok(Some(messages))
            })
        })
        .await
    }

    // --- operations -----------------------------------------------------------------------------------------------

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.read(|store| Box::pin(async move { store.ping().await })).await
    }

    // --- the way there --------------------------------------------------------------------------------------------

    pub(super) async fn read<T, Q>(&self, query: Q) -> Result<T, DbError>
    where
        T: Send + 'static,
        Q: FnOnce(Arc<dyn Store>) -> BoxFuture<'static, Result<T, DbError>> + Send + 'static,
    {
        self.refuse_if_degraded()?;
        let asked = self.reads.ask(|permit, reply| {
            FactoryMessage::Dispatch(FactoryJob {
                key: (),
                msg: ReadMessage::new(query, permit, reply),
                options: JobOptions::default(),
                accepted: None,
            })
        });
        asked.await.map_err(|error| match error {
            AskError::Overloaded => DbError::Overloaded,
            AskError::Timeout => DbError::Timeout,
            AskError::Down | AskError::Died => DbError::Unavailable(error.to_string()),
        })?
    }

    async fn write(&self, lane: Uuid, write: Write) -> Result<Written, DbError> {
        self.refuse_if_degraded()?;
        let lane = self.lane(lane);
        let permit = lane.reserve()?;
        let (caller, answer) = oneshot::channel();
        lane.place(Job::new(write, Answer::Caller(caller), permit));
        match timeout(self.call_timeout, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(DbError::Unavailable("the change was dropped unanswered".into())),
            Err(_) => Err(DbError::Timeout),
        }
    }

    /// All changes of one turn, session or user go to one lane, which keeps their order.
    fn lane(&self, id: Uuid) -> &Lane {
        // UUIDv7 ends in random bits.
        let number = usize::try_from(id.as_u128() % self.lanes.len() as u128).unwrap_or(0);
        &self.lanes[number]
    }

    fn refuse_if_degraded(&self) -> Result<(), DbError> {
        if self.tree.is_degraded(PATH) {
            return Err(DbError::Unavailable("the room crashes too often".into()));
        }
        Ok(())
    }
}

/// Cuts off the extra item that told whether there is more.
fn page<T>(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> Uuid) -> Page<T> {
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = if has_more { items.last().map(id) } else { None };
    Page { items, next }
}

fn mismatch(written: &Written) -> DbError {
    DbError::Broken(format!("a change was answered with {written:?}"))
}
