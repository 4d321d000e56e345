//! Whom work is done for, and what of it a trace shows.
//!
//! ```text
//! front end ── Errand + root span = Carrier ──▶ attached to the request's task whenever it is polled
//!                                    │
//!                                    ╰─ rides in every Permit, in a lane's job and in a turn
//!                                              │
//!              actor, lane, worker ── carrier.around(work) ──▶ its log lines name the request, its spans are children
//! ```
//!
//! Spans are OpenTelemetry's own. They end when their work does, not when the last of their children does; what the log's
//! filter says does not concern them; and a request that is not sampled has none to pay for. Names are
//! `<layer>.<thing>.<verb>`, and all that is told beside them stands in [`names`].
//!
//! # When it breaks
//!
//! Nothing here waits or fails. Until [`record`] is called, and for whatever is not done for a request, spans are empty.

mod carrier;
mod errand;
pub mod names;
mod span;
#[cfg(test)]
mod tests;

pub use self::{
    carrier::{Carrier, Entered},
    errand::{Errand, TurnEnd, with_current},
    span::{Parent, Span, is_recorded, record, tell_upstream},
};
