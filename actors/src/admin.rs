//! Administration from the machine that holds the store, beside a running service or without one.
//!
//! Only the rooms that are needed are started, do one thing, and are stopped again: the same rules for passwords
//! and the same audit trail as everywhere, and no lock that would keep a service out.
//!
//! # When it breaks
//!
//! Nothing is half done: each call is one transaction, and one whose outcome is unknown says so.

use tokio::time::timeout;

use crate::{
    auth::{self, AuthError, AuthHandle},
    clock::Clock,
    db::{self, DbConfig, DbHandle},
    password, rate_limit,
    rate_limit::RateLimitConfig,
    room::RoomContext,
    supervisor::{Policy, Root, SupervisorHandle, SupervisorSpec},
    system::{StartError, SystemConfig, TASK_PATIENCE},
};

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Starts the rooms that accounts need for as long as `work` takes.
///
/// # Errors
///
/// What `work` said, or why it could not begin. After [`AuthError::Unavailable`] a change is made or not.
pub async fn with_accounts<T, E: From<StartError>>(
    config: SystemConfig,
    clock: Clock,
    work: impl AsyncFnOnce(&AuthHandle) -> Result<T, E>,
) -> Result<T, E> {
    let (auth, rooms) = accounts(config, clock).await?;
    let done = work(&auth).await;
    rooms.close().await;
    done
}

/// Starts the db room alone for as long as `work` takes.
///
/// # Errors
///
/// What `work` said, or why it could not begin.
pub async fn with_store<T, E: From<StartError>>(
    config: SystemConfig,
    clock: Clock,
    work: impl AsyncFnOnce(&DbHandle) -> Result<T, E>,
) -> Result<T, E> {
    let context = RoomContext::new(Rooms::NAME, clock);
    let (db, db_sup) = db::build(&context, DbConfig { exclusive: false, ..config.db }).await?;
    let rooms = Rooms::start(context, [db_sup]).await?;
    let done = work(&db).await;
    rooms.close().await;
    done
}

async fn accounts(config: SystemConfig, clock: Clock) -> Result<(AuthHandle, Rooms), StartError> {
    let context = RoomContext::new(Rooms::NAME, clock);
    let (db, db_sup) = db::build(&context, DbConfig { exclusive: false, ..config.db }).await?;
    let (passwords, password_sup) = password::build(&context, config.password)?;
    // Whoever holds the store needs no patience.
    let off = RateLimitConfig { enabled: false, ..config.rate_limit };
    let (limits, _) = rate_limit::build(&context, off).await?;
    let (auth, auth_sup) = auth::build(&context, config.auth, db, passwords, limits)?;
    Ok((auth, Rooms::start(context, [db_sup, password_sup, auth_sup]).await?))
}

/// The part of the tree that is needed.
struct Rooms {
    context: RoomContext,
    root: Root,
}

impl Rooms {
    const NAME: &str = "admin";

    /// Starts them in this order.
    async fn start<const N: usize>(
        context: RoomContext,
        rooms: [SupervisorSpec; N],
    ) -> Result<Self, StartError> {
        let children = rooms
            .map(|spec| {
                spec.clone().into_child(spec.path, Self::NAME, context.tree.clone(), SupervisorHandle::new())
            })
            .into();
        let root = Root::start(Self::NAME, Policy::default(), children, context.tree.clone())
            .await
            .map_err(|error| StartError::Actor(error.to_string()))?;
        Ok(Self { context, root })
    }

    /// What was acknowledged is in the store; what was begun beside it gets the time to finish.
    async fn close(self) {
        self.context.closing.cancel();
        self.root.stop().await;
        self.context.tracker.close();
        if timeout(TASK_PATIENCE, self.context.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.context.tracker.len(), "tasks were still running at the end");
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{password::Password, principal::Role, secret::Secret};

    use super::*;
    use crate::{
        clock::fresh_id,
        system::{System, tests::config},
    };

    fn password(text: &str) -> Password {
        Secret::new(text.to_owned())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_administrator_made_beside_a_running_service_can_sign_in_there() {
        let data_dir = std::env::temp_dir().join(format!("deepersensor-admin-{}", fresh_id::<uuid::Uuid>()));
        let service = System::start("beside", config(&data_dir), Clock::system()).await.unwrap();
        let create = async |email: &'static str, text: &'static str| {
            let create =
                async |auth: &AuthHandle| Ok(auth.create_account(email, password(text), Role::Admin).await?);
            with_accounts::<_, AdminError>(config(&data_dir), Clock::system(), create).await
        };
        let created = create("root@example.org", "four words of my own").await.unwrap();
        assert_eq!(created.role, Role::Admin);

        let tokens =
            service.auth.log_in("root@example.org", password("four words of my own"), Default::default());
        let principal = service.auth.authenticate(tokens.await.unwrap().access_token.reveal()).await.unwrap();
        assert_eq!((principal.user, principal.role), (created.id, Role::Admin));

        let taken = create("root@example.org", "four words of my own").await.unwrap_err();
        assert!(matches!(taken, AdminError::Auth(AuthError::EmailTaken)), "{taken}");
        let weak = create("other@example.org", "password").await.unwrap_err();
        assert!(matches!(weak, AdminError::Auth(AuthError::WeakPassword(_))), "{weak}");
        service.stop().await;
        std::fs::remove_dir_all(data_dir).unwrap();
    }
}
