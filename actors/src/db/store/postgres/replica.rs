//! A streaming replica, for reads that may be a little behind.
//!
//! ```text
//! each second   primary: my log has come to L     ──▶ mark (now, L)
//!               replica: I have replayed up to R  ──▶ horizon = the newest mark that R has reached
//! a read        horizon younger than 5 s, and nothing of its scope written here since ──▶ replica, else primary
//! ```
//!
//! Everything committed before the horizon is on the replica, whatever the clocks of the machines say. So what a caller
//! wrote through this instance is seen by the caller's next read, and nothing that is shown is older than [`LAG_MAX`]. What
//! was written through another instance may be missing for that long from a list; something that is not found there at all
//! is asked of the primary.
//!
//! # When it breaks
//!
//! A replica that refuses, leaves a look unanswered for [`PATIENCE`], falls behind, is promoted or is another database's is
//! not asked any more until it has answered a look. Its callers get the primary's answer. Without looks the horizon grows
//! old, and the primary answers. A read that takes longer than [`PATIENCE`], or finds no connection free for that long, is
//! asked of the primary and says nothing about the replica: looks have a connection of their own.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use domain::{id::UserId, secret::Secret};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use sqlx::{PgConnection, Postgres};
use tokio::time::{Instant, timeout};

use super::{
    super::{cut::Cut, pool::Pool},
    PostgresStore, connect,
};
use crate::db::{DbError, message::Write, store::OpenError};

/// How far behind a replica may be that is still asked.
const LAG_MAX: Duration = Duration::from_secs(5);
/// How long the replica may take to answer before the primary is asked.
const PATIENCE: Duration = Duration::from_millis(500);
/// Connections of the looks.
const LOOK_CONNECTIONS: usize = 1;
/// Marks kept: one each second, for as long as a horizon may be old.
const MARKS_MAX: usize = 8;
/// Accounts whose last write is remembered; when there are more, everybody is sent to the primary for as long as it takes.
const WRITERS_MAX: usize = 65_536;

/// What a read must find if it was written through this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db::store) enum Scope {
    /// Conversations, messages and turns of one account.
    Of(UserId),
    /// Accounts and invites.
    Accounts,
    /// The audit trail: nobody waits for its entries.
    Trail,
    /// The turns of all accounts together: a sum over all of them is old when it is read.
    Ledger,
}

pub(in crate::db) struct Replica {
    /// For reads.
    pub(super) pool: Pool<Postgres>,
    /// For looks, which must not wait behind the reads that they judge.
    pub(super) looks: Pool<Postgres>,
    view: Mutex<View>,
    written: Mutex<Written>,
    up: Gauge,
}

/// A database of a cluster: the cluster's identifier, and the number that it gave the database. Standbys have both from
/// their primary.
type Identity = (i64, i64);

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// How far the log was replayed; `None` where this is no standby of our primary, or another database of one.
    replayed: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// Nothing was seen yet.
    New,
    Up,
    Behind,
    Stranger,
    Away(String),
}

struct View {
    condition: Condition,
    /// Oldest first.
    marks: VecDeque<(Instant, i64)>,
    /// Everything committed before it is on the replica.
    horizon: Option<Instant>,
}

#[derive(Default)]
struct Written {
    by: HashMap<UserId, Instant>,
    by_anybody: Option<Instant>,
    accounts: Option<Instant>,
}

impl Replica {
    pub(super) fn new(url: &Secret<String>, size: usize) -> Result<Self, OpenError> {
        let options = connect::options(url)?;
        Ok(Self {
            pool: Pool::new("replica", connect::pool(options.clone(), size, PATIENCE), None),
            looks: Pool::new("look", connect::pool(options, LOOK_CONNECTIONS, PATIENCE), None),
            view: Mutex::new(View { condition: Condition::New, marks: VecDeque::new(), horizon: None }),
            written: Mutex::default(),
            up: Gauge::default(),
        })
    }

    /// Whether it is asked at present: 1 or 0.
    pub(in crate::db) fn up(&self) -> Gauge {
        self.up.clone()
    }

    pub(super) async fn close(&self) {
        self.looks.close().await;
        self.pool.close().await;
    }

    /// Remembers what was just committed, before it is acknowledged.
    pub(super) fn written(&self, batch: &[&Write]) {
        self.written.lock().note(batch, Instant::now());
    }

    /// Whether it has all that a read of this scope must find.
    fn covers(&self, scope: Scope) -> bool {
        let now = Instant::now();
        let Some(horizon) = self.view.lock().horizon.filter(|horizon| now - *horizon <= LAG_MAX) else {
            return false;
        };
        self.written.lock().last(scope).is_none_or(|last| last < horizon)
    }

    /// A connection for a read.
    ///
    /// # Errors
    ///
    /// [`DbError::Timeout`] when none came free.
    pub(in crate::db::store) async fn connection(&self) -> Result<Cut<Postgres>, DbError> {
        Cut::acquire(&self.pool).await
    }

    /// What the replica says, unless it fails, takes too long or finds nothing.
    pub(in crate::db::store) async fn answered<T: Answer>(
        &self,
        asked: impl Future<Output = Result<T, DbError>>,
    ) -> Option<T> {
        match timeout(PATIENCE, asked).await.unwrap_or(Err(DbError::Timeout)) {
            Ok(answer) if answer.is_nothing() => None,
            Ok(answer) => Some(answer),
            // The connection broke, or there is nobody to connect to.
            Err(error @ (DbError::Away(_) | DbError::Unavailable(_))) => {
                self.note(Err(error.to_string()));
                None
            }
            // Slow or busy, it may still answer others: that is for a look to say.
            Err(_) => None,
        }
    }

    /// Looks how far it has come.
    pub(super) async fn look(&self, primary: &Pool<Postgres>) {
        let asked = Instant::now();
        // The primary's silence says nothing about the replica: without marks its horizon grows old.
        let Ok(Ok((primary, end))) = timeout(PATIENCE, ask(primary, end_of_log)).await else {
            self.up.set(self.covers(Scope::Trail).into());
            return;
        };
        let replayed = timeout(PATIENCE, ask(&self.looks, replayed)).await.unwrap_or(Err(DbError::Timeout));
        self.view.lock().mark(asked, end);
        self.note(match replayed {
            Ok((found, replayed)) => Ok(Seen { replayed: replayed.filter(|_| found == primary) }),
            Err(error) => Err(error.to_string()),
        });
        self.written.lock().forget(asked);
    }

    fn note(&self, seen: Result<Seen, String>) {
        let (told, is_up) = {
            let mut view = self.view.lock();
            let condition = view.judge(seen, Instant::now());
            let is_up = condition == Condition::Up;
            // What it is away for may be said in other words each time.
            let is_news = std::mem::discriminant(&condition) != std::mem::discriminant(&view.condition);
            view.condition = condition;
            (is_news.then(|| view.condition.clone()), is_up)
        };
        self.up.set(is_up.into());
        match told {
            None | Some(Condition::New) => {}
            Some(Condition::Up) => tracing::info!("the replica answers reads"),
            Some(Condition::Behind) => {
                tracing::warn!(
                    seconds = LAG_MAX.as_secs(),
                    "the replica is too far behind: the primary answers all reads"
                );
            }
            Some(Condition::Stranger) => {
                tracing::warn!(
                    "DATABASE_READ_URL leads to no standby of the primary, or to another database: the primary answers all reads"
                );
            }
            Some(Condition::Away(cause)) => {
                tracing::warn!(cause, "the replica does not answer: the primary answers all reads");
            }
        }
    }
}

impl PostgresStore {
    /// The replica, if it may answer a read of this scope.
    pub(in crate::db::store) fn replica_with(&self, scope: Scope) -> Option<&Replica> {
        self.replica.as_ref().filter(|replica| replica.covers(scope))
    }
}

impl View {
    fn mark(&mut self, at: Instant, end: i64) {
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((at, end));
    }

    fn judge(&mut self, seen: Result<Seen, String>, now: Instant) -> Condition {
        let replayed = match seen {
            Ok(Seen { replayed: Some(replayed) }) => replayed,
            Ok(Seen { replayed: None }) => {
                self.horizon = None;
                return Condition::Stranger;
            }
            Err(cause) => {
                self.horizon = None;
                return Condition::Away(cause);
            }
        };
        let reached = self.marks.iter().take_while(|(_, end)| *end <= replayed).count();
        if let Some((at, _)) = self.marks.drain(..reached).next_back() {
            self.horizon = Some(at);
        }
        match self.horizon {
            Some(horizon) if now - horizon <= LAG_MAX => Condition::Up,
            _ => Condition::Behind,
        }
    }
}

impl Written {
    fn note(&mut self, batch: &[&Write], now: Instant) {
        for write in batch {
            match write {
                Write::BeginTurn(begin) | Write::OpenTurn(begin) => self.note_one(begin.user, now),
                Write::Settle(settlement) | Write::Replay(settlement) => self.note_one(settlement.user, now),
                Write::CreateConversation { owner, .. }
                | Write::UpdateConversation { owner, .. }
                | Write::DeleteConversation { owner, .. } => self.note_one(*owner, now),
                Write::CreateUser(_)
                | Write::CreateInvitedUser { .. }
                | Write::UpdateUser { .. }
                | Write::DeleteUser { .. }
                | Write::CreateInvite { .. }
                | Write::OfferFirstAdmin { .. }
                | Write::RevokeInvite { .. } => self.accounts = Some(now),
                // Nothing of these is read from a replica; or nobody who waits for them made them.
                Write::SetPassword(_)
                | Write::ReplacePasswordHash { .. }
                | Write::StartSession(_)
                | Write::RotateSession(_)
                | Write::EndSessions { .. }
                | Write::Touch(_)
                | Write::CreateApiKey { .. }
                | Write::ChangeApiKey { .. }
                | Write::RevokeApiKey { .. }
                | Write::AddSigningKey { .. }
                | Write::RenewLeases { .. }
                | Write::PurgeSessions { .. }
                | Write::PurgeConversations
                | Write::RetireConversations { .. }
                | Write::IndexMessages(_)
                | Write::IndexTitles(_)
                | Write::TidyIndex
                | Write::SweepDead(_)
                | Write::RequestCancel { .. }
                | Write::ReleaseClaims { .. }
                | Write::Checkpoint(_)
                | Write::Note(_)
                | Write::Probe => {}
            }
        }
    }

    fn note_one(&mut self, user: UserId, now: Instant) {
        if self.by.len() >= WRITERS_MAX && !self.by.contains_key(&user) {
            self.by.clear();
            self.by_anybody = Some(now);
        }
        self.by.insert(user, now);
    }

    /// Of a scope, or of something that may be in it.
    fn last(&self, scope: Scope) -> Option<Instant> {
        match scope {
            Scope::Of(user) => self.by.get(&user).copied().max(self.by_anybody),
            Scope::Accounts => self.accounts,
            Scope::Trail | Scope::Ledger => None,
        }
    }

    /// Forgets what no horizon in use can be older than.
    fn forget(&mut self, now: Instant) {
        self.by.retain(|_, last| now.saturating_duration_since(*last) <= LAG_MAX);
    }
}

/// What a question came to.
pub(in crate::db::store) trait Answer {
    /// Whether the primary may know of something where the replica does not yet.
    fn is_nothing(&self) -> bool;
}

impl<T> Answer for Option<T> {
    fn is_nothing(&self) -> bool {
        self.is_none()
    }
}

impl<T> Answer for Vec<T> {
    fn is_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl Answer for bool {
    fn is_nothing(&self) -> bool {
        !self
    }
}

impl Answer for () {
    fn is_nothing(&self) -> bool {
        true
    }
}

async fn ask<T>(
    pool: &Pool<Postgres>,
    question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, DbError> {
    let mut cut = Cut::acquire(pool).await?;
    let answer = question(cut.connection()?).await;
    cut.keep();
    Ok(answer?)
}

/// Which database this is, and where the cluster's log ends. What was committed before is in the log up to there, because
/// our commits wait for it to be written ([`connect`]).
async fn end_of_log(db: &mut PgConnection) -> Result<(Identity, i64), sqlx::Error> {
    let (cluster, database, end) = sqlx::query_as(
        "SELECT system_identifier, (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
                (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint
         FROM pg_control_system()",
    )
    .fetch_one(db)
    .await?;
    Ok(((cluster, database), end))
}

/// Which database this is, and how much of the log a standby has replayed.
async fn replayed(db: &mut PgConnection) -> Result<(Identity, Option<i64>), sqlx::Error> {
    let (cluster, database, replayed) = sqlx::query_as(
        "SELECT system_identifier, (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
                CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint END
         FROM pg_control_system()",
    )
    .fetch_one(db)
    .await?;
    Ok(((cluster, database), replayed))
}

#[cfg(test)]
mod tests {
    use support::postgres::Cluster;

    use super::*;
    use crate::{
        clock::fresh_id,
        db::contract::samples::{account, audit, begin},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn view() -> View {
        View { condition: Condition::New, marks: VecDeque::new(), horizon: None }
    }

    fn seen(replayed: i64) -> Result<Seen, String> {
        Ok(Seen { replayed: Some(replayed) })
    }

    #[test]
    fn the_horizon_is_the_newest_mark_that_was_reached() {
        let (mut view, start) = (view(), Instant::now());
        view.mark(start, 100);
        assert_eq!(view.judge(seen(99), start), Condition::Behind);
        view.mark(start + SECOND, 200);
        assert_eq!(view.judge(seen(150), start + SECOND), Condition::Up);
        assert_eq!(view.horizon, Some(start));
        // At rest the log does not grow, and the replica has all of it.
        view.mark(start + SECOND * 2, 200);
        assert_eq!(view.judge(seen(200), start + SECOND * 2), Condition::Up);
        assert_eq!(view.horizon, Some(start + SECOND * 2));
        assert!(view.marks.is_empty());
    }

    #[test]
    fn a_replica_that_stands_still_is_behind_after_some_seconds_and_its_marks_are_few() {
        let (mut view, start) = (view(), Instant::now());
        view.mark(start, 100);
        assert_eq!(view.judge(seen(100), start), Condition::Up);
        for second in 1..100_u32 {
            let now = start + SECOND * second;
            view.mark(now, 100 + i64::from(second));
            let expected = if SECOND * second <= LAG_MAX { Condition::Up } else { Condition::Behind };
            assert_eq!(view.judge(seen(100), now), expected, "{second}");
            assert!(view.marks.len() <= MARKS_MAX);
        }
        assert_eq!(view.judge(seen(200), start + SECOND * 100), Condition::Up);
    }

    #[test]
    fn a_stranger_and_silence_take_the_horizon_away() {
        for (answer, condition) in [
            (Ok(Seen { replayed: None }), Condition::Stranger),
            (Err("refused".to_owned()), Condition::Away("refused".to_owned())),
        ] {
            let (mut view, start) = (view(), Instant::now());
            view.mark(start, 1);
            assert_eq!(view.judge(seen(1), start), Condition::Up);
            assert_eq!(view.judge(answer, start), condition);
            assert_eq!(view.horizon, None);
        }
    }

    #[test]
    fn writes_are_remembered_by_scope_and_forgotten_when_no_horizon_can_be_older() {
        let (mut written, start) = (Written::default(), Instant::now());
        let (ada, eve): (UserId, UserId) = (fresh_id(), fresh_id());
        let create = Write::CreateUser(Box::new((
            account("ada@example.org"),
            audit(domain::audit::AuditEvent::UserCreated, ada),
        )));
        written.note(&[&Write::BeginTurn(Box::new(begin(ada))), &create], start);
        assert_eq!(written.last(Scope::Of(ada)), Some(start));
        assert_eq!(written.last(Scope::Of(eve)), None);
        assert_eq!((written.last(Scope::Accounts), written.last(Scope::Trail)), (Some(start), None));
        written.forget(start + LAG_MAX);
        assert_eq!(written.last(Scope::Of(ada)), Some(start));
        written.forget(start + LAG_MAX + SECOND);
        assert_eq!(written.last(Scope::Of(ada)), None);
    }

    #[test]
    fn more_writers_than_are_remembered_send_everybody_to_the_primary() {
        let (mut written, start) = (Written::default(), Instant::now());
        for _ in 0..=WRITERS_MAX {
            written.note_one(fresh_id(), start);
        }
        assert_eq!(written.by.len(), 1);
        assert_eq!(written.last(Scope::Of(fresh_id())), Some(start));
    }

    /// On the shared cluster, with one connection for reads, and seen to have everything.
    async fn up() -> (Replica, Pool<Postgres>) {
        let url = Secret::new(Cluster::shared().await.unwrap().url("postgres"));
        let replica = Replica::new(&url, 1).unwrap();
        let now = Instant::now();
        replica.view.lock().mark(now, 1);
        replica.note(seen(1));
        assert!(replica.covers(Scope::Trail) && replica.up.get() == 1);
        let primary = Pool::new("read", connect::pool(connect::options(&url).unwrap(), 1, PATIENCE), None);
        (replica, primary)
    }

    #[tokio::test]
    async fn a_slow_read_and_a_full_pool_fall_back_and_are_no_verdict() {
        let (replica, primary) = up().await;
        let slow = replica.answered(std::future::pending::<Result<Vec<()>, _>>());
        assert_eq!(slow.await, None);
        let limited = replica.answered(async { Err::<Vec<()>, _>(DbError::Timeout) });
        assert_eq!(limited.await, None);
        let all = replica.connection().await.unwrap();
        let crowded = replica.answered(async { replica.connection().await.map(|_| vec![()]) });
        assert_eq!(crowded.await, None);
        assert!(matches!(replica.connection().await, Err(DbError::Timeout)));
        assert!(replica.covers(Scope::Trail) && replica.up.get() == 1, "it is asked again");

        // With the pool still full a look gets its answer: that this is a primary.
        replica.look(&primary).await;
        assert_eq!(replica.view.lock().condition, Condition::Stranger);
        all.keep();
    }

    #[tokio::test]
    async fn a_broken_connection_is_a_verdict() {
        let (replica, _) = up().await;
        let broken = async {
            let mut cut = replica.connection().await?;
            let end = "SELECT pg_terminate_backend(pg_backend_pid())";
            sqlx::query(end).execute(cut.connection()?).await?;
            Ok(vec![()])
        };
        assert_eq!(replica.answered(broken).await, None);
        assert!(!replica.covers(Scope::Trail) && replica.up.get() == 0);
        assert!(matches!(replica.view.lock().condition, Condition::Away(_)));
    }
}
