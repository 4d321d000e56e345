//! What administrators do with other people's accounts.

use domain::{
    account::{User, UserChange},
    principal::Role,
};

use super::bench::{Bench, EMAIL, PASSWORD, secret};
use crate::{
    auth::{Administrator, AuthError, Origin},
    clock::fresh_id,
    db::UserSearch,
};

const DISABLE: UserChange = UserChange { disabled: Some(true), ..UserChange::NONE };
const ENABLE: UserChange = UserChange { disabled: Some(false), ..UserChange::NONE };
const DEMOTE: UserChange = UserChange { role: Some(Role::User), ..UserChange::NONE };
const PROMOTE: UserChange = UserChange { role: Some(Role::Admin), ..UserChange::NONE };

impl Bench {
    async fn root(&self) -> (User, Administrator) {
        let root = self.auth.create_account("root@example.org", secret(PASSWORD), Role::Admin).await.unwrap();
        let by = Administrator { user: Some(root.id), ..Administrator::default() };
        (root, by)
    }
}

#[tokio::test]
async fn a12_a_disabled_account_is_out_at_once_and_back_only_by_signing_in_again() {
    let bench = Bench::start().await;
    let ((_, by), owner) = (bench.root().await, bench.owner().await);
    let user = owner.principal.user;
    assert!(bench.auth.change_user(&by, user, DISABLE).await.unwrap().disabled);
    assert_eq!(bench.auth.authenticate(&owner.token).await, Err(AuthError::BadToken));
    let refused = bench.auth.log_in(EMAIL, secret(PASSWORD), Origin::default()).await.unwrap_err();
    assert_eq!(refused, AuthError::BadCredentials);

    assert!(!bench.auth.change_user(&by, user, ENABLE).await.unwrap().disabled);
    assert_eq!(bench.auth.authenticate(&owner.token).await, Err(AuthError::BadToken));
    bench.log_in().await;
    bench.stop().await;
}

#[tokio::test]
async fn a18_a_changed_role_counts_here_at_once() {
    let bench = Bench::start().await;
    let ((_, by), owner) = (bench.root().await, bench.owner().await);
    for (change, role) in [(PROMOTE, Role::Admin), (DEMOTE, Role::User)] {
        assert_eq!(bench.auth.change_user(&by, owner.principal.user, change).await.unwrap().role, role);
        assert_eq!(bench.auth.authenticate(&owner.token).await.unwrap().role, role);
    }
    bench.stop().await;
}

#[tokio::test]
async fn a18_the_last_administrator_stays_one() {
    let bench = Bench::start().await;
    let (root, by) = bench.root().await;
    for change in [DISABLE, DEMOTE] {
        let refused = bench.auth.change_user(&by, root.id, change.clone()).await;
        assert_eq!(refused, Err(AuthError::LastAdministrator), "{change:?}");
    }
    assert_eq!(bench.auth.delete_user(&by, root.id).await, Err(AuthError::LastAdministrator));
    assert_eq!(bench.auth.user(root.id).await.unwrap(), root);

    bench.auth.create_account("second@example.org", secret(PASSWORD), Role::Admin).await.unwrap();
    assert_eq!(bench.auth.change_user(&by, root.id, DEMOTE).await.unwrap().role, Role::User);
    bench.stop().await;
}

#[tokio::test]
async fn a_deleted_account_is_out_at_once_gone_and_its_address_is_free() {
    let bench = Bench::start().await;
    let ((_, by), owner) = (bench.root().await, bench.owner().await);
    let user = owner.principal.user;
    bench.auth.delete_user(&by, user).await.unwrap();
    assert_eq!(bench.auth.authenticate(&owner.token).await, Err(AuthError::BadToken));
    let missing = AuthError::NotFound("account");
    assert_eq!(bench.auth.user(user).await, Err(missing.clone()));
    assert_eq!(bench.auth.delete_user(&by, user).await, Err(missing.clone()));
    assert_eq!(bench.auth.change_user(&by, user, DISABLE).await, Err(missing));
    let found = bench.auth.users(UserSearch { limit: 10, ..UserSearch::default() }).await.unwrap();
    assert!(found.items.iter().all(|found| found.id != user));
    bench.sign_up().await;
    bench.stop().await;
}

#[tokio::test]
async fn a12_an_administrator_sees_and_ends_the_sessions_of_others() {
    let bench = Bench::start().await;
    let ((_, by), owner) = (bench.root().await, bench.owner().await);
    let user = owner.principal.user;
    assert_eq!(bench.auth.user_sessions(user).await.unwrap()[0].id, owner.session());
    bench.auth.end_user_sessions(&by, user).await.unwrap();
    assert_eq!(bench.auth.authenticate(&owner.token).await, Err(AuthError::BadToken));
    assert_eq!(bench.auth.user_sessions(user).await.unwrap(), []);

    let missing = AuthError::NotFound("account");
    assert_eq!(bench.auth.user_sessions(fresh_id()).await, Err(missing.clone()));
    assert_eq!(bench.auth.end_user_sessions(&by, fresh_id()).await, Err(missing));
    bench.stop().await;
}

#[tokio::test]
async fn accounts_are_found_by_a_part_of_their_address() {
    let bench = Bench::start().await;
    let (root, _) = bench.root().await;
    bench.sign_up().await;
    let search = |text: &str| UserSearch { text: Some(text.to_owned()), before: None, limit: 10 };
    assert_eq!(bench.auth.users(search("root@")).await.unwrap().items, [root]);
    assert_eq!(bench.auth.users(search("%")).await.unwrap().items, [], "taken literally");
    assert_eq!(bench.auth.users(search("example")).await.unwrap().items.len(), 2);
    bench.stop().await;
}
