//! The auth room: tokens that are not ours, secrets that are none, and the room as a whole.

mod bench;
mod faults;
mod forgery;
mod log;
mod secret;
mod sign_in;
