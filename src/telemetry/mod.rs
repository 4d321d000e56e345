//! What the process tells those who run it: lines of its log, and traces.
//!
//! Both name the request they are about ([`actors::trace`]), and neither decides what the other tells: the log's filter
//! chooses lines, the sampler chooses traces.

mod export;
mod line;
pub mod log;
pub mod trace;

pub use self::{log::LogFilter, trace::TraceConfig};
