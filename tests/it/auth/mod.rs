//! `/v1/auth`

mod forged;
mod refresh;
mod sign_in;
mod sign_up;
