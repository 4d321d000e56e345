//! What a client was told of one turn: all that it may later ask back.

use serde_json::Value;
use support::fake_ollama::Tokens;
use tokio::time::Instant;

/// What was asked. `question` is in no other turn, so rows and calls of the model server are found by it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) model: &'static str,
    pub(super) tokens: u64,
    pub(super) is_streamed: bool,
    /// The conversation that it goes on with.
    pub(super) continues: Option<String>,
    /// Whether the turn goes on without its client.
    pub(super) stays: bool,
}

impl Asked {
    /// All that the model says.
    pub(super) fn whole_answer(&self) -> String {
        Tokens::new(&self.question, -1).text(self.tokens)
    }
}

/// Ids as the client learnt them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) turn: String,
    pub(super) conversation: String,
    pub(super) message: String,
}

/// How it ended for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The last word: whether the answer is stored.
    Done { stored: Option<bool> },
    /// An error of this code, in place of an answer or at its end.
    Failed(String),
    /// A 503: the turn may or may not exist.
    Refused,
    /// The connection broke.
    Broken,
    /// The client left.
    Left,
}

#[derive(Debug)]
pub(super) struct Told {
    pub(super) asked: Asked,
    /// The life of the service that had it.
    pub(super) life: usize,
    /// A 200 began: the turn is promised to exist.
    pub(super) is_accepted: bool,
    /// It was told that it waits for a slot.
    pub(super) has_waited: bool,
    pub(super) names: Option<Names>,
    pub(super) text: String,
    /// How long the text was when.
    growth: Vec<(Instant, usize)>,
    pub(super) end: End,
    unread: Vec<u8>,
}

impl Told {
    pub(super) fn nothing_yet(asked: Asked, life: usize) -> Self {
        Self {
            asked,
            life,
            is_accepted: false,
            has_waited: false,
            names: None,
            text: String::new(),
            growth: Vec::new(),
            end: End::Broken,
            unread: Vec::new(),
        }
    }

    /// Bytes of the answer that were here at `at`.
    pub(super) fn heard_by(&self, at: Instant) -> usize {
        let later = self.growth.partition_point(|(when, _)| *when <= at);
        later.checked_sub(1).map_or(0, |last| self.growth[last].1)
    }

    /// Takes a piece of the reply's body.
    pub(super) fn hear(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
        if !self.asked.is_streamed {
            return;
        }
        let mut read = 0;
        while let Some(length) = self.unread[read..].windows(2).position(|two| two == b"\n\n") {
            let frame = String::from_utf8(self.unread[read..read + length].to_vec()).unwrap();
            read += length + 2;
            if !frame.starts_with(':') {
                self.event(&frame);
            }
        }
        self.unread.drain(..read);
        if self.growth.last().map_or(0, |(_, length)| *length) < self.text.len() {
            self.growth.push((Instant::now(), self.text.len()));
        }
    }

    fn event(&mut self, frame: &str) {
        self.is_accepted = true;
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let data: Value = serde_json::from_str(field("data: ")).unwrap();
        assert_eq!(self.end, End::Broken, "something after the last word: {frame}");
        match field("event: ") {
            "queue" => self.has_waited |= data["state"] == "waiting",
            "start" => self.names = Some(Names::of(&data, "turn_id")),
            "chunk" => self.text.push_str(data["content"].as_str().unwrap()),
            "done" => {
                assert_eq!(self.names.as_ref(), Some(&Names::of(&data, "id")), "another turn's end");
                self.end = End::Done { stored: data["stored"].as_bool() };
            }
            "error" => self.end = End::Failed(data["error"]["code"].as_str().unwrap().to_owned()),
            other => panic!("unknown event {other}"),
        }
    }

    /// The whole reply says how the turn failed; where it is kept is not said.
    pub(super) fn has_failed(&mut self) {
        let reply: Value = serde_json::from_slice(&self.unread).unwrap();
        self.end = End::Failed(reply["error"]["code"].as_str().unwrap().to_owned());
    }

    /// The reply is over, and was a good one.
    pub(super) fn is_whole(&mut self) {
        self.is_accepted = true;
        if !self.asked.is_streamed {
            let reply: Value = serde_json::from_slice(&self.unread).unwrap();
            self.names = Some(Names::of(&reply, "id"));
            self.text = reply["message"]["content"].as_str().unwrap().to_owned();
            self.end = End::Done { stored: reply["stored"].as_bool() };
        }
        assert_ne!(self.end, End::Broken, "a stream without a last word: {:?}", self.asked);
        self.unread = Vec::new();
    }
}

impl Names {
    fn of(data: &Value, turn: &str) -> Self {
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        Self { turn: text(turn), conversation: text("conversation_id"), message: text("message_id") }
    }
}
