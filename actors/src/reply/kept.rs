//! A turn's log in the hands of those who neither write nor read it: they let readers in, and can end the turn.

use std::sync::Arc;

use domain::reply::Position;

use super::{
    log::{Cursor, Shared, Stop},
    reader::ReplyReader,
};

/// One turn's log, living or ended; clones share it. It keeps the text in memory, and the turn alive for nobody.
#[derive(Clone)]
pub struct ReplyLog(pub(super) Arc<Shared>);

/// Why nobody more can read along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("the answer has no such position")]
    NoSuchPosition,
    #[error("too many readers")]
    TooManyReaders,
}

impl ReplyLog {
    /// One more reader, of what lies after `from`. Whoever comes while the last one leaves keeps the turn alive, or sees its
    /// end: a turn that was cancelled is not revived.
    ///
    /// # Errors
    ///
    /// See [`AttachError`]; nothing changed.
    pub fn attach(&self, from: Position) -> Result<ReplyReader, AttachError> {
        let (slot, cursor) = self.0.attach(from)?;
        Ok(ReplyReader::at(self.0.clone(), slot, cursor))
    }

    /// The same where the reader may have more than the log: what it has is passed over when it comes. Places within a
    /// character count as the next one.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooManyReaders`]: nothing changed.
    pub fn attach_ahead(&self, from: Position) -> Result<ReplyReader, AttachError> {
        let (slot, cursor) = self.0.attach_ahead(from)?;
        Ok(ReplyReader::at(self.0.clone(), slot, cursor))
    }

    /// Reads it from its beginning without keeping the turn alive.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooManyReaders`]: nothing changed.
    pub fn observe(&self) -> Result<ReplyReader, AttachError> {
        Ok(ReplyReader::at(self.0.clone(), self.0.observe()?, Cursor::default()))
    }

    /// Ends the turn as cancelled, wherever it is; one that has ended stays as it is. Says whether nobody did so before.
    pub fn cancel(&self) -> bool {
        self.0.stop(Stop::Cancelled)
    }

    /// The same for one that has lived as long as a turn may.
    pub fn expire(&self) {
        self.0.stop(Stop::Expired);
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.log.lock().end() == Position::default()
    }
}
