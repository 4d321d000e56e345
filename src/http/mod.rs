//! The front end's plumbing: sockets, the way every request goes, and everything clients read that is not an answer.
//!
//! ```text
//! listener ─▶ connections (caps) ─▶ connection (hyper, timers) ─▶ pipeline ─▶ route
//! ```
//!
//! # When it breaks
//!
//! A panicking route costs its caller a 500 and nobody else anything. A connection task that dies takes only its own
//! connection along. Running out of descriptors pauses accepting; connections that are already open do not notice.

mod admission;
mod body;
mod browser;
mod call;
mod client_ip;
mod config;
mod connection;
mod connections;
mod cors;
mod credentials;
mod doors;
mod error;
mod framing;
mod front;
mod headers;
mod host;
mod json;
mod lifecycle;
mod limit_headers;
mod listener;
mod metrics;
mod path_key;
mod pipeline;
mod refusal;
mod reply;
mod report;
mod request_id;
mod route;
mod server;
mod socket;
mod spending;
#[cfg(test)]
pub(crate) mod tests;
mod trace_parent;

pub use config::{HttpConfig, NeedsToken, OpsDoor};
pub use cors::{NotAnOrigin, PageOrigin};
pub use front::Front;
pub use server::{STOP_AFTER_GRACE, Server};

#[cfg(test)]
pub(crate) use body::understand as understand_body;
pub(crate) use browser::{
    ACCESS as ACCESS_COOKIE, REFRESH as REFRESH_COOKIE, clear_cookies, refresh_cookie, set_cookie,
};
pub(crate) use call::Call;
pub(crate) use error::{
    AnthropicErrorBody, ApiError, ErrorBody, ErrorObject, Fault, OllamaErrorBody, Place, Wire,
};
#[cfg(test)]
pub(crate) use headers::error_reply;
pub(crate) use json::{
    DEPTH_MAX as JSON_DEPTH_MAX, append as append_json, from_slice as json_from_slice,
    is_deeper_than as is_json_deeper_than,
};
pub(crate) use reply::{
    CutShort, Reply, attachment, breakable_stream as breakable_stream_reply, bytes as bytes_reply,
    empty as empty_reply, json as json_reply, stream as stream_reply, text as text_reply,
};
pub(crate) use request_id::RequestId;
#[cfg(test)]
pub(crate) use route::RouteTable;
pub(crate) use route::{Limit, Patience, Route, route};
