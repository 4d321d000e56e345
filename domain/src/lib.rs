//! What things mean: plain types and rules. No runtime, no IO, no clock.
//!
//! Time and randomness come in as arguments, so that every rule here can be tested by calling it.

pub mod account;
pub mod chat;
pub mod conversation;
pub mod email;
pub mod id;
pub mod kind;
pub mod model_name;
pub mod password;
pub mod principal;
pub mod quota;
pub mod reply;
pub mod secret;
pub mod turn;
