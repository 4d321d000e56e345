//! What a DbWriter can be asked to write.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, PasswordHash, UserChange},
    api_key::{ApiKey, KeyChange, KeyHash},
    audit::AuditEntry,
    chat::{ChatMessage, ToolCall},
    conversation::{Conversation, ConversationChange},
    id::{ApiKeyId, ConversationId, InstanceId, InviteId, TurnId, UserId},
    invite::{Invite, InviteHash},
    session::{Ending, Session},
    signing_key::SigningKey,
    turn::{BeginTurn, Checkpoint, Settlement},
};

pub(super) use super::written::Written;
use super::{
    RotateSession, SetPassword, Touched,
    indexing::{Worded, WordedTitle},
};

/// Which running turns nobody runs.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) now: DateTime<Utc>,
    /// Those whose lease ran out before then.
    pub(super) lapsed: Option<DateTime<Utc>>,
    /// Those of all but the one instance that can be alive, if no other can.
    pub(super) sole: Option<InstanceId>,
    /// Those whose end is known not to come.
    pub(super) given_up: Vec<TurnId>,
}

/// One change; carries all it needs, so that it can be tried again alone.
#[derive(Debug)]
pub(super) enum Write {
    CreateUser(Box<(Account, AuditEntry)>),
    CreateInvitedUser {
        account: Box<Account>,
        invite: InviteHash,
        now: DateTime<Utc>,
        audit: Box<AuditEntry>,
    },
    UpdateUser {
        user: UserId,
        change: UserChange,
        now: DateTime<Utc>,
        audit: Vec<AuditEntry>,
    },
    DeleteUser {
        user: UserId,
        now: DateTime<Utc>,
        audit: Box<AuditEntry>,
    },
    SetPassword(Box<SetPassword>),
    ReplacePasswordHash {
        user: UserId,
        old: PasswordHash,
        new: PasswordHash,
    },
    StartSession(Box<(Session, PasswordHash, AuditEntry)>),
    RotateSession(Box<RotateSession>),
    EndSessions {
        user: UserId,
        which: Ending,
        now: DateTime<Utc>,
        audit: Box<AuditEntry>,
    },
    Touch(Touched),
    CreateApiKey {
        key: Box<ApiKey>,
        hash: KeyHash,
        audit: Box<AuditEntry>,
    },
    ChangeApiKey {
        key: ApiKeyId,
        change: Box<KeyChange>,
        audit: Box<AuditEntry>,
    },
    RevokeApiKey {
        owner: Option<UserId>,
        key: ApiKeyId,
        now: DateTime<Utc>,
        audit: Box<AuditEntry>,
    },
    CreateInvite {
        invite: Box<Invite>,
        hash: InviteHash,
        audit: Box<AuditEntry>,
    },
    OfferFirstAdmin {
        invite: Box<Invite>,
        hash: InviteHash,
    },
    RevokeInvite {
        invite: InviteId,
        now: DateTime<Utc>,
        audit: Box<AuditEntry>,
    },
    AddSigningKey {
        key: SigningKey,
        audit: Box<AuditEntry>,
    },
    CreateConversation {
        owner: UserId,
        conversation: Box<Conversation>,
    },
    UpdateConversation {
        owner: UserId,
        conversation: ConversationId,
        change: Box<ConversationChange>,
        now: DateTime<Utc>,
    },
    DeleteConversation {
        owner: UserId,
        conversation: ConversationId,
        now: DateTime<Utc>,
    },
    RenewLeases {
        owner: InstanceId,
        until: DateTime<Utc>,
    },
    PurgeSessions {
        before: DateTime<Utc>,
        limit: u32,
    },
    PurgeConversations,
    /// Throws away conversations without activity since then.
    RetireConversations {
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: u32,
    },
    IndexMessages(Vec<Worded>),
    IndexTitles(Vec<WordedTitle>),
    /// Frees some of what removed messages have left in the index.
    TidyIndex,
    SweepDead(Sweep),
    RequestCancel {
        user: UserId,
        turn: TurnId,
    },
    ReleaseClaims {
        before: DateTime<Utc>,
        limit: u32,
    },
    BeginTurn(Box<BeginTurn>),
    /// Opens the ledger's row of a turn that is not stored and has no key.
    OpenTurn(Box<BeginTurn>),
    Checkpoint(Box<Checkpoint>),
    Settle(Box<Settlement>),
    /// The end of a turn that was on the disk; refused if the store is not the one that it was for.
    Replay(Box<Settlement>),
    Note(Box<AuditEntry>),
    /// Changes nothing that anybody sees, to find out whether changes are written.
    Probe,
}

impl Write {
    /// Whether writing it twice is the same as writing it once, so that it may be repeated when its first outcome is unknown.
    pub(super) const fn is_repeatable(&self) -> bool {
        matches!(
            self,
            Self::OpenTurn(_)
                | Self::Checkpoint(_)
                | Self::Settle(_)
                | Self::Replay(_)
                | Self::Note(_)
                | Self::Touch(_)
        )
    }

    pub(super) fn as_settlement(&self) -> Option<&Settlement> {
        match self {
            Self::Settle(settlement) | Self::Replay(settlement) => Some(settlement),
            _ => None,
        }
    }

    /// What a trace calls it.
    pub(super) const fn span_name(&self) -> &'static str {
        match self {
            Self::CreateUser(_) | Self::CreateInvitedUser { .. } => "db.users.insert",
            Self::UpdateUser { .. } => "db.users.update",
            Self::DeleteUser { .. } => "db.users.delete",
            Self::SetPassword(_) => "db.passwords.set",
            Self::ReplacePasswordHash { .. } => "db.passwords.rehash",
            Self::StartSession(_) => "db.sessions.insert",
            Self::RotateSession(_) => "db.sessions.rotate",
            Self::EndSessions { .. } => "db.sessions.end",
            Self::Touch(_) => "db.sessions.touch",
            Self::CreateApiKey { .. } => "db.api_keys.insert",
            Self::ChangeApiKey { .. } => "db.api_keys.update",
            Self::RevokeApiKey { .. } => "db.api_keys.revoke",
            Self::CreateInvite { .. } | Self::OfferFirstAdmin { .. } => "db.invites.insert",
            Self::RevokeInvite { .. } => "db.invites.revoke",
            Self::AddSigningKey { .. } => "db.signing_keys.insert",
            Self::CreateConversation { .. } => "db.conversations.insert",
            Self::UpdateConversation { .. } => "db.conversations.update",
            Self::DeleteConversation { .. } => "db.conversations.delete",
            Self::RenewLeases { .. } => "db.leases.renew",
            Self::PurgeSessions { .. } => "db.sessions.purge",
            Self::PurgeConversations => "db.conversations.purge",
            Self::RetireConversations { .. } => "db.conversations.retire",
            Self::IndexMessages(_) => "db.messages.index",
            Self::IndexTitles(_) => "db.conversations.index",
            Self::TidyIndex => "db.messages.tidy_index",
            Self::SweepDead(_) => "db.turns.sweep",
            Self::RequestCancel { .. } => "db.turns.cancel",
            Self::ReleaseClaims { .. } => "db.claims.release",
            Self::BeginTurn(_) => "db.turns.begin",
            Self::OpenTurn(_) => "db.turns.open",
            Self::Checkpoint(_) => "db.turns.checkpoint",
            Self::Settle(_) | Self::Replay(_) => "db.turns.settle",
            Self::Note(_) => "db.audit.insert",
            Self::Probe => "db.store.probe",
        }
    }

    /// Roughly how much of a statement it fills.
    pub(super) fn size_bytes(&self) -> usize {
        /// Ids, numbers and field names of one row.
        const ROW_BYTES: usize = 512;
        /// An id and an instant.
        const TOUCHED_BYTES: usize = 64;
        ROW_BYTES
            + match self {
                Self::BeginTurn(begin) => {
                    let said = begin.exchange.iter().flat_map(|exchange| &exchange.messages);
                    said.map(|new| message_bytes(&new.message)).sum()
                }
                Self::CreateConversation { conversation, .. } => {
                    conversation.title.len() + conversation.system_prompt.as_ref().map_or(0, String::len)
                }
                Self::UpdateConversation { change, .. } => {
                    let system_prompt = change.system_prompt.as_ref().and_then(Option::as_ref);
                    change.title.as_ref().map_or(0, String::len) + system_prompt.map_or(0, String::len)
                }
                Self::Checkpoint(checkpoint) => answer_bytes(&checkpoint.answer),
                Self::Settle(settlement) | Self::Replay(settlement) => answer_bytes(&settlement.answer),
                Self::Touch(touched) => (touched.sessions.len() + touched.keys.len()) * TOUCHED_BYTES,
                Self::IndexMessages(worded) => {
                    worded.iter().flat_map(|one| &one.marks).map(|mark| mark.len() + 3).sum()
                }
                _ => 0,
            }
    }
}

fn message_bytes(message: &ChatMessage) -> usize {
    message.content.len()
        + message.thinking.as_ref().map_or(0, String::len)
        + message.images.iter().map(String::len).sum::<usize>()
        + calls_bytes(&message.tool_calls)
        + 256
}

fn answer_bytes(answer: &domain::reply::Answer) -> usize {
    answer.content.len() + answer.thinking.len() + calls_bytes(&answer.tool_calls)
}

fn calls_bytes(calls: &[ToolCall]) -> usize {
    calls.iter().map(|call| call.arguments.to_string().len() + 64).sum()
}
