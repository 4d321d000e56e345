//! G6: what the log says of a sign-in, and what it never says.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::bench::{Bench, EMAIL, PASSWORD, secret};
use crate::auth::Origin;

/// Writes down every event of this thread, all fields of it.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Diary {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn g6_each_sign_in_is_one_line_without_secrets_and_addresses() {
    let diary = Diary::default();
    let bench = Bench::start().await;
    let origin = || Origin { address: Some([192, 0, 2, 7].into()), request_id: Some("request-1".to_owned()) };
    // With only one subscriber, tracing asks the thread that happens to come first by whether a line is wanted, and a
    // test without one would answer for all. With two it asks both of them.
    let _second = tracing::Dispatch::new(Diary::default());
    let guard = tracing::subscriber::set_default(diary.clone());
    let user = bench.auth.sign_up(EMAIL, secret(PASSWORD), origin()).await.unwrap();
    let tokens = bench.auth.log_in(EMAIL, secret(PASSWORD), origin()).await.unwrap();
    bench.auth.log_in(EMAIL, secret("a wrong canary"), origin()).await.unwrap_err();
    bench.auth.log_in("eve@example.org", secret("a wrong canary"), origin()).await.unwrap_err();
    let next = bench.auth.refresh(&tokens.refresh_token, origin()).await.unwrap();
    bench.auth.authenticate(next.access_token.reveal()).await.unwrap();
    bench.wait_by_the_wall(11);
    bench.auth.refresh(&tokens.refresh_token, origin()).await.unwrap_err();
    drop(guard);

    let lines = diary.0.lock().clone();
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("request-1")).collect();
    let user = user.id.to_string();
    let expected = [
        ("user_created", "success", true),
        ("authn_login_success", "success", true),
        ("authn_login_fail", "refused", false),
        ("authn_login_fail", "refused", false),
        ("authn_token_refresh", "success", true),
        ("authn_token_reuse", "reuse", true),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (event, outcome, names_user)) in lines.iter().zip(expected) {
        assert!(line.contains(&format!("event=\"{event}\"")), "{line}");
        assert!(line.contains(&format!("outcome=\"{outcome}\"")), "{line}");
        assert!(line.contains("ip=192.0.2.7"), "{line}");
        assert_eq!(line.contains(&user), names_user, "{line}");
        assert_eq!(line.contains("account_tag="), !names_user, "{line}");
    }
    let tag = |line: &str| line.split("account_tag=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert_ne!(tag(lines[2]), tag(lines[3]), "two accounts");

    let everything = diary.0.lock().join("\n");
    for canary in ["ada@", "eve@", PASSWORD, "canary", "dsr_", "eyJ", "$argon2"] {
        assert!(!everything.contains(canary), "{canary} was logged");
    }
    bench.stop().await;
}
