//! What both stores do alike: in which order, and on which condition, a change writes what. It is compiled twice, once over
//! the statements of each store; `super` is that store, and `super::Connection` one connection to it.
//!
//! A change first asks for all that could refuse it, holding the rows that it asks, and only then writes: see [`Stop`].
//!
//! [`Stop`]: crate::db::store::stop::Stop

mod accounts;
pub(super) mod batch;
mod claims;
mod conversations;
mod grants;
mod purge;
mod sessions;
