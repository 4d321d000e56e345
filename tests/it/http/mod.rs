//! What every request goes through, whatever it asks for.

mod bad_input;
mod bounds;
mod client_address;
mod cors;
mod framing;
mod headers;
mod request_id;
