//! Turns that somebody asks for again: to read along, to see how they stand, to end them.
//!
//! None of it takes a slot, a place or tokens. What lives here, or ended a moment ago, is answered from memory, everything else
//! by the store. Somebody else's turn is not found.

use domain::{
    id::{ConversationId, MessageId, TurnId},
    model_name::ModelName,
    principal::Principal,
    reply::{Answer, Position},
    turn::{Claim, StoredTurn, TurnStatus},
};

use chrono::{DateTime, Utc};

use super::{LetIn, ModelError, ModelHandle};
use crate::{
    db::DbError,
    reply::{AttachError, ReplyReader},
};

/// What a turn is called.
#[derive(Debug, Clone)]
pub struct TurnNames {
    pub turn: TurnId,
    /// `None` when nothing is stored.
    pub conversation: Option<ConversationId>,
    pub message: MessageId,
    /// In the caller's spelling, as long as that is known.
    pub model: ModelName,
    pub created_at: DateTime<Utc>,
}

/// Where the answer of a turn is read.
pub enum Attached {
    /// In memory, to its end.
    Live { names: TurnNames, reader: ReplyReader },
    /// In the store: the turn has ended.
    Stored { turn: StoredTurn, answer: Answer },
    /// In the store as far as its last checkpoint: another instance runs it, or ran it and died.
    Elsewhere { turn: StoredTurn, answer: Answer },
}

impl ModelHandle {
    /// Reads a turn's answer from `from` on; dropping the reader is like leaving the stream that began it.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownTurn`], [`ModelError::NoSuchPosition`] and [`ModelError::TooManyReaders`] of a turn in memory;
    /// those of the store.
    pub async fn attach(
        &self,
        principal: &Principal,
        turn: TurnId,
        from: Position,
    ) -> Result<Attached, ModelError> {
        if let Some(entry) = self.0.turns.find(principal.user, turn) {
            let reader = entry.log.attach(from).map_err(|error| match error {
                AttachError::NoSuchPosition => ModelError::NoSuchPosition,
                AttachError::TooManyReaders => ModelError::TooManyReaders,
            })?;
            return Ok(Attached::Live { names: entry.names, reader });
        }
        let (turn, answer) = self.stored_turn(principal, turn).await?;
        Ok(match turn.status {
            TurnStatus::Streaming => Attached::Elsewhere { turn, answer },
            _ => Attached::Stored { turn, answer },
        })
    }

    /// How a turn stands.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownTurn`], and those of the store.
    pub async fn turn(&self, principal: &Principal, turn: TurnId) -> Result<StoredTurn, ModelError> {
        match self.0.turns.find(principal.user, turn) {
            Some(entry) => Ok(entry.turn),
            None => Ok(self.stored_turn(principal, turn).await?.0),
        }
    }

    /// Ends a turn as cancelled, wherever it is; one that has ended stays as it is. Returns how it stands: a turn that is
    /// `streaming` still is about to end.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownTurn`], and those of the store.
    pub async fn cancel_turn(&self, principal: &Principal, turn: TurnId) -> Result<StoredTurn, ModelError> {
        if let Some(entry) = self.0.turns.find(principal.user, turn) {
            entry.log.cancel();
            return Ok(entry.turn);
        }
        let (turn, _) = self.stored_turn(principal, turn).await?;
        if turn.status == TurnStatus::Streaming {
            let db = &self.0.routing.db;
            db.request_cancel(principal.user, turn.turn).await.map_err(refused)?;
        }
        Ok(turn)
    }

    /// Waits until no other request with this key is being let in here; hold what is returned until the turn is begun or found.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoRoom`]: too many wait.
    pub async fn line_up(&self, principal: &Principal, claim: Claim) -> Result<LetIn, ModelError> {
        self.0.lines.line_up(principal.user, claim).await
    }

    /// The turn that a key stands for, if any.
    ///
    /// # Errors
    ///
    /// [`ModelError::KeyTaken`]: something else was asked with it. Those of the store.
    pub async fn claimed(&self, principal: &Principal, claim: Claim) -> Result<Option<TurnId>, ModelError> {
        let known = match self.0.turns.claimed(principal.user, claim.key) {
            Some(known) => Some(known),
            None => self.0.routing.db.claimed(principal.user, claim.key).await.map_err(refused)?,
        };
        match known {
            Some((_, request)) if request != claim.request => Err(ModelError::KeyTaken),
            known => Ok(known.map(|(turn, _)| turn)),
        }
    }

    async fn stored_turn(
        &self,
        principal: &Principal,
        turn: TurnId,
    ) -> Result<(StoredTurn, Answer), ModelError> {
        let found = self.0.routing.db.turn(principal.user, turn).await.map_err(refused)?;
        found.ok_or(ModelError::UnknownTurn)
    }
}

fn refused(error: DbError) -> ModelError {
    match error {
        DbError::NotFound => ModelError::UnknownTurn,
        other => other.into(),
    }
}
