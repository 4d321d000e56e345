//! Secrets must show up nowhere but in the hands of their owners (F4).
//!
//! Searched for what the tests keep secret, and for whatever looks like a token of ours: every line and span of the
//! whole process down to `debug`, every refusal, and at the end of each test the metrics page and the tables.

use std::{
    fmt,
    sync::{Arc, LazyLock, Once},
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use super::{PASSWORD, SECRET};

/// Ends the last word of what the tests ask the models, and is nobody's business but the asker's and the model's.
pub(crate) const PROMPT: &str = "~between-us:the-gull-saw-it-all";

/// The key of a model server that is somebody else's.
pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-7Qm2xV9";

/// What stands for itself.
const WORDS: [(&str, &str); 4] = [
    (PASSWORD, "a password"),
    (SECRET, "the master secret"),
    (PROMPT, "a prompt"),
    (UPSTREAM_KEY, "a model server's key"),
];

/// What tokens begin with. What is shown to recognise a token by is shorter than [`TOKEN_CHARS`].
const TOKENS: [(&str, &str); 3] =
    [("dsr_", "a refresh token"), ("dsk_", "an API key"), ("dsi_", "an invite code")];
const TOKEN_CHARS: usize = 20;

/// What a part of an access token is not shorter than.
const PART_CHARS: usize = 16;

/// What `text` gives away.
pub(crate) fn found_in(text: &str) -> Option<&'static str> {
    let word = WORDS.iter().find(|(word, _)| text.contains(word));
    let token = || TOKENS.iter().find(|(prefix, _)| from(text, prefix).any(|from| run(from) >= TOKEN_CHARS));
    let access_token = || from(text, "eyJ").any(is_access_token).then_some("an access token");
    word.or_else(token).map(|(_, name)| *name).or_else(access_token)
}

/// The ends of `text` that begin with `prefix`.
fn from<'t>(text: &'t str, prefix: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(prefix).map(|(at, _)| &text[at..])
}

/// Whether it begins with an access token.
fn is_access_token(text: &str) -> bool {
    let mut parts = text.split('.').map(run);
    (0..3).all(|_| parts.next().is_some_and(|length| length >= PART_CHARS))
}

/// How many characters of base64url `text` begins with.
fn run(text: &str) -> usize {
    let is_ours = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.bytes().take_while(is_ours).count()
}

/// Fails the test when `text`, which is found at `place`, gives anything away; the text itself is not shown.
pub(crate) fn assert_none(place: impl fmt::Display, text: &str) {
    if let Some(secret) = found_in(text) {
        panic!("{place} gives away {secret}");
    }
}

/// Where secrets were logged.
#[derive(Clone, Default)]
pub(crate) struct Scan(Arc<Mutex<Vec<String>>>);

/// Listens to every thread that has no subscriber of its own, which adds it to its own.
static EVERYWHERE: LazyLock<Scan> = LazyLock::new(Scan::default);

/// The scan of the whole process, which goes on from the first call.
///
/// A callsite that is met first by a thread without any subscriber may be dead for all others, so there must always be one.
pub(crate) fn everywhere() -> Scan {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing::subscriber::set_global_default(Everywhere(EVERYWHERE.clone())).unwrap();
    });
    EVERYWHERE.clone()
}

impl Scan {
    /// Fails the test when any test of this process had a secret logged.
    pub(crate) fn assert_nothing_logged(&self) {
        let places = self.0.lock().clone();
        assert!(places.is_empty(), "logged: {places:#?}");
    }

    fn look(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut dyn Visit)) {
        record(&mut Look { scan: self, metadata });
    }
}

/// Keeps no spans: a registry that ends a span on another thread ends its parent at whatever that thread listens to, and
/// a second registry would panic at an id that it never gave.
struct Everywhere(Scan);

impl Subscriber for Everywhere {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.0.look(attributes.metadata(), |visit| attributes.record(visit));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.look(event.metadata(), |visit| event.record(visit));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl<S: Subscriber> Layer<S> for Scan {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.look(attributes.metadata(), |visit| attributes.record(visit));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.look(event.metadata(), |visit| event.record(visit));
    }
}

struct Look<'a> {
    scan: &'a Scan,
    metadata: &'a Metadata<'a>,
}

impl Visit for Look<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let Some(secret) = found_in(value) else { return };
        let (target, line) = (self.metadata.target(), self.metadata.line().unwrap_or_default());
        self.scan.0.lock().push(format!("{secret} as {field} of {target}:{line}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [(&str, &str); 4] = [
        ("dsr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "a refresh token"),
        ("dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1", "an API key"),
        ("dsi_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1", "an invite code"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMTIzNDU2Nzg5In0.c2lnbmF0dXJlLXNpZ25hdHVyZQ", "an access token"),
    ];

    #[test]
    fn f04_every_secret_is_found_wherever_it_stands() {
        for (secret, name) in WORDS.into_iter().chain(TOKENS) {
            for text in
                [secret.to_owned(), format!("Bearer {secret}."), format!("dsk_ eyJ{{\"x\":\"{secret}\"}}")]
            {
                assert_eq!(found_in(&text), Some(name), "{name} in {} bytes", text.len());
            }
        }
    }

    #[test]
    fn f04_what_people_recognise_a_secret_by_is_none() {
        for text in ["dsk_flDIBkGw", "dsk_…", "eyJhbGciOiJIUzI1NiJ9", "eyJ.eyJ.eyJ", "seven quiet birds"] {
            assert_eq!(found_in(text), None, "{text}");
        }
    }

    #[test]
    fn f04_the_scan_finds_a_secret_in_a_line_and_in_a_span_and_does_not_repeat_it() {
        let scan = Scan::default();
        let subscriber = tracing_subscriber::registry().with(scan.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(text = "harmless", "nothing to see");
            scan.assert_nothing_logged();
            tracing::debug!(token = ?Some(TOKENS[1].0), "a field");
            tracing::warn!("a message with {PASSWORD}");
            let _span = tracing::info_span!("a span", secret = SECRET).entered();
        });
        let places = scan.0.lock().join("\n");
        for (nth, wanted) in
            ["an API key as token of", "a password as message of", "the master secret as secret"]
                .into_iter()
                .enumerate()
        {
            assert!(places.lines().nth(nth).is_some_and(|line| line.contains(wanted)), "{wanted}");
        }
        assert_eq!(found_in(&places), None);
    }
}
