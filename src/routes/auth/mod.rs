//! `/v1/auth`: who somebody is, and the sessions in which they say so.

pub(crate) mod account;
pub(crate) mod leaving;
pub(crate) mod sessions;
pub(crate) mod sign_in;
mod tokens;
