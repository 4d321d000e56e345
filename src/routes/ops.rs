//! The operators' own listener: metrics, the live tree and its news. It asks for the operators' token where there is one, and for
//! nothing on an address that only this machine reaches.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actors::{
    clock::Clock,
    ops::NewsReader,
    system::System,
    tree::{NEWS_KEPT, News},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::unfold;
use http::StatusCode;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prometheus_client::encoding::text::encode;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::exposition::Format;
use crate::http::{ApiError, Call, Reply, append_json, json_reply, stream_reply, text_reply};

pub(crate) async fn metrics(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let format = Format::asked_by(&call.head.headers);
    let mut text = String::new();
    encode(&mut text, &system.registry.lock()).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(text_reply(format.content_type(), format.of(text)))
}

pub(crate) async fn actors(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(json_reply(StatusCode::OK, &system.ops.tree().await?))
}

/// Tells what happens to the tree as it happens, as server-sent events: `hello`, then `news`, each with an id.
///
/// `after` is the id that a reader has last; without it, `last` is how many pieces of earlier news it wants.
pub(crate) async fn events(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let after = call.query("after", "give the id of a piece of news", |text| text.parse().ok())?;
    let last = call.query("last", "give a whole number of at most what is kept", |text| {
        text.parse().ok().filter(|last| *last <= NEWS_KEPT as u64)
    })?;
    let reader = system.ops.news(after, last.unwrap_or_default());
    let hello =
        event("hello", &reader.at.to_string(), &Hello { system: system.ops.system(), missed: reader.missed });
    let watch = Watch {
        reader,
        hello: Some(hello),
        clock: system.clock().clone(),
        heartbeat: call.config.heartbeat,
        ending: call.ending,
    };
    let frames = unfold(watch, |mut watch| async {
        let frame = watch.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), watch))
    });
    Ok(stream_reply("text/event-stream", StreamBody::new(frames)))
}

/// One reader's way through the news.
struct Watch {
    reader: NewsReader,
    hello: Option<Bytes>,
    clock: Clock,
    heartbeat: Duration,
    ending: CancellationToken,
}

#[derive(Serialize)]
struct Hello<'a> {
    system: &'a str,
    /// Pieces of news after the one the reader has that are no longer kept.
    missed: u64,
}

#[derive(Serialize)]
struct Piece<'a> {
    id: &'a str,
    at: DateTime<Utc>,
    #[serde(flatten)]
    news: &'a News,
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(hello) = self.hello.take() {
            return Some(hello);
        }
        tokio::select! {
            news = self.reader.next() => news.map(|(news, ago)| self.tell(&news, ago)),
            () = sleep(self.heartbeat) => Some(Bytes::from_static(b":\n\n")),
            () = self.ending.cancelled() => None,
        }
    }

    fn tell(&self, news: &News, ago: Duration) -> Bytes {
        let id = self.reader.at.to_string();
        let at = self.clock.now() - TimeDelta::from_std(ago).unwrap_or_default();
        event("news", &id, &Piece { id: &id, at, news })
    }
}

fn event(name: &str, id: &str, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\nid: {id}\ndata: ").into_bytes();
    append_json(&mut text, data);
    text.extend_from_slice(b"\n\n");
    text.into()
}
