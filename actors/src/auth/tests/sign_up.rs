//! Who may make an account, and with which role (A5, A18).

use chrono::TimeDelta;
use domain::{account::User, password::WeakPassword, principal::Role, secret::Secret};

use super::bench::{Bench, PASSWORD, secret};
use crate::auth::{Administrator, AuthConfig, AuthError, InviteRequest, Origin, SignUp};

fn mode(sign_up: SignUp) -> impl FnOnce(&mut AuthConfig) {
    move |config| config.sign_up = sign_up
}

impl Bench {
    async fn sign_up_as(&self, email: &str, invite: Option<&Secret<String>>) -> Result<User, AuthError> {
        self.auth.sign_up(email, secret(PASSWORD), invite.cloned(), Origin::default()).await
    }

    async fn invite(&self, role: Role, days: Option<i64>) -> Secret<String> {
        let expires_at = days.map(|days| self.context.clock.now() + TimeDelta::days(days));
        let wanted = InviteRequest { role, note: None, expires_at };
        self.auth.create_invite(&Administrator::default(), wanted).await.unwrap().1
    }
}

#[tokio::test]
async fn a05_an_invite_makes_one_account_of_its_role_and_a_taken_address_does_not_spend_it() {
    let bench = Bench::start_with(mode(SignUp::Invite)).await;
    assert_eq!(bench.sign_up_as("ada@example.org", None).await, Err(AuthError::NeedsInvite));
    let (user, admin) = (bench.invite(Role::User, None).await, bench.invite(Role::Admin, Some(1)).await);
    let ada = bench.sign_up_as("ada@example.org", Some(&user)).await.unwrap();
    assert_eq!(ada.role, Role::User);
    assert_eq!(bench.sign_up_as("ada@example.org", Some(&admin)).await, Err(AuthError::EmailTaken));
    let root = bench.sign_up_as("root@example.org", Some(&admin)).await.unwrap();
    assert_eq!(root.role, Role::Admin);
    assert_eq!(bench.auth.user(root.id).await.unwrap(), root, "what was said is what is stored");
    bench.stop().await;
}

#[tokio::test]
async fn a05_whatever_is_wrong_with_an_invite_is_one_answer() {
    for sign_up in [SignUp::Open, SignUp::Invite] {
        let bench = Bench::start_with(mode(sign_up)).await;
        let (spent, late, revoked) = (
            bench.invite(Role::User, None).await,
            bench.invite(Role::User, Some(1)).await,
            bench.invite(Role::User, None).await,
        );
        let newest = bench.auth.invites(None, 1).await.unwrap().items.remove(0);
        bench.auth.revoke_invite(&Administrator::default(), newest.id).await.unwrap();
        let again = bench.auth.revoke_invite(&Administrator::default(), newest.id).await;
        assert_eq!(again, Err(AuthError::NotFound("invite")));
        bench.sign_up_as("ada@example.org", Some(&spent)).await.unwrap();
        bench.wait_by_the_wall(86_400);
        let nonsense = ["", "dsi_", "dsi_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1", PASSWORD]
            .map(|text| Secret::new(text.to_owned()));
        for code in [spent, late, revoked].iter().chain(&nonsense) {
            let refused = bench.sign_up_as("eve@example.org", Some(code)).await;
            assert_eq!(refused, Err(AuthError::NeedsInvite), "{sign_up:?}");
        }
        bench.stop().await;
    }
}

#[tokio::test]
async fn a05_open_sign_up_honours_the_role_of_an_invite() {
    let bench = Bench::start().await;
    let code = bench.invite(Role::Admin, None).await;
    assert_eq!(bench.sign_up_as("root@example.org", Some(&code)).await.unwrap().role, Role::Admin);
    assert_eq!(bench.sign_up_as("ada@example.org", None).await.unwrap().role, Role::User);
    bench.stop().await;
}

#[tokio::test]
async fn a18_the_first_administrators_code_opens_even_a_closed_service_once() {
    let bench = Bench::start_with(mode(SignUp::Closed)).await;
    let code = bench.auth.first_admin_code().await.unwrap().expect("there is no administrator");
    assert_eq!(bench.auth.first_admin_code().await.unwrap(), Some(code.clone()), "the same at every start");
    let invite = bench.invite(Role::Admin, None).await;
    for other in [None, Some(&invite), Some(&Secret::new("dsi_".to_owned()))] {
        let refused = bench.sign_up_as("eve@example.org", other).await;
        assert_eq!(refused, Err(AuthError::SignUpClosed));
    }
    let root = bench.sign_up_as("root@example.org", Some(&code)).await.unwrap();
    assert_eq!(root.role, Role::Admin);
    assert_eq!(bench.auth.first_admin_code().await.unwrap(), None);
    let again = bench.sign_up_as("eve@example.org", Some(&code)).await;
    assert_eq!(again, Err(AuthError::SignUpClosed));
    bench.stop().await;
}

#[tokio::test]
async fn a18_an_administrator_made_at_the_command_line_makes_the_first_code_worthless() {
    let bench = Bench::start().await;
    let code = bench.auth.first_admin_code().await.unwrap().unwrap();
    bench.auth.create_account("root@example.org", secret(PASSWORD), Role::Admin).await.unwrap();
    assert_eq!(bench.auth.first_admin_code().await.unwrap(), None);
    let refused = bench.sign_up_as("eve@example.org", Some(&code)).await;
    assert_eq!(refused, Err(AuthError::NeedsInvite));
    bench.stop().await;
}

#[tokio::test]
async fn invites_are_listed_without_their_codes_and_refused_when_they_make_no_sense() {
    let bench = Bench::start().await;
    bench.auth.first_admin_code().await.unwrap();
    let wanted = |note: &str, days| InviteRequest {
        role: Role::User,
        note: Some(note.to_owned()),
        expires_at: Some(bench.context.clock.now() + TimeDelta::days(days)),
    };
    let by = Administrator::default();
    let (invite, code) = bench.auth.create_invite(&by, wanted("for Eve", 7)).await.unwrap();
    let listed = bench.auth.invites(None, 10).await.unwrap().items;
    assert_eq!(listed, [invite]);
    assert!(!format!("{listed:?}").contains(code.reveal()));
    for (note, days, at) in
        [(&*"x".repeat(201), 7, "note"), ("two\nlines", 7, "note"), ("late", 0, "expires_at")]
    {
        match bench.auth.create_invite(&by, wanted(note, days)).await {
            Err(AuthError::BadRequest { field, .. }) => assert_eq!(field, at),
            other => panic!("{other:?}"),
        }
    }
    bench.stop().await;
}

#[tokio::test]
async fn a01_the_configured_length_is_asked_for_and_told() {
    let bench = Bench::start_with(|config| config.password_min_chars = 17).await;
    let refused = bench.sign_up_as("ada@example.org", None).await.unwrap_err();
    assert_eq!(refused, AuthError::WeakPassword(WeakPassword::TooShort { least: 17 }));
    bench.stop().await;
}
