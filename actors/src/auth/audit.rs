//! What is told of who did what (A19): an entry of the audit trail, and one line of the log that says the same.
//!
//! An entry about a change is written in the change's own transaction; its line follows when that is done. A refusal
//! changes nothing and costs whoever earns it nothing, so refusals that come in floods are told once a minute for each
//! kind and culprit, and those of strangers no faster than [`STRANGERS`].

use std::{net::IpAddr, sync::Arc, time::Duration};

use domain::{
    audit::{AuditEntry, AuditEvent},
    email::EmailAddress,
    id::UserId,
    quota::{Bucket, Micros, Quota},
    session::Network,
};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use super::{AuthError, AuthHandle, Origin, Room, cache::Cache};
use crate::{clock::fresh_id, db::DbError, rate_limit::AccountTag};

/// How long a culprit's refusals of one kind count as told.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Culprits remembered at a time, some 80 bytes each; those beyond push out others, who are then told of again.
const REMEMBERED: usize = 8_192;

/// How many refusals of strangers are told, whoever they are: networks cost an attacker nothing, while an entry stays for
/// ever. A million a day at most, and those beyond are counted.
const STRANGERS: Quota = Quota { permits: 10, period: Duration::from_secs(1), burst: 200 };

/// Whose refusals are told together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Culprit {
    User(UserId),
    /// Tries at one account, whoever makes them.
    Account(AccountTag),
    Network(Network),
    /// Somebody without an address, as at the command line.
    Nobody,
}

impl Culprit {
    fn of(user: Option<UserId>, origin: &Origin) -> Self {
        match (user, origin.address) {
            (Some(user), _) => Self::User(user),
            (None, Some(address)) => Self::Network(Network::of(address)),
            (None, None) => Self::Nobody,
        }
    }
}

/// The refusals told within the last minute.
pub(super) struct ToldLately {
    told: Cache<(AuditEvent, Culprit), Instant>,
    strangers: Mutex<Bucket>,
    start: Instant,
    untold: Counter,
}

impl ToldLately {
    pub(super) fn new(untold: Counter) -> Self {
        let strangers = Mutex::new(Bucket::default());
        Self { told: Cache::new(REMEMBERED), strangers, start: Instant::now(), untold }
    }

    /// Whether this is to be told; only the first who asks within [`TELL_EVERY`] hears yes, and of strangers no more than
    /// [`STRANGERS`].
    pub(super) fn is_news(&self, event: AuditEvent, culprit: Culprit) -> bool {
        let now = Instant::now();
        let mut is_news = true;
        self.told.insert_unless((event, culprit), now, |told| {
            is_news = now.duration_since(*told) >= TELL_EVERY;
            !is_news
        });
        is_news && (matches!(culprit, Culprit::User(_)) || self.may_tell_of_a_stranger(now))
    }

    fn may_tell_of_a_stranger(&self, now: Instant) -> bool {
        let micros = now.duration_since(self.start).as_micros();
        let now = Micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let allowed = STRANGERS.take(&mut self.strangers.lock(), now, 1).allowed;
        if !allowed {
            self.untold.inc();
        }
        allowed
    }
}

/// One line of the log. Of an e-mail address it holds only the keyed tag.
#[derive(Default)]
pub(super) struct Line<'a> {
    pub(super) event: &'a str,
    pub(super) outcome: &'a str,
    pub(super) user: Option<UserId>,
    pub(super) actor: Option<UserId>,
    pub(super) account_tag: Option<String>,
    pub(super) detail: Option<&'a str>,
    pub(super) address: Option<IpAddr>,
    pub(super) request_id: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// What an entry of the audit trail says.
    pub(super) fn of(entry: &'a AuditEntry) -> Self {
        Self {
            event: entry.event.as_str(),
            outcome: entry.event.outcome(),
            user: entry.user,
            actor: entry.actor,
            account_tag: None,
            detail: entry.detail.as_deref(),
            address: entry.address,
            request_id: entry.request_id.as_deref(),
        }
    }

    /// Something that is not for the audit trail.
    pub(super) fn from(origin: &'a Origin) -> Self {
        Self { address: origin.address, request_id: origin.request_id.as_deref(), ..Self::default() }
    }

    pub(super) fn write(self) {
        tracing::info!(
            event = self.event,
            outcome = self.outcome,
            user_id = self.user.map(tracing::field::display),
            actor_id = self.actor.map(tracing::field::display),
            account_tag = self.account_tag,
            detail = self.detail,
            ip = self.address.map(tracing::field::display),
            request_id = self.request_id,
            "auth"
        );
    }
}

impl AuthHandle {
    /// Tells of a refusal that the front end decided (a right or a limit that is missing), once a minute for each user, or
    /// network of somebody unknown. Waits for nothing.
    pub fn report_refusal(
        &self,
        event: AuditEvent,
        user: Option<UserId>,
        detail: &'static str,
        origin: &Origin,
    ) {
        if self.0.told.is_news(event, Culprit::of(user, origin)) {
            let entry = self.0.entry(event, origin);
            self.0.note(AuditEntry { actor: user, user, detail: Some(detail.to_owned()), ..entry }, None);
        }
    }
}

impl Room {
    /// An entry about nobody yet.
    pub(super) fn entry(&self, event: AuditEvent, origin: &Origin) -> AuditEntry {
        AuditEntry {
            id: fresh_id(),
            event,
            actor: None,
            user: None,
            detail: None,
            address: origin.address,
            request_id: origin.request_id.clone(),
            at: self.clock.now(),
        }
    }

    /// Makes a change that carries its entry, lets it be known here, and logs the entry: all that even if the caller
    /// leaves.
    pub(super) async fn recorded<T, F>(
        self: &Arc<Self>,
        entry: AuditEntry,
        change: impl FnOnce(Arc<Self>, AuditEntry) -> F,
    ) -> Result<Result<T, DbError>, AuthError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbError>> + Send + 'static,
    {
        let change = change(Arc::clone(self), entry.clone());
        self.to_the_end(async move {
            let done = change.await?;
            Line::of(&entry).write();
            Ok(done)
        })
        .await
    }

    /// Tells of something that changed nothing; `email` stands in where the entry names no account.
    pub(super) fn note(&self, entry: AuditEntry, email: Option<&EmailAddress>) {
        let account_tag = email.filter(|_| entry.user.is_none()).map(|email| self.keys.account_tag(email));
        Line { account_tag, ..Line::of(&entry) }.write();
        self.db.note(entry);
    }
}
