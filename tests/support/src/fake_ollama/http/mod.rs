//! HTTP/1.1 by hand: a fake must be able to frame its replies wrongly, which a library rightly refuses to do.

pub(crate) mod request;
pub(crate) mod response;
