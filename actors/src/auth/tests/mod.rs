//! The auth room: tokens that are not ours, secrets that are none, and the room as a whole.

mod administration;
mod api_keys;
mod audit;
mod bench;
mod changes;
mod faults;
mod forgery;
mod key_set;
mod limits;
mod log;
mod models;
mod pace;
mod passwords;
mod purge;
mod ring;
mod secret;
mod sessions;
mod sign_in;
mod sign_up;
mod throttle;
mod truth;
mod uses;
