//! What the way of a request asks of the rooms: the tree in production, a script in tests.

use std::net::IpAddr;

use actors::{
    auth::{AuthError, Origin},
    rate_limit::{Decision, LimitError, TokenReserve, TurnSize},
    system::System,
};
use domain::{
    audit::AuditEvent,
    id::UserId,
    model_name::ModelName,
    principal::{Access, Principal},
};

pub(crate) trait Doors: Send + Sync + 'static {
    /// Spends one request of the address.
    fn take_address(
        &self,
        address: IpAddr,
    ) -> impl Future<Output = Result<Option<Decision>, LimitError>> + Send;

    /// Who holds this token? What the route demands decides how lately that must have been true.
    fn authenticate(
        &self,
        token: &str,
        access: Access,
    ) -> impl Future<Output = Result<Principal, AuthError>> + Send;

    /// Spends one request of the principal.
    fn take_principal(
        &self,
        principal: &Principal,
    ) -> impl Future<Output = Result<Option<Decision>, LimitError>> + Send;

    /// Spends one turn of the principal with the model that this name stands for.
    fn take_turn(
        &self,
        principal: &Principal,
        model: &ModelName,
        size: TurnSize,
    ) -> impl Future<Output = Result<(Option<Decision>, TokenReserve), LimitError>> + Send;

    /// Tells the audit trail that somebody was turned away.
    fn report_refusal(&self, event: AuditEvent, user: Option<UserId>, detail: &'static str, origin: &Origin);
}

impl Doors for System {
    async fn take_address(&self, address: IpAddr) -> Result<Option<Decision>, LimitError> {
        self.limits.take_address(address, 1).await
    }

    async fn authenticate(&self, token: &str, access: Access) -> Result<Principal, AuthError> {
        match access {
            // What is done here lasts: a key made by a session that ended elsewhere a moment ago would outlive it.
            Access::Admin | Access::Session => self.auth.authenticate_now(token).await,
            Access::Public | Access::Operator | Access::Anybody | Access::Scope(_) => {
                self.auth.authenticate(token).await
            }
        }
    }

    async fn take_principal(&self, principal: &Principal) -> Result<Option<Decision>, LimitError> {
        self.limits.take_principal(principal, 1).await
    }

    async fn take_turn(
        &self,
        principal: &Principal,
        model: &ModelName,
        size: TurnSize,
    ) -> Result<(Option<Decision>, TokenReserve), LimitError> {
        let (model, size) = self.models.counted_as(principal, model, size);
        self.limits.take_turn(principal, &model, size).await
    }

    fn report_refusal(&self, event: AuditEvent, user: Option<UserId>, detail: &'static str, origin: &Origin) {
        self.auth.report_refusal(event, user, detail, origin);
    }
}
