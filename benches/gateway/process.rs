//! What the kernel says about processes: their processor time, their memory, and where they may run.

use std::{collections::HashMap, fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use support::process::{children_of, find_program, memory};

/// A process and its children, found once: none of the systems starts more while it is measured.
#[derive(Debug, Clone)]
pub struct Family(Vec<u32>);

/// Processor time of every thread at one moment.
pub struct CpuSnapshot(HashMap<String, u64>);

impl Family {
    pub fn of(pid: u32) -> Self {
        let mut pids = children_of(pid);
        pids.push(pid);
        Self(pids)
    }

    /// Nanoseconds where ticks would be too coarse. A thread that has ended is missing, but the pools end threads
    /// only after ten idle seconds, so that a window loses nothing.
    pub fn cpu(&self) -> Result<CpuSnapshot> {
        let mut threads = HashMap::new();
        for pid in &self.0 {
            for task in fs::read_dir(format!("/proc/{pid}/task")).context("a measured process is gone")? {
                let task = task?.path();
                // It may have ended since it was listed.
                let Ok(text) = fs::read_to_string(task.join("schedstat")) else { continue };
                let nanos = text.split_whitespace().next().and_then(|first| first.parse().ok());
                threads.insert(task.display().to_string(), nanos.context("a schedstat without times")?);
            }
        }
        Ok(CpuSnapshot(threads))
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.0.iter().map(|pid| memory(*pid, "VmRSS")).sum()
    }

    /// Lets it run on `core` only.
    pub fn pin(&self, core: usize) -> Result<()> {
        for pid in &self.0 {
            let mut taskset = Command::new(find_program("taskset", &[], "util-linux")?);
            taskset.args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &pid.to_string()]);
            let output = taskset.output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl CpuSnapshot {
    /// The time spent since `earlier`.
    pub fn since(&self, earlier: &Self) -> Duration {
        let spent = |(task, nanos): (&String, &u64)| nanos - earlier.0.get(task).unwrap_or(&0).min(nanos);
        Duration::from_nanos(self.0.iter().map(spent).sum())
    }
}

/// A command that will run on `core` only.
pub fn pinned(core: usize, program: &std::path::Path) -> Result<Command> {
    let mut command = Command::new(find_program("taskset", &[], "util-linux")?);
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    Ok(command)
}

/// The first two cores we may use: for the load and for the measured system. One, if there is no second.
pub fn cores() -> Result<(usize, usize)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.context("the kernel does not tell our cores")?.trim();
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cores.extend(first.parse::<usize>()?..=last.parse::<usize>()?);
    }
    let load = *cores.first().context("there is no core")?;
    Ok((load, *cores.get(1).unwrap_or(&load)))
}
