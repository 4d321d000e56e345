//! Whoever leaves takes nothing but their password to do so.

use domain::{
    audit::{AuditEntry, AuditEvent},
    password::Password,
    principal::Principal,
};

use super::{AuthError, AuthHandle, Origin, administration::not_changed, self_service::session_of};

impl AuthHandle {
    /// Removes the caller's own account: its sessions and keys are over here at once, elsewhere within the session cache's
    /// life; see [`DbHandle::delete_user`](crate::db::DbHandle::delete_user) for what is left and what becomes of it. Turns
    /// that run are asked to end.
    ///
    /// # Errors
    ///
    /// [`AuthError::NeedsSession`] when the caller came with a key; [`AuthError::BadCredentials`] when the password is wrong,
    /// and guessing here is throttled as at log-in, with [`AuthError::Throttled`]; [`AuthError::LastAdministrator`] when
    /// nobody could administer afterwards; [`AuthError::BadToken`] when the account is gone already;
    /// [`AuthError::Overloaded`] when nothing was looked at.
    pub async fn leave(
        &self,
        caller: &Principal,
        password: Password,
        origin: Origin,
    ) -> Result<(), AuthError> {
        session_of(caller)?;
        let room = &self.0;
        let user = self.me(caller).await?;
        let entry =
            |event| AuditEntry { actor: Some(user.id), user: Some(user.id), ..room.entry(event, &origin) };
        let on_fail =
            AuditEntry { detail: Some("account deletion".to_owned()), ..entry(AuditEvent::AuthnLoginFail) };
        room.prove(&user.email, password, on_fail, &origin).await?;
        match room.delete_user(user.id, entry(AuditEvent::UserDeleted)).await?.map_err(not_changed) {
            Err(AuthError::NotFound(_)) => Err(AuthError::BadToken),
            outcome => outcome,
        }
    }
}
