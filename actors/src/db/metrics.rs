//! What the db room counts.

use std::{fmt::Write as _, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::DbError;

/// How a query or a transaction ended.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Ended {
    Ok,
    /// Something in it was refused; the database itself is well.
    Refused,
    Unavailable,
}

impl EncodeLabelValue for Ended {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        })
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndedLabel {
    outcome: Ended,
}

#[derive(Clone)]
pub(super) struct DbMetrics {
    reads: Family<EndedLabel, Counter>,
    read_seconds: Histogram,
    transactions: Family<EndedLabel, Counter>,
    transaction_seconds: Histogram,
    transaction_writes: Histogram,
    /// Settlements that wait for a database that was away.
    pub(super) kept_settlements: Gauge,
    pub(super) lost_settlements: Counter,
    pub(super) dropped_checkpoints: Counter,
    /// Audit entries that nobody waited for.
    pub(super) dropped_notes: Counter,
}

impl DbMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 17));
        let metrics = Self {
            reads: Family::default(),
            read_seconds: seconds(),
            transactions: Family::default(),
            transaction_seconds: seconds(),
            transaction_writes: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            kept_settlements: Gauge::default(),
            lost_settlements: Counter::default(),
            dropped_checkpoints: Counter::default(),
            dropped_notes: Counter::default(),
        };
        registry.register("deepersensor_db_reads", "Queries by outcome", metrics.reads.clone());
        registry.register(
            "deepersensor_db_read_duration_seconds",
            "Time of a query, its wait for a connection included",
            metrics.read_seconds.clone(),
        );
        registry.register(
            "deepersensor_db_transactions",
            "Write transactions by outcome",
            metrics.transactions.clone(),
        );
        registry.register(
            "deepersensor_db_transaction_duration_seconds",
            "Time of a write transaction, its wait for a connection included",
            metrics.transaction_seconds.clone(),
        );
        registry.register(
            "deepersensor_db_transaction_writes",
            "Changes that shared one transaction",
            metrics.transaction_writes.clone(),
        );
        registry.register(
            "deepersensor_db_settlements_kept",
            "Settlements that wait for the database to come back",
            metrics.kept_settlements.clone(),
        );
        registry.register(
            "deepersensor_db_settlements_lost",
            "Settlements given up: refused by the database, over the bound, or unwritten at the end",
            metrics.lost_settlements.clone(),
        );
        registry.register(
            "deepersensor_db_checkpoints_dropped",
            "Checkpoints that found their lane full",
            metrics.dropped_checkpoints.clone(),
        );
        registry.register(
            "deepersensor_audit_dropped",
            "Audit entries of refusals that found their lane half full or the database away",
            metrics.dropped_notes.clone(),
        );
        metrics
    }

    pub(super) fn read<T>(&self, result: &Result<T, DbError>, took: Duration) {
        self.reads.get_or_create(&label(result)).inc();
        self.read_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn transaction<T>(&self, result: &Result<T, DbError>, writes: usize, took: Duration) {
        self.transactions.get_or_create(&label(result)).inc();
        self.transaction_seconds.observe(took.as_secs_f64());
        self.transaction_writes.observe(writes as f64);
    }

    #[cfg(test)]
    pub(super) fn refused_transactions(&self) -> u64 {
        self.transactions.get_or_create(&EndedLabel { outcome: Ended::Refused }).get()
    }

    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.transactions.get_or_create(&EndedLabel { outcome: Ended::Ok }).get()
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

fn label<T>(result: &Result<T, DbError>) -> EndedLabel {
    let outcome = match result {
        Ok(_) => Ended::Ok,
        Err(error) if error.is_away() => Ended::Unavailable,
        Err(_) => Ended::Refused,
    };
    EndedLabel { outcome }
}
