//! What a change led to, on its way from the store to whoever asked for it.

use domain::{
    account::{PasswordSet, UserChanged},
    api_key::{KeyChanged, KeyHash},
    conversation::Conversation,
    id::SessionId,
    session::Rotation,
    turn::Begun,
};

use super::{DbError, NextKey};

/// Makes one variant for each type of answer, and the way there and back.
macro_rules! written {
    ($($variant:ident($answer:ty))+) => {
        #[derive(Debug, Clone, PartialEq)]
        pub(super) enum Written {
            Done,
            $($variant(Box<$answer>),)+
        }

        $(impl From<$answer> for Written {
            fn from(answer: $answer) -> Self {
                Self::$variant(Box::new(answer))
            }
        }

        impl TryFrom<Written> for $answer {
            type Error = DbError;

            fn try_from(written: Written) -> Result<Self, DbError> {
                match written {
                    Written::$variant(answer) => Ok(*answer),
                    _ => Err(mismatch()),
                }
            }
        })+
    };
}

written! {
    Said(bool)
    Counted(u64)
    Rotated(Rotation)
    Ended(Vec<SessionId>)
    Changed(UserChanged)
    PasswordSet(PasswordSet)
    KeyChanged(KeyChanged)
    Revoked(KeyHash)
    Signs(NextKey)
    Begun(Begun)
    Conversation(Conversation)
}

impl From<()> for Written {
    fn from((): ()) -> Self {
        Self::Done
    }
}

impl TryFrom<Written> for () {
    type Error = DbError;

    fn try_from(written: Written) -> Result<Self, DbError> {
        if written == Written::Done { Ok(()) } else { Err(mismatch()) }
    }
}

fn mismatch() -> DbError {
    DbError::Broken("a change was answered with another's answer".into())
}
