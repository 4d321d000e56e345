//! Things to store.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    account::{Account, PasswordHash, User},
    api_key::{ApiKey, KeyHash},
    audit::{AuditEntry, AuditEvent},
    chat::{ChatMessage, Role as MessageRole},
    conversation::{Conversation, NewMessage, StoredMessage},
    email::EmailAddress,
    id::{ConversationId, InstanceId, UserId},
    invite::{Invite, InviteHash},
    limits::{Limits, Priority},
    model_access::ModelPatterns,
    principal::{Role, Scope, Scopes},
    reply::{Answer, FinishReason, Timings, Usage, UsageSource},
    secret::Secret,
    session::Session,
    turn::{BeginTurn, Checkpoint, Claim, Exchange, Settlement, StoredReply, TurnStatus},
};
use std::time::Duration;

use crate::{
    clock::fresh_id,
    db::{DbError, DbHandle, RotateSession, SetPassword},
};

/// A fixed instant, with more digits than a database keeps cut off.
pub(in crate::db) fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 123_456_000).unwrap()
}

pub(in crate::db) fn audit(event: AuditEvent, user: UserId) -> AuditEntry {
    AuditEntry {
        id: fresh_id(),
        event,
        actor: Some(user),
        user: Some(user),
        detail: None,
        address: Some([192, 0, 2, 7].into()),
        request_id: Some("req-1".into()),
        at: noon(),
    }
}

pub(in crate::db) fn account(email: &str) -> Account {
    let user = User {
        id: fresh_id(),
        email: EmailAddress::parse(email).unwrap(),
        role: Role::User,
        disabled: false,
        limits: Limits::default(),
        models: None,
        created_at: noon(),
    };
    Account { user, password_hash: password_hash() }
}

/// What every account here begins with.
pub(in crate::db) fn password_hash() -> PasswordHash {
    Secret::new("$argon2id$first".into())
}

/// Stores an account and returns its user.
pub(in crate::db) async fn some_user(db: &DbHandle) -> User {
    let account = account(&format!("{}@example.org", fresh_id::<UserId>()));
    let user = account.user.clone();
    db.create_user(account, audit(AuditEvent::UserCreated, user.id)).await.unwrap();
    user
}

/// Stores an administrator and returns their user.
pub(in crate::db) async fn some_admin(db: &DbHandle) -> User {
    let mut account = account(&format!("{}@example.org", fresh_id::<UserId>()));
    account.user.role = Role::Admin;
    let user = account.user.clone();
    db.create_user(account, audit(AuditEvent::UserCreated, user.id)).await.unwrap();
    user
}

/// Removes all that deleted accounts said.
pub(in crate::db) async fn purge_conversations(db: &DbHandle) {
    while db.purge_conversations().await.unwrap() > 0 {}
}

/// A new password that ends every session.
pub(in crate::db) fn password(user: UserId, new: &str) -> SetPassword {
    SetPassword {
        user,
        expected: Some(password_hash()),
        new: Secret::new(format!("$argon2id${new}")),
        keep: None,
        end_others: true,
        now: noon(),
        audit: audit(AuditEvent::AuthnPasswordChange, user),
    }
}

pub(in crate::db) fn session(user: UserId) -> Session {
    Session {
        id: fresh_id(),
        user,
        counter: 0,
        min_epoch: 0,
        created_at: noon(),
        rotated_at: noon(),
        last_used_at: noon(),
        expires_at: noon() + TimeDelta::days(30),
        revoked_at: None,
        device: Some("curl/8.5".into()),
        address: Some([192, 0, 2, 77].into()),
    }
}

pub(in crate::db) async fn some_session(db: &DbHandle, user: UserId) -> Session {
    let session = session(user);
    db.start_session(session.clone(), password_hash(), audit(AuditEvent::AuthnLoginSuccess, user))
        .await
        .unwrap();
    session
}

/// Of each one that could be taken for no other.
pub(in crate::db) fn some_limits() -> Limits {
    Limits {
        requests_per_minute: Some(60),
        tokens_per_minute: Some(5_000),
        streams: Some(2),
        priority: Some(Priority::Batch),
    }
}

/// Written with a comma and a star.
pub(in crate::db) fn some_models() -> ModelPatterns {
    ModelPatterns::of(["qwen3:*", "llama3.2"]).unwrap()
}

pub(in crate::db) fn api_key(user: UserId) -> ApiKey {
    ApiKey {
        id: fresh_id(),
        user,
        name: "laptop".into(),
        prefix: "dsk_AbCd".into(),
        scopes: Scopes::from_iter([Scope::Chat, Scope::Models]),
        limits: some_limits(),
        models: Some(some_models()),
        created_at: noon(),
        expires_at: Some(noon() + TimeDelta::days(90)),
        last_used_at: None,
        revoked_at: None,
    }
}

/// Stores a key and returns it and its hash.
pub(in crate::db) async fn some_key(db: &DbHandle, user: UserId) -> (ApiKey, KeyHash) {
    let (key, hash) = (api_key(user), some_hash());
    db.create_api_key(key.clone(), hash, audit(AuditEvent::AuthnTokenCreated, user)).await.unwrap();
    (key, hash)
}

pub(in crate::db) fn invite() -> Invite {
    Invite {
        id: fresh_id(),
        role: Role::User,
        is_first_admin: false,
        note: Some("for Eve".into()),
        created_by: None,
        created_at: noon(),
        expires_at: Some(noon() + TimeDelta::days(7)),
        used_at: None,
        used_by: None,
        revoked_at: None,
    }
}

/// Stores an invite and returns its hash.
pub(in crate::db) async fn some_invite(db: &DbHandle, invite: &Invite) -> InviteHash {
    let (hash, entry) = (some_hash(), audit(AuditEvent::InviteCreated, fresh_id()));
    db.create_invite(invite.clone(), hash, entry).await.unwrap();
    hash
}

pub(in crate::db) fn some_hash() -> [u8; 32] {
    let half = fresh_id::<uuid::Uuid>().into_bytes();
    let mut hash = [0xa5; 32];
    hash[..16].copy_from_slice(&half);
    hash
}

pub(in crate::db) fn rotation(session: &Session, counter: u32, now: DateTime<Utc>) -> RotateSession {
    RotateSession {
        session: session.id,
        counter,
        now,
        grace: TimeDelta::seconds(10),
        idle: TimeDelta::days(14),
        reuse_audit: audit(AuditEvent::AuthnTokenReuse, session.user),
    }
}

/// A turn in a conversation of its own.
pub(in crate::db) fn begin(user: UserId) -> BeginTurn {
    let said =
        NewMessage { id: fresh_id(), message: ChatMessage::text(MessageRole::User, "why is the sky blue?") };
    BeginTurn {
        turn: fresh_id(),
        user,
        key: None,
        claim: None,
        exchange: Some(Exchange {
            conversation: fresh_id(),
            new_conversation_title: Some("the sky".into()),
            title_if_untitled: None,
            parent: None,
            messages: vec![said],
            reply: fresh_id(),
        }),
        model: "tiny:latest".into(),
        owner: fresh_id::<InstanceId>(),
        lease_until: noon() + TimeDelta::seconds(30),
        created_at: noon(),
    }
}

/// The same, asked for with this key.
pub(in crate::db) fn begin_with(user: UserId, key: [u8; 32], request: &str) -> BeginTurn {
    let mut request_hash = [0; 32];
    request_hash[..request.len()].copy_from_slice(request.as_bytes());
    BeginTurn { claim: Some(Claim { key, request: request_hash }), ..begin(user) }
}

/// A turn of which only the ledger knows.
pub(in crate::db) fn unstored(user: UserId) -> BeginTurn {
    BeginTurn { exchange: None, ..begin(user) }
}

/// A turn in a conversation that exists.
pub(in crate::db) fn begin_in(user: UserId, conversation: ConversationId) -> BeginTurn {
    let mut begin = begin(user);
    exchange(&mut begin).conversation = conversation;
    exchange(&mut begin).new_conversation_title = None;
    begin
}

/// A conversation in which nothing was said.
pub(in crate::db) fn conversation(title: &str) -> Conversation {
    Conversation {
        id: fresh_id(),
        title: title.into(),
        system_prompt: None,
        created_at: noon(),
        updated_at: noon(),
    }
}

/// What is said in a turn that is stored.
pub(in crate::db) fn exchange(begin: &mut BeginTurn) -> &mut Exchange {
    begin.exchange.as_mut().unwrap()
}

/// What its caller said.
pub(in crate::db) fn messages_of(begin: &BeginTurn) -> &[NewMessage] {
    &begin.exchange.as_ref().unwrap().messages
}

/// Where its answer is.
pub(in crate::db) fn stored(begin: &BeginTurn) -> StoredReply {
    begin.stored().unwrap()
}

pub(in crate::db) fn checkpoint(begin: &BeginTurn, seq: u32, content: &str) -> Checkpoint {
    Checkpoint { turn: begin.turn, reply: stored(begin).message, seq, answer: answer(content) }
}

pub(in crate::db) fn answer(content: &str) -> Answer {
    Answer { content: content.into(), ..Answer::default() }
}

pub(in crate::db) fn settlement(begin: &BeginTurn, content: &str) -> Settlement {
    Settlement {
        turn: begin.turn,
        user: begin.user,
        model: begin.model.clone(),
        key: begin.key,
        stored: begin.stored(),
        status: TurnStatus::Complete,
        failure: None,
        finish_reason: Some(FinishReason::Stop),
        answer: answer(content),
        usage: Usage { prompt_tokens: 11, completion_tokens: 7, source: UsageSource::Reported },
        timings: Timings {
            queued: Duration::from_millis(5),
            load: Duration::ZERO,
            first_token: Some(Duration::from_millis(40)),
            total: Duration::from_millis(900),
        },
        created_at: begin.created_at,
        ended_at: noon() + TimeDelta::seconds(1),
    }
}

/// Settles and waits until the room says how it went.
pub(in crate::db) async fn settle(db: &DbHandle, settlement: Settlement) -> Result<(), crate::db::DbError> {
    settling(db, settlement).await.unwrap()
}

/// Settles; the receiver tells how it went.
pub(in crate::db) fn settling(
    db: &DbHandle,
    settlement: Settlement,
) -> tokio::sync::oneshot::Receiver<Result<(), crate::db::DbError>> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let permit = db.reserve_settlement(settlement.turn).unwrap();
    db.settle(permit, settlement, Box::new(move |result| drop(tell.send(result))));
    told
}

impl DbHandle {
    /// The newest message of a conversation with what it follows, of which there may be so much.
    pub(in crate::db) async fn history(
        &self,
        owner: UserId,
        conversation: ConversationId,
        limit: u32,
        bytes_max: u32,
    ) -> Result<Option<Vec<StoredMessage>>, DbError> {
        let branch = self.branch(owner, conversation, None, limit, bytes_max).await?;
        Ok(branch.map(|branch| branch.messages))
    }
}
