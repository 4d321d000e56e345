//! Things to store.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    account::{Account, AuditEntry, AuditEvent, Session, User},
    chat::{ChatMessage, Role as MessageRole},
    conversation::NewMessage,
    email::EmailAddress,
    id::{ConversationId, InstanceId, UserId},
    principal::Role,
    reply::{Answer, FinishReason, Timings, Usage, UsageSource},
    secret::Secret,
    turn::{BeginTurn, Checkpoint, Settlement, StoredReply, TurnStatus},
};
use std::time::Duration;

use crate::{
    clock::fresh_id,
    db::{DbHandle, RotateSession},
};

/// A fixed instant, with more digits than a database keeps cut off.
pub(in crate::db) fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 123_456_000).unwrap()
}

pub(in crate::db) fn audit(event: AuditEvent, user: UserId) -> AuditEntry {
    AuditEntry {
        id: fresh_id(),
        event,
        user: Some(user),
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
        created_at: noon(),
    };
    Account { user, password_hash: Secret::new("$argon2id$first".into()) }
}

/// Stores an account and returns its user.
pub(in crate::db) async fn some_user(db: &DbHandle) -> User {
    let account = account(&format!("{}@example.org", fresh_id::<UserId>()));
    let user = account.user.clone();
    db.create_user(account, audit(AuditEvent::UserCreated, user.id)).await.unwrap();
    user
}

pub(in crate::db) async fn some_session(db: &DbHandle, user: UserId) -> Session {
    let session = Session {
        id: fresh_id(),
        user,
        counter: 0,
        created_at: noon(),
        rotated_at: noon(),
        expires_at: noon() + TimeDelta::days(30),
        revoked_at: None,
    };
    db.start_session(session.clone(), audit(AuditEvent::AuthnLoginSuccess, user)).await.unwrap();
    session
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
        conversation: fresh_id(),
        new_conversation_title: Some("the sky".into()),
        messages: vec![said],
        reply: fresh_id(),
        model: "tiny:latest".into(),
        owner: fresh_id::<InstanceId>(),
        lease_until: noon() + TimeDelta::seconds(30),
        created_at: noon(),
    }
}

/// A turn in a conversation that exists.
pub(in crate::db) fn begin_in(user: UserId, conversation: ConversationId) -> BeginTurn {
    BeginTurn { conversation, new_conversation_title: None, ..begin(user) }
}

pub(in crate::db) fn checkpoint(begin: &BeginTurn, seq: u32, content: &str) -> Checkpoint {
    Checkpoint { turn: begin.turn, reply: begin.reply, seq, answer: answer(content) }
}

pub(in crate::db) fn answer(content: &str) -> Answer {
    Answer { content: content.into(), ..Answer::default() }
}

pub(in crate::db) fn settlement(begin: &BeginTurn, content: &str) -> Settlement {
    Settlement {
        turn: begin.turn,
        user: begin.user,
        model: begin.model.clone(),
        stored: Some(StoredReply { conversation: begin.conversation, message: begin.reply }),
        status: TurnStatus::Complete,
        failure: None,
        finish_reason: Some(FinishReason::Stop.as_str()),
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
