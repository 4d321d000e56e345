//! Bringing children up, in order and within a bound.

use ractor::{ActorProcessingErr, SpawnErr};
use tokio::time::{Instant, timeout};

use super::{
    Kind,
    actor::{Command, START_TIMEOUT},
    children::{Child, Children, Life},
    exit::Cause,
    panics::caught,
};
use crate::tree::Status;

impl Children {
    /// Starts every child in order. At the first start of this supervisor one failure fails it.
    pub(super) async fn start_all(&mut self) -> Result<(), ActorProcessingErr> {
        if self.lasting.has_started() {
            let paths: Vec<_> = self.list.iter().map(|child| child.path.as_str()).collect();
            self.tree.keep_only(&self.spec.path, &paths);
            return self.start_from(0, self.list.len()).await;
        }
        for index in 0..self.list.len() {
            if let Err(cause) = self.start(index).await {
                let text = format!("{} did not start: {cause}", self.list[index].path);
                self.stop_all().await;
                return Err(text.into());
            }
        }
        self.lasting.mark_started();
        Ok(())
    }

    /// Starts the children from `first` on; those that do not come up are tried again.
    pub(super) async fn start_from(&mut self, first: usize, end: usize) -> Result<(), ActorProcessingErr> {
        let (mut index, mut end) = (first, end);
        while index < end {
            if !matches!(self.list[index].life, Life::Waiting) {
                index += 1;
                continue;
            }
            let Err(cause) = self.start(index).await else {
                index += 1;
                continue;
            };
            let count = self.list.len();
            self.fell(index, None, Cause::NotStarted(cause)).await?;
            if self.list.len() < count {
                // An added child that is not tried again is forgotten: the next one has its place.
                end -= 1;
                continue;
            }
            let is_tried_again = matches!(self.list[index].life, Life::Waiting);
            if is_tried_again && self.is_rest_for_one(index) {
                // Its dependants start with it; the added ones do not depend on it.
                index = self.listed();
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Starts one child, within a bound if it is a leaf: each wait inside a supervisor has its own.
    pub(super) async fn start(&mut self, index: usize) -> Result<(), String> {
        let epoch = self.next_epoch();
        let supervisor = self.me.get_cell();
        let child = &mut self.list[index];
        child.epoch = epoch;
        // The closure is foreign code too: its panic must cost this attempt, not the supervisor.
        let spawn = caught(async { (child.spec.spawn)(supervisor).await });
        let spawned: Result<_, String> = match child.spec.kind {
            Kind::Supervisor => spawn.await,
            Kind::Leaf => timeout(START_TIMEOUT, spawn)
                .await
                .unwrap_or_else(|_| Err(format!("not up within {} s", START_TIMEOUT.as_secs()))),
        };
        let cell = match spawned.and_then(|spawned| spawned.map_err(|error| reason(&error))) {
            Ok(cell) => cell,
            Err(cause) => {
                self.kill_strays();
                return Err(cause);
            }
        };
        let child = &mut self.list[index];
        child.budget.started(&self.spec.policy, Instant::now());
        let status = if child.is_degraded { Status::Degraded } else { Status::Running };
        self.tree.started(&child.path, child.spec.kind, status, cell.get_id().to_string());
        child.life = Life::Up(cell);
        if child.is_degraded {
            self.later(self.spec.policy.healthy_after, Command::Healthy(epoch));
        }
        Ok(())
    }

    /// Kills what a spawn that failed late may have left: it holds the name, and nobody minds it.
    fn kill_strays(&self) {
        for stray in self.me.get_cell().get_children() {
            let is_it = |child: &Child| child.cell().is_some_and(|cell| cell.get_id() == stray.get_id());
            if !self.list.iter().any(is_it) {
                stray.kill();
            }
        }
    }
}

/// The error below ractor's "panicked during startup", which is said of plain errors too.
fn reason(error: &SpawnErr) -> String {
    match error {
        SpawnErr::StartupFailed(error) => error.to_string(),
        other => other.to_string(),
    }
}
