//! Sessions of the caller's account: seen, and ended.

use std::{net::IpAddr, sync::Arc};

use actors::{auth::LogOut, system::System};
use chrono::{DateTime, Utc};
use domain::{
    id::SessionId,
    principal::{Credential, Principal},
    session::Session,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    http::{ApiError, Call, Reply, clear_cookies, empty_reply, json_reply},
    routes::list::List,
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogOutRequest {
    #[serde(default)]
    scope: LogOutScope,
}

/// Which sessions end: this one, all others, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogOutScope {
    #[default]
    Local,
    Others,
    Global,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    #[schema(value_type = Uuid)]
    id: SessionId,
    /// Whether it is the one that asks.
    current: bool,
    /// What signed in, by its own account.
    device: Option<String>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    created_at: DateTime<Utc>,
    /// To within some minutes.
    last_used_at: DateTime<Utc>,
    /// When it ends at the latest, however busy.
    expires_at: DateTime<Utc>,
}

impl SessionView {
    /// The sessions as `caller` sees them.
    pub(crate) fn list(sessions: Vec<Session>, caller: &Principal) -> List<Self> {
        let view = |session: Session| Self {
            id: session.id,
            current: caller.credential == Credential::Session(session.id),
            device: session.device,
            address: session.address,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
        };
        List::new(sessions.into_iter().map(view).collect(), None)
    }
}

impl From<LogOutScope> for LogOut {
    fn from(scope: LogOutScope) -> Self {
        match scope {
            LogOutScope::Local => Self::Local,
            LogOutScope::Others => Self::Others,
            LogOutScope::Global => Self::Global,
        }
    }
}

/// Ends this session, all others, or all.
#[utoipa::path(post, path = "/v1/auth/logout", operation_id = "logOut", tag = "auth",
    request_body = Option<LogOutRequest>,
    responses((status = 204)))]
pub(crate) async fn log_out(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let LogOutRequest { scope } = call.account_or_default().await?;
    system.auth.log_out(&call.principal()?, scope.into(), call.origin()).await?;
    let mut reply = empty_reply();
    if call.browser_sessions().is_some() && scope != LogOutScope::Others {
        clear_cookies(reply.headers_mut());
    }
    Ok(reply)
}

/// Lists the live sessions of the caller's account, most lately used first.
#[utoipa::path(get, path = "/v1/auth/sessions", operation_id = "listSessions", tag = "auth",
    responses((status = 200, body = List<SessionView>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let caller = call.principal()?;
    let sessions = system.auth.sessions(&caller).await?;
    Ok(json_reply(StatusCode::OK, &SessionView::list(sessions, &caller)))
}

/// Ends one session of the caller's account.
#[utoipa::path(delete, path = "/v1/auth/sessions/{id}", operation_id = "endSession", tag = "auth",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn end(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    system.auth.end_session(&call.principal()?, call.id()?, call.origin()).await?;
    Ok(empty_reply())
}
