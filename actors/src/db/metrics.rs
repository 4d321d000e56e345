//! What the db room counts.

use std::{fmt, sync::Weak, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::{DbError, store::Store};

/// How queries or transactions ended.
#[derive(Clone)]
struct Ends {
    ok: Counter,
    /// Something in it was refused; the database itself is well.
    refused: Counter,
    unavailable: Counter,
}

impl Ends {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let of = |outcome| family.get_or_create_owned(&[("outcome", outcome)]);
        let ends = Self { ok: of("ok"), refused: of("refused"), unavailable: of("unavailable") };
        registry.register(name, help, family);
        ends
    }

    fn count<T>(&self, result: &Result<T, DbError>) {
        match result {
            Ok(_) => &self.ok,
            Err(error) if error.is_away() => &self.unavailable,
            Err(_) => &self.refused,
        }
        .inc();
    }
}

/// The settlements that wait for a database that was away, over all lanes.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) settlements: Gauge,
    pub(super) bytes: Gauge,
}

/// One of them, from when it is first kept until it is written, on the disk or given up; while it is tried again, too.
pub(super) struct ShownKept(Kept, i64);

impl Kept {
    pub(super) fn show(&self, bytes: usize) -> ShownKept {
        self.settlements.inc();
        self.bytes.inc_by(bytes as i64);
        ShownKept(self.clone(), bytes as i64)
    }
}

impl Drop for ShownKept {
    fn drop(&mut self) {
        self.0.settlements.dec();
        self.0.bytes.dec_by(self.1);
    }
}

/// The settlements on the disk.
#[derive(Clone, Default)]
pub(super) struct Spilled {
    pub(super) settlements: Gauge,
    /// Of all files, with what the database has already.
    pub(super) bytes: Gauge,
    /// Attempts of the disk to keep, read or remove them that came to nothing.
    pub(super) failures: Counter,
    /// Those that the database refused, kept for people.
    pub(super) set_aside: Counter,
    /// Those that it refused and that were not kept; counted with all others that are given up.
    pub(super) lost: Counter,
}

#[derive(Clone)]
pub(super) struct DbMetrics {
    reads: Ends,
    read_seconds: Histogram,
    transactions: Ends,
    transaction_seconds: Histogram,
    transaction_writes: Histogram,
    pub(super) kept: Kept,
    pub(super) spilled: Spilled,
    pub(super) lost_settlements: Counter,
    pub(super) dropped_checkpoints: Counter,
    /// Ledger rows of turns that are not stored, missing until the turn is settled.
    pub(super) dropped_opens: Counter,
    /// Audit entries that nobody waited for.
    pub(super) dropped_notes: Counter,
}

impl DbMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 17));
        let lost_settlements = Counter::default();
        let metrics = Self {
            reads: Ends::register(
                registry,
                "deepersensor_db_reads",
                "Queries by outcome. Worry when any are unavailable: the database is away or too slow",
            ),
            read_seconds: seconds(),
            transactions: Ends::register(
                registry,
                "deepersensor_db_transactions",
                "Write transactions by outcome. Worry when any are unavailable",
            ),
            transaction_seconds: seconds(),
            transaction_writes: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            kept: Kept::default(),
            spilled: Spilled { lost: lost_settlements.clone(), ..Spilled::default() },
            lost_settlements,
            dropped_checkpoints: Counter::default(),
            dropped_opens: Counter::default(),
            dropped_notes: Counter::default(),
        };
        registry.register(
            "deepersensor_db_read_duration_seconds",
            "Time of a query, its wait for a connection included. Worry when the p99 is above a tenth of a second",
            metrics.read_seconds.clone(),
        );
        registry.register(
            "deepersensor_db_transaction_duration_seconds",
            "Time of a write transaction, its wait for a connection included. Worry when the p99 is above half a second",
            metrics.transaction_seconds.clone(),
        );
        registry.register(
            "deepersensor_db_transaction_writes",
            "Changes that shared one transaction. Near 256 the database writes as fast as it can",
            metrics.transaction_writes.clone(),
        );
        registry.register(
            "deepersensor_db_settlements_kept",
            "Ends of turns that wait in memory because neither the database nor the disk takes them. Worry when it is not 0: a crash now \
             loses them",
            metrics.kept.settlements.clone(),
        );
        registry.register(
            "deepersensor_db_settlements_kept_bytes",
            "Their text, in bytes. Worry above 32 MiB: from 64 MiB on they are given up",
            metrics.kept.bytes.clone(),
        );
        registry.register(
            "deepersensor_db_settlements_spilled",
            "Ends of turns that wait on the disk for the database to come back. Worry when it stays above 0 while the database answers",
            metrics.spilled.settlements.clone(),
        );
        registry.register(
            "deepersensor_db_spill_bytes",
            "Size of the files they are in. Worry above 128 MiB: from 256 MiB on they are kept in memory",
            metrics.spilled.bytes.clone(),
        );
        registry.register(
            "deepersensor_db_spill_failures",
            "Times the disk did not keep ends of turns, or did not give them back whole. Worry at any: it is full, not writable or damaged",
            metrics.spilled.failures.clone(),
        );
        registry.register(
            "deepersensor_db_settlements_set_aside",
            "Ends of turns from the disk that the database does not have the beginning of, kept in DATA_DIR/spill/*.refused. Worry at any: an \
             older backup was restored, or this is another database",
            metrics.spilled.set_aside.clone(),
        );
        registry.register(
            "deepersensor_db_settlements_lost",
            "Ends of turns given up: refused by the database, over both bounds, or neither in it nor on the disk at the end. Worry at any",
            metrics.lost_settlements.clone(),
        );
        registry.register(
            "deepersensor_db_checkpoints_dropped",
            "Checkpoints of running answers that found their lane full; a later one covers them. Worry when it grows for minutes: writes are too \
             slow",
            metrics.dropped_checkpoints.clone(),
        );
        registry.register(
            "deepersensor_db_opens_dropped",
            "Turns that store nothing and whose ledger row was not opened, because their lane was full or the database away; their end writes it. \
             A crash before that loses their usage. Worry when it grows for minutes",
            metrics.dropped_opens.clone(),
        );
        registry.register(
            "deepersensor_audit_dropped",
            "Audit entries of refusals that found their lane half full or the database away. Worry at any: the trail has gaps",
            metrics.dropped_notes.clone(),
        );
        metrics
    }

    pub(super) fn read<T>(&self, result: &Result<T, DbError>, took: Duration) {
        self.reads.count(result);
        self.read_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn transaction<T>(&self, result: &Result<T, DbError>, writes: usize, took: Duration) {
        self.transactions.count(result);
        self.transaction_seconds.observe(took.as_secs_f64());
        self.transaction_writes.observe(writes as f64);
    }

    #[cfg(test)]
    pub(super) fn refused_transactions(&self) -> u64 {
        self.transactions.refused.get()
    }

    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.transactions.ok.get()
    }
}

/// Shows whether the replica answers reads, where there is one.
pub(super) fn register_replica(registry: &mut Registry, up: Gauge) {
    registry.register(
        "deepersensor_db_replica_up",
        "Whether the replica is asked: 1, or 0 while it is away or too far behind",
        up,
    );
}

/// Shows the pools of a store as they are at each scrape, for as long as there is the store.
pub(super) struct Pools(pub Weak<dyn Store>);

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pools")
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(store) = self.0.upgrade() else { return Ok(()) };
        let pools = store.pools();
        let help = "Open connections to the database, by pool and by whether one is at work. Worry when busy stays at \
                    deepersensor_db_connections_limit: callers wait.";
        let mut family =
            encoder.encode_descriptor("deepersensor_db_connections", help, None, MetricType::Gauge)?;
        for pool in &pools {
            for (state, count) in [("busy", pool.open - pool.idle), ("idle", pool.idle)] {
                let labels = [("pool", pool.name), ("state", state)];
                ConstGauge::new(u64::from(count)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Connections that the pool may open. Over all instances they must stay below the database's own limit.";
        let mut family =
            encoder.encode_descriptor("deepersensor_db_connections_limit", help, None, MetricType::Gauge)?;
        for pool in &pools {
            ConstGauge::new(u64::from(pool.limit)).encode(family.encode_family(&[("pool", pool.name)])?)?;
        }
        let help = "Wait for a connection, opening one included. Worry when the p99 is above a tenth of a second: the pool is too small, or the \
                    database slow to accept.";
        let mut family = encoder.encode_descriptor(
            "deepersensor_db_acquire_seconds",
            help,
            None,
            MetricType::Histogram,
        )?;
        for pool in &pools {
            pool.waits.encode(family.encode_family(&[("pool", pool.name)])?)?;
        }
        Ok(())
    }
}
