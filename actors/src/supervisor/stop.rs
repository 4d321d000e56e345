//! Endings that were asked for: one child removed, later siblings before a restart, all of them in order.

use std::time::Duration;

use futures_util::future::join_all;
use ractor::{ActorCell, RpcReplyPort};

use super::{
    Kind,
    actor::Command,
    children::{Child, Children, Epoch, Life, SpecRef},
    exit::{self, Cause, Decision, Report},
};
use crate::tree::Status;

/// How long a killed actor may take to be gone; one stuck in synchronous code never is.
const KILL_GRACE: Duration = Duration::from_secs(1);

const ASKED: &str = "asked to stop";

impl Children {
    /// Asks an added child to leave. It stays linked and is seen off by its exit event, so that nobody waits here.
    pub(super) fn remove(&mut self, id: &str, reply: RpcReplyPort<()>) {
        let Some(index) = self.list.iter().position(|child| child.spec.id == id) else {
            let _ = reply.send(());
            return;
        };
        let epoch = self.next_epoch();
        let child = &mut self.list[index];
        if matches!(child.spec, SpecRef::Listed(..)) {
            tracing::warn!(actor = child.path, "a child of the supervisor's own list cannot be removed");
            let _ = reply.send(());
            return;
        }
        match &mut child.life {
            Life::Up(cell) => {
                cell.stop(Some(ASKED.into()));
                let cell = cell.clone();
                child.life = Life::Leaving { cell, told: vec![reply], successor: None };
                child.epoch = epoch;
                let id = child.spec.id.clone();
                let is_leaf = child.spec.kind == Kind::Leaf;
                self.lasting.added.lock().retain(|spec| spec.id != id);
                if is_leaf {
                    self.later(self.policy().stop_timeout, Command::Overdue(epoch));
                }
            }
            Life::Leaving { told, successor, .. } => {
                told.push(reply);
                if successor.take().is_some() {
                    self.lasting.added.lock().retain(|spec| spec.id != id);
                }
            }
            Life::Waiting | Life::Down => {
                self.forget(index);
                let _ = reply.send(());
            }
        }
    }

    /// Kills a leaf that is up; its exit event is dealt with like that of any other.
    pub(super) fn kill(&self, id: &str) -> bool {
        let is_it = |child: &&Child| child.spec.id == id && child.spec.kind == Kind::Leaf;
        let Some(Life::Up(cell)) = self.list.iter().find(is_it).map(|child| &child.life) else {
            return false;
        };
        cell.kill();
        true
    }

    /// Kills a child that was asked to leave and did not.
    pub(super) fn kill_overdue(&mut self, epoch: Epoch) {
        if let Some(index) = self.at(epoch, |life| matches!(life, Life::Leaving { .. }))
            && let Some(cell) = self.list[index].cell()
        {
            cell.kill();
        }
    }

    /// Sees off a child that was asked to leave.
    pub(super) fn left(&mut self, index: usize, cell: &ActorCell, cause: Cause) {
        let cause = if cause == Cause::Killed { Cause::Hung(KILLED) } else { cause };
        self.report_stop(index, cell, cause);
        self.forget(index);
    }

    /// Stops one child that a restarted sibling will bring back.
    pub(super) async fn stop_for_restart(&mut self, index: usize) {
        let epoch = self.next_epoch();
        let limit = self.policy().stop_timeout;
        let me = self.me.get_cell();
        let child = &mut self.list[index];
        child.epoch = epoch;
        let Life::Up(cell) = &child.life else { return };
        let cell = cell.clone();
        child.life = Life::Waiting;
        let cause = end(&cell, me, stop_limit(child, limit)).await;
        self.report_stop(index, &cell, cause);
    }

    /// Stops the added children, all at once since none depends on another, then the listed ones in reverse.
    pub(super) async fn stop_all(&mut self) {
        let listed = self.listed();
        let added = self.take_cells(listed..self.list.len());
        let limit = self.policy().stop_timeout;
        let ends = added
            .iter()
            .map(|(index, cell)| end(cell, self.me.get_cell(), stop_limit(&self.list[*index], limit)));
        let causes = join_all(ends).await;
        for ((index, cell), cause) in added.iter().zip(causes) {
            self.report_stop(*index, cell, cause);
        }
        for (index, cell) in self.take_cells(0..listed) {
            let cause = end(&cell, self.me.get_cell(), stop_limit(&self.list[index], limit)).await;
            self.report_stop(index, &cell, cause);
        }
    }

    /// Takes the living of `range`, last first, and voids every timer of the rest.
    fn take_cells(&mut self, range: std::ops::Range<usize>) -> Vec<(usize, ActorCell)> {
        let mut cells = Vec::new();
        for index in range.rev() {
            let epoch = self.next_epoch();
            let child = &mut self.list[index];
            child.epoch = epoch;
            if let Some(cell) = child.cell().cloned() {
                cells.push((index, cell));
            }
            child.life = Life::Down;
        }
        cells
    }

    fn report_stop(&self, index: usize, cell: &ActorCell, cause: Cause) {
        let child = &self.list[index];
        let report = Report {
            path: &child.path,
            kind: child.spec.kind,
            actor_id: Some(cell.get_id().to_string()),
            cause,
            decision: Decision::Stop,
            status: Status::Stopped,
            backoff: Duration::ZERO,
            restarts_in_window: 0,
        };
        exit::record(&self.tree, &report);
    }
}

const KILLED: &str = "killed: it did not stop in time";
const ABANDONED: &str = "abandoned: it neither stopped nor died in time";

/// A supervisor has no limit of its own: the waits inside it are bounded, and together they may take long.
fn stop_limit(child: &Child, limit: Duration) -> Option<Duration> {
    (child.spec.kind == Kind::Leaf).then_some(limit)
}

/// Ends an actor so that its exit is ours to report: asks, waits, kills.
async fn end(cell: &ActorCell, me: ActorCell, limit: Option<Duration>) -> Cause {
    cell.unlink(me);
    cell.stop(Some(ASKED.into()));
    if cell.wait(limit).await.is_ok() {
        return Cause::Stopped(Some(ASKED.into()));
    }
    cell.kill();
    Cause::Hung(if cell.wait(Some(KILL_GRACE)).await.is_ok() { KILLED } else { ABANDONED })
}
