//! The operators' own listener: metrics and the live tree, without credentials, for this machine only.

use std::sync::Arc;

use actors::system::System;
use http::StatusCode;
use prometheus_client::encoding::text::encode;

use crate::http::{ApiError, Call, Reply, json_reply, text_reply};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn metrics(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    let mut text = String::new();
    encode(&mut text, &system.registry.lock()).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(text_reply(OPENMETRICS, text))
}

pub(crate) async fn actors(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(json_reply(StatusCode::OK, &system.ops.tree().await?))
}
