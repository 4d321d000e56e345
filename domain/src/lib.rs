//! What things mean: plain types and rules. No runtime, no IO, no clock.
//!
//! Time and randomness come in as arguments, so that every rule here can be tested by calling it.

pub mod account;
pub mod api_key;
pub mod audit;
pub mod chat;
pub mod conversation;
pub mod email;
pub mod embedding;
pub mod expiry;
pub mod gradient;
pub mod guessing;
pub mod id;
pub mod invite;
pub mod kind;
pub mod limits;
pub mod model_access;
pub mod model_alias;
pub mod model_name;
pub mod password;
pub mod principal;
pub mod quota;
pub mod rendezvous;
pub mod reply;
pub mod search;
pub mod secret;
pub mod session;
pub mod signing_key;
pub mod token_text;
pub mod turn;
pub mod usage;
pub mod wait;
pub mod words;
