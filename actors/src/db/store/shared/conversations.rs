//! Conversations: made, changed, thrown away.

use chrono::{DateTime, Utc};
use domain::{
    conversation::{CONVERSATIONS_PER_USER, Conversation, ConversationChange},
    id::{ConversationId, UserId},
};

use super::super::{Connection, accounts, conversations};
use crate::db::store::stop::Stop;

pub(super) async fn create(
    db: &mut Connection,
    owner: UserId,
    conversation: &Conversation,
) -> Result<(), Stop> {
    // Held, or two at once would count the same conversations.
    if accounts::hold(db, owner).await?.is_none() {
        return Err(Stop::NOT_FOUND);
    }
    if conversations::count(db, owner, CONVERSATIONS_PER_USER).await? >= CONVERSATIONS_PER_USER {
        return Err(Stop::conflict("too many conversations"));
    }
    Ok(conversations::insert(db, owner, conversation).await?)
}

pub(super) async fn update(
    db: &mut Connection,
    owner: UserId,
    id: ConversationId,
    change: &ConversationChange,
    now: DateTime<Utc>,
) -> Result<Conversation, Stop> {
    let before = conversations::hold(db, owner, id).await?.ok_or(Stop::NOT_FOUND)?;
    let after = change.of(&before, now);
    if after != before {
        conversations::set(db, &after).await?;
    }
    Ok(after)
}

/// What is left of it goes step by step, like what deleted accounts leave behind.
pub(super) async fn delete(
    db: &mut Connection,
    owner: UserId,
    id: ConversationId,
    now: DateTime<Utc>,
) -> Result<(), Stop> {
    if conversations::throw_away(db, owner, id, now).await? { Ok(()) } else { Err(Stop::NOT_FOUND) }
}
