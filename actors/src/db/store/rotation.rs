//! What a refresh token that is not the live one means (RFC 9700 §4.14.2).

use domain::account::{Rotation, Session, User};

use crate::db::RotateSession;

/// How the store goes on after the one atomic update found no live token to rotate.
pub(super) enum Judgement {
    Answer(Rotation),
    /// An older token: end the family and record it.
    Revoke,
}

/// Judges a presented token against its session as it stands *after* the update missed.
pub(super) fn judge(rotate: &RotateSession, session: Session, user: User) -> Judgement {
    let lives = session.revoked_at.is_none()
        && !user.disabled
        && session.expires_at > rotate.now
        && session.rotated_at + rotate.idle > rotate.now;
    if !lives || rotate.counter >= session.counter {
        return Judgement::Answer(Rotation::Dead);
    }
    if rotate.counter + 1 == session.counter && session.rotated_at + rotate.grace >= rotate.now {
        return Judgement::Answer(Rotation::Repeated { session, user });
    }
    Judgement::Revoke
}
