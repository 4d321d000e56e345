//! What a DbWriter can be asked to write.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, AuditEntry, PasswordHash, Rotation, Session},
    chat::{ChatMessage, ToolCall},
    id::{InstanceId, UserId},
    turn::{BeginTurn, Checkpoint, Settlement},
};

use super::RotateSession;

/// One change; carries all it needs, so that it can be tried again alone.
#[derive(Debug)]
pub(super) enum Write {
    CreateUser(Box<(Account, AuditEntry)>),
    ReplacePasswordHash { user: UserId, old: PasswordHash, new: PasswordHash },
    StartSession(Box<(Session, AuditEntry)>),
    RotateSession(Box<RotateSession>),
    RenewLeases { owner: InstanceId, until: DateTime<Utc> },
    SweepExpired { now: DateTime<Utc> },
    BeginTurn(Box<BeginTurn>),
    Checkpoint(Box<Checkpoint>),
    Settle(Box<Settlement>),
}

/// What a change led to, where there is more to say than that it is done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Written {
    Done,
    Replaced(bool),
    Rotated(Rotation),
    Swept(u64),
}

impl Write {
    /// Whether writing it twice is the same as writing it once, so that it may be repeated when its first outcome is unknown.
    pub(super) const fn is_repeatable(&self) -> bool {
        matches!(self, Self::Checkpoint(_) | Self::Settle(_))
    }

    /// Roughly how much of a statement it fills.
    pub(super) fn size_bytes(&self) -> usize {
        /// Ids, numbers and field names of one row.
        const ROW_BYTES: usize = 512;
        ROW_BYTES
            + match self {
                Self::BeginTurn(begin) => begin.messages.iter().map(|new| message_bytes(&new.message)).sum(),
                Self::Checkpoint(checkpoint) => answer_bytes(&checkpoint.answer),
                Self::Settle(settlement) => answer_bytes(&settlement.answer),
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
