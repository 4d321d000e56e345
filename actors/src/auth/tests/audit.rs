//! A19: every event is one entry and one line of the log, and neither says what it must not.

use std::{pin::Pin, task::Poll, time::Duration};

use domain::{
    account::UserChange,
    api_key::KeyChange,
    audit::{AuditEntry, AuditEvent, AuditFilter},
    limits::LimitsChange,
    principal::Role,
};
use futures_util::poll;
use tokio::task::yield_now;

use super::{
    api_keys::request,
    bench::{Bench, EMAIL, PASSWORD, pass, secret},
    log::Diary,
    throttle::from,
};
use crate::{
    auth::{Administrator, AuthError, InviteRequest, LogOut, Origin},
    clock::fresh_id,
};

impl Bench {
    /// The entries, newest first, once there are so many; those about refusals are written soon, not at once.
    pub(super) async fn trail(&self, filter: AuditFilter, entries: usize) -> Vec<AuditEntry> {
        loop {
            let page = self.auth.audit_trail(filter.clone(), None, 100).await.unwrap();
            if page.items.len() >= entries {
                assert_eq!(page.items.len(), entries, "{:#?}", page.items);
                return page.items;
            }
            yield_now().await;
        }
    }
}

#[tokio::test]
async fn a19_each_event_is_one_entry_and_one_line_that_says_the_same() {
    let diary = Diary::default();
    let bench = Bench::start().await;
    let origin = || Origin { request_id: Some("request-1".to_owned()), ..from([192, 0, 2, 7]) };
    let root = bench.auth.create_account("root@example.org", secret(PASSWORD), Role::Admin).await.unwrap();
    let by = Administrator { user: Some(root.id), is_by_key: false, origin: origin() };
    let hears = diary.listen();
    let auth = &bench.auth;
    let wanted = InviteRequest { role: Role::User, note: Some("for ada@".to_owned()), expires_at: None };
    let (invite, code) = auth.create_invite(&by, wanted.clone()).await.unwrap();
    let ada = auth.sign_up(EMAIL, secret(PASSWORD), Some(code), origin()).await.unwrap();
    auth.log_in(EMAIL, secret("a wrong canary"), origin()).await.unwrap_err();
    auth.log_in("eve@example.org", secret("a wrong canary"), origin()).await.unwrap_err();
    let tokens = auth.log_in(EMAIL, secret(PASSWORD), origin()).await.unwrap();
    let caller = auth.authenticate(tokens.access_token.reveal()).await.unwrap();
    let change = |current, new| auth.change_password(&caller, secret(current), secret(new), false, origin());
    let (key, _) = auth.create_key(&caller, request(), origin()).await.unwrap();
    change("a wrong canary", "another canary").await.unwrap_err();
    change(PASSWORD, "another canary").await.unwrap();
    auth.log_out(&caller, LogOut::Global, origin()).await.unwrap();
    auth.log_out(&caller, LogOut::Global, origin()).await.unwrap();
    let changes = UserChange { role: Some(Role::Admin), disabled: Some(true), ..UserChange::NONE };
    for _ in 0..2 {
        auth.change_user(&by, ada.id, changes.clone()).await.unwrap();
    }
    let limits = LimitsChange { streams: Some(Some(2)), ..LimitsChange::NONE };
    for _ in 0..2 {
        auth.change_user(&by, ada.id, UserChange { limits, ..UserChange::NONE }).await.unwrap();
        auth.change_key(&by, key.id, KeyChange { limits, ..KeyChange::NONE }).await.unwrap();
    }
    let (second, _) = auth.create_invite(&by, wanted).await.unwrap();
    auth.revoke_invite(&by, second.id).await.unwrap();
    auth.delete_user(&by, ada.id).await.unwrap();
    drop(hears);

    let limited = "streams none to 2".to_owned();
    let session = |entry: &AuditEntry| entry.detail.clone().unwrap_or_default();
    let since = AuditFilter { address: Some([192, 0, 2, 7].into()), ..AuditFilter::default() };
    let expected = [
        (AuditEvent::InviteCreated, Some(root.id), None, Some(format!("{} as user", invite.id))),
        (
            AuditEvent::UserCreated,
            Some(ada.id),
            Some(ada.id),
            Some(format!("by invite {} as user", invite.id)),
        ),
        (AuditEvent::AuthnLoginFail, None, Some(ada.id), None),
        (AuditEvent::AuthnLoginFail, None, None, None),
        (AuditEvent::AuthnLoginSuccess, Some(ada.id), Some(ada.id), None),
        (AuditEvent::AuthnTokenCreated, Some(ada.id), Some(ada.id), Some(key.id.to_string())),
        (AuditEvent::AuthnPasswordChangeFail, Some(ada.id), Some(ada.id), None),
        (AuditEvent::AuthnPasswordChange, Some(ada.id), Some(ada.id), None),
        (AuditEvent::SessionEnded, Some(ada.id), Some(ada.id), Some("all".to_owned())),
        (AuditEvent::PrivilegePermissionsChanged, Some(root.id), Some(ada.id), Some("admin".to_owned())),
        (AuditEvent::UserUpdated, Some(root.id), Some(ada.id), Some("disabled".to_owned())),
        (AuditEvent::PrivilegePermissionsChanged, Some(root.id), Some(ada.id), Some(limited.clone())),
        (
            AuditEvent::PrivilegePermissionsChanged,
            Some(root.id),
            Some(ada.id),
            Some(format!("{}: {limited}", key.id)),
        ),
        (AuditEvent::InviteCreated, Some(root.id), None, Some(format!("{} as user", second.id))),
        (AuditEvent::InviteRevoked, Some(root.id), None, Some(second.id.to_string())),
        (AuditEvent::UserDeleted, Some(root.id), Some(ada.id), None),
    ];
    let mut trail = bench.trail(since, expected.len()).await;
    trail.sort_by_key(|entry| entry.id);
    let lines = diary.lines("request-1");
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for ((entry, line), (event, actor, user, detail)) in trail.iter().zip(&lines).zip(expected) {
        assert_eq!((entry.event, entry.actor, entry.user), (event, actor, user), "{entry:?}");
        assert_eq!(entry.detail, detail, "{}", session(entry));
        assert_eq!(entry.request_id.as_deref(), Some("request-1"));
        assert!(line.contains(&format!("event=\"{}\"", event.as_str())), "{line}");
        assert!(line.contains(&format!("outcome=\"{}\"", event.outcome())), "{line}");
        let names = |name: &str, value: Option<String>| match value {
            Some(value) => line.contains(&format!("{name}={value}")),
            None => !line.contains(&format!("{name}=")),
        };
        assert!(names("actor_id", actor.map(|id| id.to_string())), "{line}");
        assert!(names("user_id", user.map(|id| id.to_string())), "{line}");
        assert!(names("detail", entry.detail.as_ref().map(|detail| format!("{detail:?}"))), "{line}");
    }
    let everything = format!("{trail:?} {lines:?}");
    for canary in ["ada@", "eve@", "root@", PASSWORD, "canary", "dsi_", "dsr_", "eyJ", "$argon2"] {
        assert!(!everything.contains(canary), "{canary} was told");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a19_refusals_are_told_once_a_minute_for_each_kind_and_culprit() {
    let bench = Bench::start().await;
    let (ada, eve) = (fresh_id(), fresh_id());
    let of = |event| AuditFilter { event: Some(event), ..AuditFilter::default() };
    let told = |entries| bench.trail(of(AuditEvent::AuthzFail), entries);
    for _ in 0..100 {
        for event in [AuditEvent::AuthzFail, AuditEvent::ExcessRateLimitExceeded] {
            for (user, address) in [
                (Some(ada), [10, 0, 0, 1]),
                (Some(eve), [10, 0, 0, 1]),
                (None, [10, 0, 0, 1]),
                (None, [10, 0, 1, 1]),
            ] {
                bench.auth.report_refusal(event, user, "a test", &from(address));
            }
        }
    }
    bench.trail(of(AuditEvent::ExcessRateLimitExceeded), 4).await;
    let first = told(4).await;
    assert!(first.iter().all(|entry| entry.detail.as_deref() == Some("a test") && entry.actor == entry.user));
    bench.auth.report_refusal(AuditEvent::AuthzFail, None, "a test", &from([10, 0, 0, 99]));
    told(4).await;
    pass(Duration::from_secs(60)).await;
    bench.auth.report_refusal(AuditEvent::AuthzFail, None, "a test", &from([10, 0, 0, 99]));
    told(5).await;
    bench.stop().await;
}

type Change<'a> = Pin<Box<dyn Future<Output = Result<(), AuthError>> + 'a>>;

/// Begins a change and leaves as soon as it has handed over what remains. It spawns that while it is polled itself; hashes
/// are spawned by those who make them.
async fn leave(bench: &Bench, mut change: Change<'_>) {
    let tracker = &bench.context.tracker;
    loop {
        while !tracker.is_empty() {
            yield_now().await;
        }
        if let Poll::Ready(outcome) = poll!(change.as_mut()) {
            panic!("nothing was left to the room: {outcome:?}");
        }
        if !tracker.is_empty() {
            return;
        }
        yield_now().await;
    }
}

#[tokio::test]
async fn a19_a_caller_that_leaves_leaves_no_change_untold() {
    let diary = Diary::default();
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (user, caller, auth) = (owner.principal.user, &owner.principal, &bench.auth);
    let origin = || Origin { request_id: Some("request-1".to_owned()), ..Origin::default() };
    let by = Administrator { user: Some(user), is_by_key: false, origin: origin() };
    let wanted = InviteRequest { role: Role::User, note: None, expires_at: None };
    let (invite, _) = auth.create_invite(&Administrator::default(), wanted.clone()).await.unwrap();
    let (key, _) = bench.key(&owner).await;
    let (other, _) = bench.key(&owner).await;
    let promoted = UserChange { role: Some(Role::Admin), ..UserChange::NONE };
    let eve = || secret("a third canary");
    let hears = diary.listen();
    let changes: Vec<Change<'_>> = vec![
        Box::pin(async { auth.sign_up("eve@example.org", eve(), None, origin()).await.map(drop) }),
        Box::pin(async { auth.log_in(EMAIL, secret(PASSWORD), origin()).await.map(drop) }),
        Box::pin(async { auth.create_key(caller, request(), origin()).await.map(drop) }),
        Box::pin(async { auth.revoke_key(caller, key.id, origin()).await }),
        Box::pin(async { auth.revoke_any_key(&by, other.id).await }),
        Box::pin(async { auth.create_invite(&by, wanted).await.map(drop) }),
        Box::pin(async { auth.revoke_invite(&by, invite.id).await }),
        Box::pin(async { auth.rotate_signing_key(&by, None).await.map(drop) }),
        Box::pin(async { auth.change_user(&by, user, promoted).await.map(drop) }),
        Box::pin(async {
            let new = secret("another canary");
            auth.change_password(caller, secret(PASSWORD), new, true, origin()).await.map(drop)
        }),
        Box::pin(async { auth.log_out(caller, LogOut::Local, origin()).await }),
        Box::pin(async { auth.reset_password(&by, EMAIL, secret("a fourth canary")).await.map(drop) }),
        Box::pin(async { auth.end_user_sessions(&by, user).await }),
    ];
    let mut told = changes.len();
    for change in changes {
        leave(&bench, change).await;
        bench.settle().await;
    }
    // The reset left no session to end.
    told -= 1;
    auth.create_account("root@example.org", eve(), Role::Admin).await.unwrap();
    leave(&bench, Box::pin(auth.delete_user(&by, user))).await;
    bench.settle().await;
    drop(hears);
    let lines = diary.lines("request-1");
    assert_eq!(lines.len(), told + 1, "{lines:#?}");
    bench.stop().await;
}
