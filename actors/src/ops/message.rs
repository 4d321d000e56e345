//! What the ops room can be asked, and what it tells itself.

use ractor::RpcReplyPort;

use super::database::Sign;
use crate::{
    handle::{GateUse, Permit},
    tree::Node,
};

pub(super) enum OpsMessage {
    Tree(Permit, RpcReplyPort<LiveTree>),
    /// A second has passed: look around.
    Look,
    /// Look around now; the answer comes after it.
    LookNow(Permit, RpcReplyPort<()>),
    /// The database was asked, and this came of it.
    Database(Sign),
}

pub(super) struct LiveTree {
    pub nodes: Vec<Node>,
    pub gates: Vec<GateUse>,
}
