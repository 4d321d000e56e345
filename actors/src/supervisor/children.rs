//! The list of children: who is on it and in which state. The steps on it are in `start`, `restart` and `stop`.

use std::{ops::Deref, sync::Arc, time::Duration};

use ractor::{ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::{
    ChildSpec, Policy, Strategy, SupervisorMessage, SupervisorSpec,
    actor::Command,
    budget::{Budget, RestartLog},
    child_path,
    handle::Lasting,
};
use crate::tree::Tree;

/// Children one supervisor may be given at run time.
const ADDED_LIMIT: usize = 4_096;

/// Numbers the stations of all children of one incarnation: a timer set at an earlier one is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

pub(super) struct Children {
    pub(super) me: ActorRef<SupervisorMessage>,
    pub(super) spec: SupervisorSpec,
    pub(super) tree: Tree,
    pub(super) lasting: Arc<Lasting>,
    /// First those of the spec, in its order, then those added at run time.
    pub(super) list: Vec<Child>,
    /// Exits of children that are supervisors: what this supervisor itself may fail of.
    pub(super) failures: RestartLog,
    last_epoch: u64,
}

pub(super) struct Child {
    pub(super) spec: SpecRef,
    pub(super) path: String,
    pub(super) life: Life,
    pub(super) epoch: Epoch,
    pub(super) budget: Budget,
    pub(super) is_degraded: bool,
}

pub(super) enum Life {
    Up(ActorCell),
    /// Down until a respawn, its own or that of an earlier sibling it depends on.
    Waiting,
    /// Down for good.
    Down,
    /// Asked to go and to be forgotten; whoever asked is told. It may have been wanted again since.
    Leaving {
        cell: ActorCell,
        told: Vec<RpcReplyPort<()>>,
        successor: Option<Arc<ChildSpec>>,
    },
}

/// A child's spec, in the supervisor's own list or added at run time.
pub(super) enum SpecRef {
    Listed(Arc<Vec<ChildSpec>>, usize),
    Added(Arc<ChildSpec>),
}

impl Deref for SpecRef {
    type Target = ChildSpec;

    fn deref(&self) -> &ChildSpec {
        match self {
            Self::Listed(specs, index) => &specs[*index],
            Self::Added(spec) => spec,
        }
    }
}

impl Child {
    pub(super) fn cell(&self) -> Option<&ActorCell> {
        match &self.life {
            Life::Up(cell) | Life::Leaving { cell, .. } => Some(cell),
            Life::Waiting | Life::Down => None,
        }
    }
}

impl Children {
    pub(super) fn new(
        me: ActorRef<SupervisorMessage>,
        spec: SupervisorSpec,
        tree: Tree,
        lasting: Arc<Lasting>,
    ) -> Self {
        let mut children = Self {
            me,
            spec,
            tree,
            lasting,
            list: Vec::new(),
            failures: RestartLog::default(),
            last_epoch: 0,
        };
        let listed = Arc::clone(&children.spec.children);
        for index in 0..listed.len() {
            children.push(SpecRef::Listed(Arc::clone(&listed), index));
        }
        let added = children.lasting.added.lock().clone();
        for spec in added {
            children.push(SpecRef::Added(spec));
        }
        children
    }

    pub(super) fn push(&mut self, spec: SpecRef) -> usize {
        let path = child_path(&self.spec.path, &spec.id);
        let epoch = self.next_epoch();
        let (life, budget) = (Life::Waiting, Budget::default());
        self.list.push(Child { spec, path, life, epoch, budget, is_degraded: false });
        self.list.len() - 1
    }

    /// Adds a child unless its id is here; says whether there was room.
    pub(super) async fn ensure(&mut self, spec: Arc<ChildSpec>) -> Result<bool, ActorProcessingErr> {
        if let Some(index) = self.list.iter().position(|child| child.spec.id == spec.id) {
            let child = &mut self.list[index];
            match &mut child.life {
                Life::Up(_) | Life::Waiting => {}
                Life::Leaving { successor, .. } => {
                    // On the lasting list at once: we may die before the one that leaves has left.
                    if successor.replace(Arc::clone(&spec)).is_none() {
                        self.lasting.added.lock().push(spec);
                    }
                }
                Life::Down => {
                    child.life = Life::Waiting;
                    self.start_from(index, index + 1).await?;
                }
            }
            return Ok(true);
        }
        {
            let mut added = self.lasting.added.lock();
            if added.len() >= ADDED_LIMIT {
                return Ok(false);
            }
            added.push(Arc::clone(&spec));
        }
        let index = self.push(SpecRef::Added(spec));
        self.start_from(index, index + 1).await?;
        Ok(true)
    }

    /// Takes an added child off the list, here and in what lasts.
    pub(super) fn forget(&mut self, index: usize) {
        let child = self.list.remove(index);
        self.lasting.added.lock().retain(|spec| spec.id != child.spec.id);
        self.tree.removed(&child.path);
    }

    pub(super) fn at(&self, epoch: Epoch, is_at: impl Fn(&Life) -> bool) -> Option<usize> {
        self.list.iter().position(|child| child.epoch == epoch && is_at(&child.life))
    }

    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.last_epoch += 1;
        Epoch(self.last_epoch)
    }

    pub(super) fn later(&self, delay: Duration, command: Command) {
        // The task ends with its delay at the latest; a dead supervisor just does not hear it.
        drop(self.me.send_after(delay, || SupervisorMessage::timer(command)));
    }

    /// How many children the spec lists.
    pub(super) fn listed(&self) -> usize {
        self.spec.children.len()
    }

    pub(super) fn is_rest_for_one(&self, index: usize) -> bool {
        self.spec.strategy == Strategy::RestForOne && index < self.listed()
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.spec.policy
    }
}
