//! One trace for each request, from HTTP to the model server, as a collector receives it.

use std::collections::BTreeMap;

use serde_json::json;
use support::otlp::Span;

use super::{BROKEN, Ground};
use crate::{
    harness::{Call, MODEL, PATIENCE, Reply},
    turn::{Streamed, prompt},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// The spans of one trace by their names; of several with one name, the last.
struct Tree(BTreeMap<String, Span>);

impl Tree {
    /// Waits for the trace of this request, whose first span is sent after all others that the reply waited for.
    async fn of(ground: &Ground, request_id: &str) -> Self {
        let root = ground.collector.wait_for(PATIENCE, |collector| {
            let is_root = |span: &Span| {
                span.attributes.get("deepersensor.request.id").is_some_and(|id| id == request_id)
            };
            collector.spans().into_iter().find(is_root)
        });
        let root = root.await.unwrap();
        let spans = ground.collector.spans();
        let of_trace: Vec<_> = spans.into_iter().filter(|span| span.trace == root.trace).collect();
        for span in &of_trace {
            let has_parent = of_trace.iter().any(|other| other.id == span.parent);
            assert!(span.id == root.id || has_parent, "{} hangs in the air", span.name);
            assert!(span.ends >= span.begins && span.begins >= root.begins, "{span:?}");
        }
        Self(of_trace.into_iter().map(|span| (span.name.clone(), span)).collect())
    }

    fn span(&self, name: &str) -> &Span {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.0.keys()))
    }

    /// Asserts that each is the parent of the next.
    fn assert_path(&self, names: &[&str]) {
        for pair in names.windows(2) {
            assert_eq!(self.span(pair[1]).parent, self.span(pair[0]).id, "{} is not in {}", pair[1], pair[0]);
        }
    }
}

fn request_id(reply: &Reply) -> String {
    reply.header("x-request-id").unwrap().to_owned()
}

/// What the model server was told of the last chat's place in a trace.
fn told_upstream(ground: &Ground) -> Option<String> {
    let requests = ground.ollama.control().requests();
    let chat = requests.iter().rfind(|request| request.path == "/api/chat").unwrap();
    chat.header("traceparent").map(str::to_owned)
}

#[tokio::test]
async fn b13_one_tree_leads_from_http_to_the_model_server_with_the_request_id_of_the_reply() {
    let ground = Ground::whole(&[("OTEL_SERVICE_NAME", "the-gateway")]).await;
    let first = ground.chat("/v1/chat", &prompt(MODEL, "hi")).send().await.expect_status(200).json();
    let mut body = prompt(MODEL, "and then?");
    body["conversation_id"] = first["conversation_id"].clone();
    let mut events = Streamed::new(ground.chat("/v1/chat/stream", &body).open().await);
    let id = events.header("x-request-id").unwrap().to_owned();
    let done = events.last().await;
    assert_eq!(done.event, "done", "{done:?}");

    let tree = Tree::of(&ground, &id).await;
    let root = tree.span("http.chat.stream.post");
    assert_eq!((root.parent.as_str(), root.kind, root.service.as_str()), ("", 2, "the-gateway"));
    for path in [
        &["http.chat.stream.post", "auth.token.verify"][..],
        &["http.chat.stream.post", "limits.address.take"],
        &["http.chat.stream.post", "limits.user.take", "redis.limits.take"],
        &["http.chat.stream.post", "db.conversations.branch"],
        &["http.chat.stream.post", "db.turns.begin"],
        &["http.chat.stream.post", "model.queue.wait"],
        &["http.chat.stream.post", "limits.streams.lease", "redis.streams.lease"],
        &["http.chat.stream.post", "model.generate", "model.load.wait"],
        &["http.chat.stream.post", "model.generate", "upstream.chat.post"],
        &["http.chat.stream.post", "db.turns.settle"],
    ] {
        // Two buckets are asked: this one's span was the last of its name.
        if path.contains(&"redis.limits.take") {
            let asked = tree.span("redis.limits.take");
            assert!(tree.0.values().any(|span| span.id == asked.parent && span.name.starts_with("limits.")));
            continue;
        }
        tree.assert_path(path);
    }
    let usage = &done.data["usage"];
    let told = |span: &str, name: &str| tree.span(span).attributes.get(name).cloned().unwrap_or_default();
    for (name, wanted) in [
        ("deepersensor.request.id", id.as_str()),
        ("http.route", "/v1/chat/stream"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("user.id", &ground.ada.user),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", MODEL),
        ("gen_ai.usage.input_tokens", &usage["prompt_tokens"].to_string()),
        ("gen_ai.usage.output_tokens", &usage["completion_tokens"].to_string()),
        ("gen_ai.response.finish_reasons", done.data["finish_reason"].as_str().unwrap()),
        ("deepersensor.turn.status", "complete"),
        ("deepersensor.turn.id", done.data["id"].as_str().unwrap()),
    ] {
        assert_eq!(told("http.chat.stream.post", name), wanted, "{name}");
    }
    assert_eq!(told("db.turns.settle", "db.system.name"), "", "of a change the store is not known");
    assert_eq!(told("db.conversations.branch", "db.system.name"), "postgresql");
    assert_eq!(told("redis.streams.lease", "db.system.name"), "redis");
    assert_eq!(told("model.generate", "gen_ai.provider.name"), "ollama");
    assert!(tree.0.values().all(|span| !span.has_failed), "{:#?}", tree.0);

    let upstream = tree.span("upstream.chat.post");
    assert_eq!(
        (upstream.kind, told_upstream(&ground)),
        (3, Some(format!("00-{}-{}-01", root.trace, upstream.id)))
    );
    let line = ground.line(&id, "request").await;
    assert_eq!(line["trace_id"], root.trace);
    ground.finish().await;
}

#[tokio::test]
async fn a_long_answer_has_no_more_spans_than_a_short_one() {
    let ground = Ground::small(&[]).await;
    let mut spans = Vec::new();
    for tokens in [1, 2_000] {
        ground.ollama.control().change_model(MODEL, |model| *model = model.clone().tokens(tokens));
        let mut body = prompt(MODEL, "hi");
        body["store"] = false.into();
        let mut events = Streamed::new(ground.chat("/v1/chat/stream", &body).open().await);
        let id = events.header("x-request-id").unwrap().to_owned();
        assert_eq!(events.last().await.event, "done");
        // The usage of a chat that is not stored is written after it.
        let mut names: Vec<_> = Tree::of(&ground, &id).await.0.into_keys().collect();
        names.retain(|name| !name.starts_with("db."));
        spans.push(names);
    }
    assert_eq!(spans[0], spans[1]);
    ground.finish().await;
}

#[tokio::test]
async fn b13_a_trusted_proxy_decides_about_its_trace_and_nonsense_begins_a_new_one() {
    let ground = Ground::small(&[]).await;
    let ask = async |headers: &[(&str, &str)]| {
        let chat = ground.chat("/v1/chat", &prompt(MODEL, "hi"));
        let chat = headers.iter().fold(chat, |chat, (name, value)| chat.header(name, value));
        request_id(&chat.send().await.expect_status(200))
    };
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let id = ask(&[("traceparent", &sampled), ("tracestate", "vendor=1")]).await;
    let tree = Tree::of(&ground, &id).await;
    let root = tree.span("http.chat.post");
    assert_eq!((root.trace.as_str(), root.parent.as_str()), (TRACE, PARENT));
    assert!(told_upstream(&ground).unwrap().starts_with(&format!("00-{TRACE}-")));

    let unsampled = "00-11111111111111111111111111111111-2222222222222222-00";
    ask(&[("traceparent", unsampled)]).await;
    let told = told_upstream(&ground).unwrap();
    assert!(told.starts_with("00-11111111111111111111111111111111-") && told.ends_with("-00"), "{told}");

    let id = ask(&[("traceparent", &format!("{sampled}-and-more"))]).await;
    let fresh = Tree::of(&ground, &id).await;
    let root = fresh.span("http.chat.post");
    assert!(root.trace != TRACE && root.parent.is_empty(), "{root:?}");
    // What came before it was sent before it.
    let traces = ground.collector.spans().into_iter().map(|span| span.trace);
    assert_eq!(traces.filter(|trace| trace.starts_with("1111")).count(), 0);
    ground.finish().await;
}

#[tokio::test]
async fn b13_a_stranger_neither_joins_a_trace_nor_decides_whether_one_is_recorded() {
    let ground = Ground::small(&[("TRUSTED_PROXY_IPS", "")]).await;
    for flags in ["00", "01"] {
        let parent = format!("00-{TRACE}-{PARENT}-{flags}");
        let models = ground.get("/v1/models").header("traceparent", &parent).send().await.expect_status(200);
        let tree = Tree::of(&ground, &request_id(&models)).await;
        let root = tree.span("http.models.get");
        assert!(root.trace != TRACE && root.parent.is_empty(), "{root:?}");
    }
    ground.finish().await;
}

#[tokio::test]
async fn of_a_share_of_none_only_what_a_trusted_proxy_records_is_recorded() {
    let ground = Ground::small(&[("OTEL_TRACES_SAMPLER_ARG", "0")]).await;
    for _ in 0..10 {
        ground.chat("/v1/chat", &prompt(MODEL, "hi")).send().await.expect_status(200);
        assert!(told_upstream(&ground).unwrap().ends_with("-00"));
    }
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let asked = ground.get("/v1/models").header("traceparent", &parent).send().await.expect_status(200);
    Tree::of(&ground, &request_id(&asked)).await.span("http.models.get");
    assert!(ground.collector.spans().iter().all(|span| span.trace == TRACE));
    ground.finish().await;
}

#[tokio::test]
async fn a_failed_turn_fails_its_spans_by_a_word_and_monitors_leave_none() {
    let ground = Ground::small(&[]).await;
    for path in ["/health", "/healthz", "/readyz"] {
        ground.get(path).send().await.expect_status(200);
    }
    let refused = ground.chat("/v1/chat", &prompt(BROKEN, "hi")).send().await;
    let unknown = ground.get("/v1/models/nobody-knows-it").send().await.expect_status(404);
    let tree = Tree::of(&ground, &request_id(&unknown)).await;
    assert_eq!(tree.span("http.models.get").attributes["error.type"], "not_found");
    let tree = Tree::of(&ground, &request_id(&refused)).await;
    assert!(tree.span("http.chat.post").has_failed, "{:#?}", tree.0);
    let monitored = ["http.health.get", "http.healthz.get", "http.readyz.get", "http.metrics.get"];
    assert!(ground.collector.spans().iter().all(|span| !monitored.contains(&span.name.as_str())));
    ground.finish().await;
}

#[tokio::test]
async fn f04_b13_a_key_in_front_of_a_path_is_in_no_line_and_in_no_span_whatever_is_logged() {
    let ground = Ground::small(&[("API_KEY_IN_PATH", "true"), ("RUST_LOG", "trace")]).await;
    let body = json!({ "name": "a key", "scopes": ["chat", "models"] });
    let made = ground.chat("/v1/api-keys", &body).send().await.expect_status(201).json();
    let path = format!("/k/{}/api/chat", made["key"].as_str().unwrap());
    let call = Call::new(ground.gateway.addr, "POST", &path).json(&prompt(MODEL, "hi"));
    let id = request_id(&call.send().await.expect_status(200));
    let tree = Tree::of(&ground, &id).await;
    assert_eq!(tree.span("http.api.chat.post").attributes["http.route"], "/api/chat");
    assert_eq!(ground.line(&id, "request").await["route"], "/api/chat");
    let refused = Call::new(ground.gateway.addr, "GET", &path).send().await.expect_status(405);
    assert_eq!(ground.line(&request_id(&refused), "request").await["route"], "/api/chat");
    ground.finish().await;
}
