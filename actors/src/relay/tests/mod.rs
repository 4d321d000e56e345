//! Rooms of two instances on one Redis, over turns that a script writes and a store that a script keeps.

mod follow;
mod ground;
mod owner;
mod proofs;
