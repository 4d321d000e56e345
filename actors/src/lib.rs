//! What is kept alive: supervised rooms; everything that waits, remembers or fails.

pub mod bell;
pub mod clock;
pub mod handle;
pub mod reply;
pub mod supervisor;
pub mod tree;
