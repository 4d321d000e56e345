//! Dialects: how chats are written on the wire. A dialect reads its own requests into the domain's and encodes the
//! events of a turn for its own clients; what a turn is, it does not know.

pub(crate) mod native;
