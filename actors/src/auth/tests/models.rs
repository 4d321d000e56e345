//! The models that administrators let one account or one key ask.

use std::time::Duration;

use domain::{
    account::UserChange,
    api_key::KeyChange,
    model_access::ModelPatterns,
    principal::{Credential, Principal},
};

use super::bench::{Bench, pass};
use crate::auth::Administrator;

type List = Option<ModelPatterns>;

fn list(text: &str) -> List {
    Some(ModelPatterns::of([text]).unwrap())
}

/// The account's, and the key's if a key was shown.
async fn let_in(bench: &Bench, text: &str) -> (List, Option<List>) {
    let Principal { models, credential, .. } = bench.auth.authenticate(text).await.unwrap();
    match credential {
        Credential::Session(_) => (models, None),
        Credential::Key { models: own, .. } => (models, Some(own)),
    }
}

#[tokio::test]
async fn a13_changed_models_count_here_at_once_and_elsewhere_in_five_seconds() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (key, secret) = bench.key(&owner).await;
    let twin = bench.start_twin().await;
    let by = Administrator::default();
    let expect = async |bench: &Bench, of_account: List, of_key: List| {
        assert_eq!(let_in(bench, &owner.token).await, (of_account.clone(), None));
        assert_eq!(let_in(bench, secret.reveal()).await, (of_account, Some(of_key)));
    };
    let account = async |bench: &Bench, models: List| {
        let change = UserChange { models: Some(models.clone()), ..UserChange::NONE };
        let changed = bench.auth.change_user(&by, owner.principal.user, change).await.unwrap();
        assert_eq!(changed.models, models);
    };
    let of_key = async |bench: &Bench, models: List| {
        let change = KeyChange { models: Some(models.clone()), ..KeyChange::NONE };
        let changed = bench.auth.change_key(&by, key.id, change).await.unwrap();
        assert_eq!((changed.id, changed.models), (key.id, models));
    };
    expect(&bench, None, None).await;
    expect(&twin, None, None).await;

    account(&bench, list("qwen3:*")).await;
    expect(&bench, list("qwen3:*"), None).await;
    of_key(&bench, list("qwen3:8b")).await;
    expect(&bench, list("qwen3:*"), list("qwen3:8b")).await;
    pass(Duration::from_millis(5_001)).await;
    expect(&twin, list("qwen3:*"), list("qwen3:8b")).await;

    // Taken back by the other one.
    account(&twin, None).await;
    of_key(&twin, Some(ModelPatterns::none())).await;
    expect(&twin, None, Some(ModelPatterns::none())).await;
    pass(Duration::from_millis(5_001)).await;
    expect(&bench, None, Some(ModelPatterns::none())).await;
    twin.stop().await;
    bench.stop().await;
}
