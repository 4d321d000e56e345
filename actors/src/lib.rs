//! What is kept alive: supervised rooms; everything that waits, remembers or fails.

pub mod admin;
pub mod auth;
pub mod bell;
pub mod clock;
pub mod data_dir;
pub mod db;
mod digest;
pub mod handle;
mod histogram;
pub mod look;
pub mod model;
pub mod ops;
pub mod password;
pub mod rate_limit;
mod redis;
pub mod relay;
pub mod reply;
pub mod room;
pub mod supervisor;
pub mod system;
pub mod trace;
pub mod tree;
pub mod upkeep;
