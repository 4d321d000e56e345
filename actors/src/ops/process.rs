//! What the kernel and the runtime tell of this process, under the names that dashboards for any service know.
//!
//! Read from `/proc/self` at each scrape; a figure that cannot be read is left out.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tokio::runtime::Handle;

/// Linux shows times to programs in hundredths of a second on every machine, whatever its kernel counts in.
const TICKS_PER_SECOND: f64 = 100.0;
const KIB: u64 = 1 << 10;

/// Shows the process, what it was built from, and the runtime it works on.
#[derive(Debug)]
pub(super) struct Process(pub Handle);

/// The fields of `/proc/self/stat` after the program's name, which may hold anything.
struct Stat(Vec<u64>);

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        // Numbered from 3, the state; what is no number without a sign is none of ours.
        Some(Self(rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()))
    }

    /// By its number in proc_pid_stat(5).
    fn field(&self, number: usize) -> Option<u64> {
        self.0.get(number.checked_sub(3)?).copied()
    }
}

/// The number after `name` in a file of lines such as `VmRSS:   1234 kB`.
fn line_of(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().find_map(|word| word.parse().ok())
}

fn cpu_seconds() -> Option<f64> {
    let stat = Stat::read()?;
    Some((stat.field(14)? + stat.field(15)?) as f64 / TICKS_PER_SECOND)
}

fn started_seconds() -> Option<f64> {
    let booted = line_of("/proc/stat", "btime ")?;
    Some(booted as f64 + Stat::read()?.field(22)? as f64 / TICKS_PER_SECOND)
}

fn memory(name: &str) -> Option<f64> {
    line_of("/proc/self/status", name).map(|kib| (kib * KIB) as f64)
}

fn open_files() -> Option<f64> {
    // One of them is the directory itself.
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64)
}

type Reading = fn() -> Option<f64>;

const GAUGES: [(&str, &str, Reading); 6] = [
    (
        "process_resident_memory_bytes",
        "Memory that the process has. Worry when it grows for hours under even load, or nears the limit of its container.",
        || memory("VmRSS:"),
    ),
    ("process_virtual_memory_bytes", "Address space of the process; it says little.", || memory("VmSize:")),
    ("process_open_fds", "Open files and sockets. Worry near process_max_fds.", open_files),
    ("process_max_fds", "How many files and sockets may be open.", || {
        line_of("/proc/self/limits", "Max open files").map(|limit| limit as f64)
    }),
    ("process_threads", "Threads of the process.", || Stat::read()?.field(20).map(|threads| threads as f64)),
    (
        "process_start_time_seconds",
        "When the process started, in seconds since 1970. Worry when it changes and nobody restarted anything.",
        started_seconds,
    ),
];

impl Process {
    fn busy_seconds(&self) -> f64 {
        let runtime = self.0.metrics();
        (0..runtime.num_workers())
            .map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64())
            .sum()
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut counter = |name: &str, help: &str, value: f64| {
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(counter)
        };
        if let Some(seconds) = cpu_seconds() {
            let help = "Processor time the process has used. Worry when its rate nears the number of cores.";
            counter("process_cpu_seconds", help, seconds)?;
        }
        let help = "Time the runtime's threads were at work. Worry when its rate nears deepersensor_runtime_workers.";
        counter("deepersensor_runtime_busy_seconds", help, self.busy_seconds())?;

        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)
        };
        for (name, help, read) in GAUGES {
            if let Some(value) = read() {
                gauge(name, help, value)?;
            }
        }
        let runtime = self.0.metrics();
        let help = "Threads that the runtime works with: the cores.";
        gauge("deepersensor_runtime_workers", help, runtime.num_workers() as f64)?;
        let help = "Tasks that live in the runtime. Worry when it grows while connections and turns do not.";
        gauge("deepersensor_runtime_tasks", help, runtime.num_alive_tasks() as f64)?;
        let help = "Tasks that are ready and wait for a thread. Worry when it stays above some hundreds: the machine is too small.";
        gauge("deepersensor_runtime_queued_tasks", help, runtime.global_queue_depth() as f64)?;

        let help = "The version that runs, as a label of 1.";
        let mut family =
            encoder.encode_descriptor("deepersensor_build_info", help, None, MetricType::Gauge)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_u64).encode(family.encode_family(&version)?)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[tokio::test]
    async fn every_figure_of_the_process_is_there_and_plausible() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process(Handle::current())));
        let kept: Vec<fs::File> = (0..10).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            sample.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
        };
        assert!((1e6..1e12).contains(&value("process_resident_memory_bytes")));
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") > kept.len() as f64);
        assert!(value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_threads") >= 1.0 && value("process_cpu_seconds_total") >= 0.0);
        let uptime =
            crate::clock::Clock::system().now().timestamp() as f64 - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&uptime), "started {uptime} s ago");
        assert!(value("deepersensor_runtime_workers") >= 1.0);
        assert!(text.contains(concat!(
            "deepersensor_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1\n"
        )));
    }
}
