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
pub(super) struct Diary(pub(super) Arc<Mutex<Vec<String>>>);

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

/// Listens to this thread while it lives.
pub(super) struct Listening {
    _guard: tracing::subscriber::DefaultGuard,
    _second: tracing::Dispatch,
}

impl Diary {
    pub(super) fn listen(&self) -> Listening {
        // With only one subscriber, tracing asks the thread that happens to come first by whether a line is wanted, and
        // a test without one would answer for all. With two it asks both of them.
        let _second = tracing::Dispatch::new(Self::default());
        Listening { _guard: tracing::subscriber::set_default(self.clone()), _second }
    }

    /// The lines that hold `part`.
    pub(super) fn lines(&self, part: &str) -> Vec<String> {
        self.0.lock().iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

#[tokio::test]
async fn g6_each_sign_in_is_one_line_without_secrets_and_addresses() {
    let diary = Diary::default();
    let bench = Bench::start().await;
    let origin = || Origin {
        address: Some([192, 0, 2, 7].into()),
        request_id: Some("request-1".to_owned()),
        device: None,
    };
    let listening = diary.listen();
    let user = bench.auth.sign_up(EMAIL, secret(PASSWORD), None, origin()).await.unwrap();
    let tokens = bench.auth.log_in(EMAIL, secret(PASSWORD), origin()).await.unwrap();
    bench.auth.log_in(EMAIL, secret("a wrong canary"), origin()).await.unwrap_err();
    bench.auth.log_in("eve@example.org", secret("a wrong canary"), origin()).await.unwrap_err();
    let next = bench.auth.refresh(&tokens.refresh_token, origin()).await.unwrap();
    bench.auth.authenticate(next.access_token.reveal()).await.unwrap();
    bench.wait_by_the_wall(11);
    bench.auth.refresh(&tokens.refresh_token, origin()).await.unwrap_err();
    drop(listening);

    let lines = diary.lines("request-1");
    let user = user.id.to_string();
    let expected = [
        ("user_created", "success", true),
        ("authn_login_success", "success", true),
        ("authn_login_fail", "failure", true),
        ("authn_login_fail", "failure", false),
        ("authn_token_refresh", "success", true),
        ("authn_token_reuse", "failure", true),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (event, outcome, names_user)) in lines.iter().zip(expected) {
        assert!(line.contains(&format!("event=\"{event}\"")), "{line}");
        assert!(line.contains(&format!("outcome=\"{outcome}\"")), "{line}");
        assert!(line.contains("ip=192.0.2.7"), "{line}");
        assert_eq!(line.contains(&user), names_user, "{line}");
        assert_eq!(line.contains("account_tag="), !names_user, "{line}");
    }
    let everything = diary.0.lock().join("\n");
    for canary in ["ada@", "eve@", PASSWORD, "canary", "dsr_", "eyJ", "$argon2"] {
        assert!(!everything.contains(canary), "{canary} was logged");
    }
    bench.stop().await;
}
