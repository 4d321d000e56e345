//! Somebody who asks one thing after the other, whatever becomes of the service, and keeps what they were told.

use std::time::Duration;

use serde_json::json;
use support::{
    client::{Connection, with_body},
    fake_ollama::Model,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    scene::{Life, Scene, View},
    told::{Asked, End, Told},
};
use crate::harness::{MODEL, PATIENCE, Random};

/// A few words at once; a long text fast, of which much is checkpointed by its size; a short one slowly, by its age.
pub(super) const SHORT: &str = MODEL;
pub(super) const LONG: &str = "llama3.2:latest";
pub(super) const SLOW: &str = "gemma3:4b";

/// Slots of each model: fewer than those who ask, so that there is always a queue.
pub(super) const SLOTS: usize = 2;

/// Callers of one account, each with conversations of their own.
const CALLERS: usize = 3;

/// Turns in a conversation before another one is begun: history is sent again with each.
const TURNS: usize = 6;

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(20);
/// Who leaves does so within this long.
const LEAVES_WITHIN: Duration = Duration::from_millis(400);

pub(super) fn models() -> [Model; 3] {
    let model = |name| Model::new(name).parallel(SLOTS).tokens(100_000);
    [
        model(SHORT).tokens_per_s(300.0),
        model(LONG).tokens_per_s(3_000.0).batch_lines(30),
        model(SLOW).tokens_per_s(25.0),
    ]
}

pub(super) struct Caller {
    name: String,
    access: String,
    random: Random,
    view: View,
    asked: usize,
    /// The conversation it has, and its turns.
    conversation: Option<(String, usize)>,
}

/// Lets the callers of every account ask until the scene ends; gives back what each was told, in order.
pub(super) fn all_ask(scene: &Scene, accounts: &[String], random: &mut Random) -> JoinSet<Vec<Told>> {
    let mut callers = JoinSet::new();
    for (number, access) in accounts.iter().enumerate() {
        for caller in 0..CALLERS {
            let caller = Caller {
                name: format!("caller {caller} of account {number}"),
                access: access.clone(),
                random: random.split(),
                view: scene.view(),
                asked: 0,
                conversation: None,
            };
            callers.spawn(caller.ask_on());
        }
    }
    callers
}

impl Caller {
    async fn ask_on(mut self) -> Vec<Told> {
        let mut all = Vec::new();
        let mut died = None;
        while let Some(life) = self.view.next(died).await {
            died = None;
            match self.ask(life).await {
                None => died = Some(life.number),
                Some(told) => {
                    if told.end == End::Broken {
                        died = Some(life.number);
                    }
                    if let Some(names) = &told.names {
                        let turns = self.conversation.take().filter(|(id, _)| *id == names.conversation);
                        self.conversation =
                            Some((names.conversation.clone(), turns.map_or(1, |(_, turns)| turns + 1)));
                    }
                    all.push(told);
                }
            }
            sleep(self.random.between(Duration::ZERO, PAUSE)).await;
        }
        all
    }

    fn next(&mut self) -> Asked {
        self.asked += 1;
        let random = &mut self.random;
        let (model, least, most) = match random.below(10) {
            0..5 => (SHORT, 1, 40),
            5..8 => (LONG, 800, 8_000),
            _ => (SLOW, 5, 70),
        };
        let goes_on = random.in_share(0.7);
        Asked {
            question: format!(
                "{} asks for the {}th time: \"wie spät\\\u{2028} ist's\" 😀?",
                self.name, self.asked
            ),
            model,
            tokens: (least + random.below(most - least)) as u64,
            is_streamed: random.in_share(0.75),
            continues: self
                .conversation
                .as_ref()
                .filter(|(_, turns)| goes_on && *turns < TURNS)
                .map(|(id, _)| id.clone()),
            stays: random.in_share(0.15),
        }
    }

    /// Asks once; `None` when there was nobody to ask.
    async fn ask(&mut self, life: Life) -> Option<Told> {
        let asked = self.next();
        let leaves_after =
            self.random.in_share(0.12).then(|| self.random.between(Duration::ZERO, LEAVES_WITHIN));
        let mut body = json!({
            "model": asked.model,
            "messages": [{ "role": "user", "content": asked.question }],
            "options": { "num_predict": asked.tokens },
        });
        if let Some(conversation) = &asked.continues {
            body["conversation_id"] = json!(conversation);
        }
        if asked.stays {
            body["on_disconnect"] = json!("continue");
        }
        let path = if asked.is_streamed { "POST /v1/chat/stream" } else { "POST /v1/chat" };
        let bearer = format!("Authorization: Bearer {}\r\n", self.access);
        let request = with_body(life.addr, path, &bearer, &body.to_string());
        let mut connection = Connection::open(life.addr).await.ok()?;
        let mut told = Told::nothing_yet(asked, life.number);
        let answered = {
            let answered = connection.ask(request.as_bytes(), |piece| told.hear(piece));
            let leaves = async {
                match leaves_after {
                    Some(after) => sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answered = timeout(PATIENCE, answered) => Some(answered.expect("an answer, a refusal or an end")),
                () = leaves => None,
            }
        };
        match answered {
            None => told.end = End::Left,
            Some(Ok(200)) => told.is_whole(),
            Some(Ok(503)) => told.end = End::Refused,
            Some(Ok(500)) => told.has_failed(),
            Some(Ok(status)) => panic!("{status} for {told:?}"),
            Some(Err(_)) => {
                // Only good answers are streams, and their head says what they are.
                told.is_accepted |=
                    connection.header("content-type").is_some_and(|what| what == "text/event-stream");
            }
        }
        Some(told)
    }
}
