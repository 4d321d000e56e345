//! What a refresh token that is not the live one means (RFC 9700 §4.14.2).

use domain::{
    account::User,
    session::{Rotation, Session},
};

use crate::db::RotateSession;

/// Judges a presented token against its session as it stands *after* the one atomic update found no live token to rotate.
/// `None` is an older token: the family is to be ended, and that recorded.
pub(super) fn judge(rotate: &RotateSession, session: Session, user: User) -> Option<Rotation> {
    let lives = session.revoked_at.is_none()
        && !user.disabled
        && session.expires_at > rotate.now
        && session.rotated_at + rotate.idle > rotate.now;
    if !lives || rotate.counter >= session.counter || rotate.counter < session.min_epoch {
        return Some(Rotation::Dead);
    }
    if rotate.counter + 1 == session.counter && session.rotated_at + rotate.grace >= rotate.now {
        return Some(Rotation::Repeated { session, user });
    }
    None
}
