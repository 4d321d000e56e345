//! The operators' own listener: metrics and the live tree. It asks for the operators' token where there is one, and for
//! nothing on an address that only this machine reaches.

use std::sync::Arc;

use actors::system::System;
use http::StatusCode;
use prometheus_client::encoding::text::encode;

use super::exposition::Format;
use crate::http::{ApiError, Call, Reply, json_reply, text_reply};

pub(crate) async fn metrics(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let format = Format::asked_by(&call.head.headers);
    let mut text = String::new();
    encode(&mut text, &system.registry.lock()).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(text_reply(format.content_type(), format.of(text)))
}

pub(crate) async fn actors(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(json_reply(StatusCode::OK, &system.ops.tree().await?))
}
