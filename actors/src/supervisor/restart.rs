//! What follows when a child goes down unasked.

use std::time::Duration;

use ractor::{ActorCell, ActorProcessingErr};
use tokio::time::Instant;

use super::{
    Kind, Restart,
    actor::Command,
    budget::Cost,
    children::{Child, Children, Epoch, Life, SpecRef},
    exit::{self, Cause, Decision, Report},
};
use crate::tree::Status;

impl Children {
    /// Deals with the end of whoever `who` was; a child we asked to stop is nobody any more.
    pub(super) async fn child_exited(
        &mut self,
        who: &ActorCell,
        cause: Cause,
    ) -> Result<(), ActorProcessingErr> {
        let is_it = |child: &Child| child.cell().is_some_and(|cell| cell.get_id() == who.get_id());
        let Some(index) = self.list.iter().position(is_it) else { return Ok(()) };
        match std::mem::replace(&mut self.list[index].life, Life::Down) {
            Life::Leaving { cell, told, successor } => {
                self.left(index, &cell, cause);
                for reply in told {
                    let _ = reply.send(());
                }
                if let Some(spec) = successor {
                    self.ensure(spec).await?;
                }
                Ok(())
            }
            _ => self.fell(index, Some(who.get_id().to_string()), cause).await,
        }
    }

    /// A child went down unasked, or did not come up: restart it, leave it, or give up.
    pub(super) async fn fell(
        &mut self,
        index: usize,
        actor_id: Option<String>,
        cause: Cause,
    ) -> Result<(), ActorProcessingErr> {
        let now = Instant::now();
        let policy = self.spec.policy.clone();
        let child = &mut self.list[index];
        child.life = Life::Down;
        if !wants_restart(child.spec.restart, &cause) {
            let report = Report {
                path: &child.path,
                kind: child.spec.kind,
                actor_id,
                cause,
                decision: Decision::Stop,
                status: Status::Stopped,
                backoff: Duration::ZERO,
                restarts_in_window: 0,
            };
            exit::record(&self.tree, &report);
            if matches!(child.spec, SpecRef::Added(_)) {
                self.forget(index);
            }
            return Ok(());
        }

        let Cost { mut restarts_in_window, backoff, is_exceeded } = child.budget.spend(&policy, now);
        let kind = child.spec.kind;
        let gives_up = match kind {
            Kind::Leaf => {
                child.is_degraded |= is_exceeded;
                false
            }
            Kind::Supervisor => {
                restarts_in_window = self.failures.record(now, policy.window);
                restarts_in_window > policy.max_restarts
            }
        };
        let (decision, status) = match (gives_up, child.is_degraded) {
            (true, _) => (Decision::Escalate, Status::Stopped),
            (false, true) => (Decision::Restart, Status::Degraded),
            (false, false) => (Decision::Restart, Status::Restarting),
        };
        let path = child.path.clone();
        let report =
            Report { path: &path, kind, actor_id, cause, decision, status, backoff, restarts_in_window };
        exit::record(&self.tree, &report);
        if gives_up {
            let text = format!("{path} failed too often, last: {}", report.cause);
            self.stop_all().await;
            return Err(text.into());
        }
        let epoch = self.next_epoch();
        let child = &mut self.list[index];
        (child.life, child.epoch) = (Life::Waiting, epoch);
        self.later(backoff, Command::Respawn(epoch));
        Ok(())
    }

    /// Starts the child whose backoff is over and, if the strategy says so, its later siblings anew.
    pub(super) async fn respawn(&mut self, epoch: Epoch) -> Result<(), ActorProcessingErr> {
        let Some(index) = self.at(epoch, |life| matches!(life, Life::Waiting)) else { return Ok(()) };
        if !self.is_rest_for_one(index) {
            return self.start_from(index, index + 1).await;
        }
        if self.list[..index].iter().any(|earlier| matches!(earlier.life, Life::Waiting)) {
            return Ok(()); // what it depends on is down, and brings it along when it comes back
        }
        for later in (index + 1..self.listed()).rev() {
            self.stop_for_restart(later).await;
        }
        self.start_from(index, self.listed()).await
    }

    /// The child has been up for `healthy_after` since it degraded.
    pub(super) fn recover(&mut self, epoch: Epoch) {
        if let Some(index) = self.at(epoch, |life| matches!(life, Life::Up(_))) {
            self.list[index].is_degraded = false;
            self.tree.recovered(&self.list[index].path);
        }
    }
}

fn wants_restart(restart: Restart, cause: &Cause) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => cause.is_crash(),
        Restart::Temporary => false,
    }
}
