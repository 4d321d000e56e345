//! The bound of a mailbox, and the three numbers operators see of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::trace::Carrier;

/// How many messages to one actor may exist at a time; clones share the count.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    capacity: usize,
    places: Arc<Semaphore>,
    refused: AtomicU64,
}

/// One place in a mailbox; dropping it gives the place back, so it must travel inside the message. With it travels whom the
/// message is for.
#[derive(Debug)]
#[must_use = "a permit dropped early frees a place that is still taken"]
pub struct Permit {
    _place: OwnedSemaphorePermit,
    carrier: Carrier,
}

impl Permit {
    /// The request that whoever took the place worked for.
    pub const fn carrier(&self) -> &Carrier {
        &self.carrier
    }
}

impl Gate {
    /// Makes a gate of `capacity` places; `name` is its metric label.
    pub fn new(name: &'static str, capacity: usize) -> Self {
        let capacity = capacity.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(capacity));
        Self(Arc::new(Inner { name, capacity, places, refused: AtomicU64::new(0) }))
    }

    /// Takes a place, or counts a refusal; never waits.
    pub fn try_enter(&self) -> Option<Permit> {
        if let Ok(permit) = Arc::clone(&self.0.places).try_acquire_owned() {
            return Some(Permit { _place: permit, carrier: Carrier::here() });
        }
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Messages sent and not yet dropped.
    pub fn in_use(&self) -> usize {
        self.0.capacity - self.0.places.available_permits()
    }

    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Messages refused since the gate was made.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    pub fn name(&self) -> &'static str {
        self.0.name
    }
}

/// Shows every watched gate at each scrape; clones share the list.
///
/// Gates of one name (the shards of a room) are shown as their sum.
#[derive(Clone, Default)]
pub struct GateCollector(Arc<Mutex<Vec<Gate>>>);

impl fmt::Debug for GateCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GateCollector").field(&self.0.lock().len()).finish()
    }
}

/// The gates of one name, added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateUse {
    pub name: &'static str,
    pub in_use: u64,
    pub capacity: u64,
    pub refused: u64,
}

#[derive(Default)]
struct Sum {
    in_use: u64,
    capacity: u64,
    refused: u64,
}

impl GateCollector {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate for good: call it once per gate, where the gate is made.
    pub fn watch(&self, gate: &Gate) {
        self.0.lock().push(gate.clone());
    }

    /// All watched gates by name, as operators see them.
    pub fn snapshot(&self) -> Vec<GateUse> {
        let row = |(name, sum): (_, Sum)| GateUse {
            name,
            in_use: sum.in_use,
            capacity: sum.capacity,
            refused: sum.refused,
        };
        self.sums().into_iter().map(row).collect()
    }

    fn sums(&self) -> BTreeMap<&'static str, Sum> {
        let mut sums = BTreeMap::<_, Sum>::new();
        for gate in self.0.lock().iter() {
            let sum = sums.entry(gate.name()).or_default();
            sum.in_use += gate.in_use() as u64;
            sum.capacity += gate.capacity() as u64;
            sum.refused += gate.refused();
        }
        sums
    }
}

impl Collector for GateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let sums = self.sums();
        let help =
            "Messages to an actor that are waiting or being handled. Worry near deepersensor_gate_capacity.";
        gauges(&mut encoder, "deepersensor_gate_in_use", help, &sums, |sum| sum.in_use)?;
        let help = "Messages to an actor that may exist at a time; those of its shards together.";
        gauges(&mut encoder, "deepersensor_gate_capacity", help, &sums, |sum| sum.capacity)?;

        let help = "Messages refused because the gate was full. Worry when it grows: that actor is too slow, or stands still.";
        let name = "deepersensor_gate_refused";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (gate, sum) in &sums {
            ConstCounter::new(sum.refused).encode(family.encode_family(&[("gate", *gate)])?)?;
        }
        Ok(())
    }
}

fn gauges(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    sums: &BTreeMap<&'static str, Sum>,
    value: impl Fn(&Sum) -> u64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (gate, sum) in sums {
        ConstGauge::new(value(sum)).encode(family.encode_family(&[("gate", *gate)])?)?;
    }
    Ok(())
}
