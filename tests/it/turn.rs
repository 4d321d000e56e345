//! What the tests of turns say, and what they look at.

use std::time::Duration;

use deepersensor::config::Config;
use ractor::ActorCell;
use serde_json::{Value, json};
use support::fake_ollama::{Model, Request, Tokens};

use crate::harness::{Frame, Opened, Options, PATIENCE, Session, Store, TestApp, canaries, until};

/// How long running turns have when their service stops.
const GRACE: Duration = Duration::from_millis(200);

/// A service whose models have one slot each.
pub(crate) async fn service(store: Store, models: impl IntoIterator<Item = Model>) -> TestApp {
    service_with(store, models, |_| ()).await
}

/// The same, with other bounds.
pub(crate) async fn service_with(
    store: Store,
    models: impl IntoIterator<Item = Model>,
    tune: impl FnOnce(&mut Config) + 'static,
) -> TestApp {
    TestApp::start(options(store, models).tune(tune)).await
}

pub(crate) fn options(store: Store, models: impl IntoIterator<Item = Model>) -> Options {
    let short_grace = |config: &mut Config| config.http.drain_grace = GRACE;
    Options::on(store).models(models).set("OLLAMA_NUM_PARALLEL", 1).tune(short_grace)
}

/// What the model is told when `text` is asked.
pub(crate) fn told(text: &str) -> String {
    format!("{text}{}", canaries::PROMPT)
}

/// A stored chat of one message.
pub(crate) fn prompt(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": told(text) }] })
}

/// The same, of which only the usage is kept.
pub(crate) fn unstored(model: &str, text: &str) -> Value {
    let mut body = prompt(model, text);
    body["store"] = json!(false);
    body
}

/// What the fake model answers to `prompt`.
pub(crate) fn answer(prompt: &str, tokens: u64) -> String {
    Tokens::new(&told(prompt), -1).text(tokens)
}

/// A streamed answer and its events so far; dropping it hangs up.
pub(crate) struct Streamed {
    opened: Opened,
    pub(crate) frames: Vec<Frame>,
}

impl Streamed {
    pub(crate) fn new(opened: Opened) -> Self {
        Self { opened, frames: Vec::new() }
    }

    pub(crate) fn raw(&self) -> &str {
        std::str::from_utf8(&self.opened.raw).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.opened.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let frame = self.opened.next().await?;
        self.frames.push(frame.clone());
        Some(frame)
    }

    /// Reads up to the next event of this name.
    pub(crate) async fn until(&mut self, event: &str) -> Frame {
        while let Some(frame) = self.next().await {
            if frame.event == event {
                return frame;
            }
        }
        panic!("no {event} in {:#?}", self.frames)
    }

    /// Reads to the end, and returns the terminal event: there is one, and it is the last.
    pub(crate) async fn last(&mut self) -> Frame {
        self.frames.extend(self.opened.rest().await);
        let is_terminal = |frame: &&Frame| matches!(frame.event.as_str(), "done" | "error");
        assert_eq!(self.frames.iter().filter(is_terminal).count(), 1, "{:#?}", self.frames);
        self.frames.last().filter(is_terminal).unwrap_or_else(|| panic!("{:#?}", self.frames)).clone()
    }

    /// Reads to the `error` event that ends it, and returns its code.
    pub(crate) async fn failure(&mut self) -> String {
        let last = self.last().await;
        assert_eq!(last.event, "error", "{last:?}");
        last.data["error"]["code"].as_str().unwrap().to_owned()
    }

    /// What all events of this name say.
    pub(crate) fn said(&self, event: &str) -> String {
        let of_it = self.frames.iter().filter(|frame| frame.event == event);
        of_it.filter_map(|frame| frame.data["content"].as_str()).collect()
    }

    /// The answer so far.
    pub(crate) fn text(&self) -> String {
        self.said("chunk")
    }

    /// Up to where the answer was read: the last event's id.
    pub(crate) fn position(&self) -> &str {
        self.frames.last().map_or("0", |frame| &frame.id)
    }

    /// The turn's name, from its first event.
    pub(crate) fn turn_id(&self) -> &Value {
        &self.frames.first().expect("it says something").data["turn_id"]
    }

    /// The `start` event's data.
    pub(crate) fn start(&self) -> &Value {
        &self.frames.iter().find(|frame| frame.event == "start").expect("it has started").data
    }
}

impl TestApp {
    /// Asks for a streamed answer, and gets one.
    pub(crate) async fn ask(&self, session: &Session, body: &Value) -> Streamed {
        Streamed::new(self.stream(session, body).open().await.expect_status(200))
    }

    /// Reads a turn's answer after `position`, and along with it.
    pub(crate) async fn resume(&self, session: &Session, turn: &Value, position: &str) -> Streamed {
        let path = format!("/v1/turns/{}/stream", turn.as_str().unwrap());
        let call = self.get(&path).bearer(&session.access).header("last-event-id", position);
        Streamed::new(call.open().await.expect_status(200))
    }

    /// How a turn stands.
    pub(crate) async fn turn(&self, session: &Session, turn: &Value) -> Value {
        let path = format!("/v1/turns/{}", turn.as_str().unwrap());
        self.get(&path).bearer(&session.access).send().await.expect_status(200).json()
    }

    /// The chats that reached the model server, oldest first.
    pub(crate) fn asked(&self) -> Vec<Request> {
        let requests = self.ollama.control().requests();
        requests.into_iter().filter(|request| request.path == "/api/chat").collect()
    }

    /// What the last message of each of them asked.
    pub(crate) fn prompts(&self) -> Vec<String> {
        let last = |request: &Request| {
            let messages = request.json()["messages"].as_array().unwrap().clone();
            let told = messages[messages.len() - 1]["content"].as_str().unwrap();
            told.trim_end_matches(canaries::PROMPT).to_owned()
        };
        self.asked().iter().map(last).collect()
    }

    /// A conversation with its messages, as its owner reads it.
    pub(crate) async fn conversation(&self, session: &Session, id: &Value) -> Value {
        let path = format!("/v1/conversations/{}", id.as_str().unwrap());
        self.get(&path).bearer(&session.access).send().await.expect_status(200).json()
    }

    /// The only conversation of this user.
    pub(crate) async fn only_conversation(&self, session: &Session) -> Value {
        let list =
            self.get("/v1/conversations").bearer(&session.access).send().await.expect_status(200).json();
        assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list:#}");
        list["data"][0]["id"].clone()
    }

    /// The last message of a conversation once its turn has ended.
    pub(crate) async fn settled(&self, session: &Session, conversation: &Value) -> Value {
        let mut last = Value::Null;
        until("the turn to be settled", async || {
            let messages = self.conversation(session, conversation).await["messages"].clone();
            last = messages.as_array().unwrap().last().unwrap().clone();
            last["status"] != "streaming"
        })
        .await;
        last
    }

    /// A model's `{"slots","running","waiting"}`.
    pub(crate) async fn queue(&self, session: &Session, model: &str) -> Value {
        let path = format!("/v1/models/{model}");
        self.get(&path).bearer(&session.access).send().await.expect_status(200).json()["queue"].clone()
    }

    /// Has the model server load a model, so that later turns find it loaded.
    pub(crate) async fn warm_up(&self, session: &Session, model: &str) {
        self.chat(session, &unstored(model, "warm up")).send().await.expect_status(200);
    }
}

/// The actors of one service, to be killed.
pub(crate) struct Actors(String);

impl Actors {
    pub(crate) async fn of(app: &TestApp) -> Self {
        Self(app.system_name().await)
    }

    /// The living actor at `path` of the tree.
    pub(crate) fn at(&self, path: &str) -> ActorCell {
        let name = format!("{}/{path}", self.0);
        ractor::registry::where_is(&name).unwrap_or_else(|| panic!("no actor {name}"))
    }

    /// Kills the actor at `path`, and returns when nothing of it runs any more.
    pub(crate) async fn kill(&self, path: &str) {
        self.at(path).kill_and_wait(Some(PATIENCE)).await.unwrap();
    }

    /// Waits until another incarnation lives at `path`.
    pub(crate) async fn back(&self, path: &str) {
        let name = format!("{}/{path}", self.0);
        until("an actor to be back", async || ractor::registry::where_is(&name).is_some()).await;
    }
}
