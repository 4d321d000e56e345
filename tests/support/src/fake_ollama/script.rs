//! Scenarios as bytes: the steps a stream takes, and how it ends.

use std::time::Duration;

use serde_json::{Value, json};

use super::http::response::{Head, Length};
use super::json;
use super::lines::Lines;
use super::scenario::{Framing, Garbage, LastLine, Scenario, ToolCalls};

/// Lets the bytes before leave in a segment of their own.
const SEGMENT_PAUSE: Duration = Duration::from_millis(10);
/// A reset must not overtake the bytes before it.
const RESET_PAUSE: Duration = Duration::from_millis(20);
const HTML: &str = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n<center><h1>502 Bad Gateway</h1></center>\n</body>\n</html>\n";

#[derive(Debug)]
pub(crate) enum Step {
    /// One chunk in one write.
    Chunk(Vec<u8>),
    /// Bytes that are not framed.
    Raw(Vec<u8>),
    /// A token's line was just sent.
    Token,
    /// The answer's end comes next: the slot is free.
    Finish,
    Wait(Duration),
    /// Until the peer leaves.
    Silence,
    /// This chunk, until the peer leaves.
    Forever(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Clean,
    Fin,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Script {
    /// Sent before the head.
    pub(crate) preamble: &'static [u8],
    pub(crate) head: Head,
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
}

impl Script {
    /// The script of a stream, `None` for those that are not streams or have nothing special in them.
    pub(crate) fn of(scenario: Scenario, lines: &mut Lines, tokens: u64) -> Option<Self> {
        let script = Self { preamble: b"", head: lines.head(), steps: vec![], ending: Ending::Clean };
        let mut play = Play { lines, tokens, script };
        match scenario {
            Scenario::ErrorLine { after } => {
                let line = play.lines.error("boom");
                play.tokens(after).finish().chunk(line);
            }
            Scenario::NoDone { after } => {
                play.tokens(after).finish();
            }
            Scenario::Fin { after, half_line } => play.tokens(after).broken(half_line, Ending::Fin),
            Scenario::Reset { after, half_line } => play.tokens(after).broken(half_line, Ending::Reset),
            Scenario::Stall { after } => {
                play.tokens(after).step(Step::Silence);
            }
            Scenario::HalfLines { pause } => play.whole(|line| {
                let (one, two) = line.split_at(line.len() / 2);
                vec![Step::Chunk(one.to_vec()), Step::Wait(pause), Step::Chunk(two.to_vec())]
            }),
            Scenario::LinesPerChunk { lines } => play.lines_per_chunk(lines),
            Scenario::ByteChunks => {
                play.whole(|line| line.iter().map(|byte| Step::Chunk(vec![*byte])).collect());
            }
            Scenario::Utf8Split => play.split("😀".as_bytes(), 2),
            Scenario::EscapeSplit => play.split(br"\ud83d\ude00", 6),
            Scenario::HugeContext { bytes } => {
                // Seven bytes for a number and its comma.
                let context: Vec<u32> = (0..u32::try_from(bytes / 7).unwrap_or(u32::MAX))
                    .map(|i| 100_000 + i % 900_000)
                    .collect();
                play.tokens(tokens).end("", json!({}), Some("stop"), json!({ "context": context }));
            }
            Scenario::HugeLine { bytes } => {
                let line = play.lines.content(&"x".repeat(bytes));
                play.chunk(line).token().end("", json!({}), Some("stop"), json!({}));
            }
            Scenario::EndlessLine => {
                let line = play.lines.unended();
                play.chunk(line).step(Step::Forever(vec![b'x'; 64 << 10]));
            }
            Scenario::LastLine(last) => play.last_line(last),
            Scenario::Thinking => play.thinking(),
            Scenario::ToolCalls(style) => play.tool_calls(style),
            Scenario::Logprobs => play.logprobs(),
            Scenario::Garbage(garbage) => play.garbage(garbage),
            Scenario::Framing(framing) => play.framing(framing),
            Scenario::Normal
            | Scenario::SlowHeaders { .. }
            | Scenario::Error { .. }
            | Scenario::SignIn
            | Scenario::OutOfMemory
            | Scenario::BusyThenOk { .. }
            | Scenario::StallBeforeHeaders => return None,
        }
        Some(play.script)
    }
}

struct Play<'l> {
    lines: &'l mut Lines,
    tokens: u64,
    script: Script,
}

impl Play<'_> {
    fn step(&mut self, step: Step) -> &mut Self {
        self.script.steps.push(step);
        self
    }

    fn chunk(&mut self, bytes: Vec<u8>) -> &mut Self {
        self.step(Step::Chunk(bytes))
    }

    fn token(&mut self) -> &mut Self {
        self.step(Step::Token)
    }

    fn finish(&mut self) -> &mut Self {
        self.step(Step::Finish)
    }

    fn tokens(&mut self, count: u64) -> &mut Self {
        for index in 0..count {
            let line = self.lines.token_line(index);
            self.chunk(line).token();
        }
        self
    }

    fn last(&mut self, text: &str, in_message: Value, reason: Option<&str>, in_line: Value) -> Vec<u8> {
        let sent = self.script.steps.iter().filter(|step| matches!(step, Step::Token)).count() as u64;
        self.lines.last(text, in_message, reason, Some(sent), in_line)
    }

    fn end(&mut self, text: &str, in_message: Value, reason: Option<&str>, in_line: Value) {
        let line = self.last(text, in_message, reason, in_line);
        self.finish().chunk(line);
    }

    fn normal_end(&mut self) {
        self.end("", json!({}), Some("stop"), json!({}));
    }

    /// A normal answer, each line of which is sent by `cut`.
    fn whole(&mut self, cut: impl Fn(&[u8]) -> Vec<Step>) {
        for index in 0..self.tokens {
            let line = self.lines.token_line(index);
            self.script.steps.extend(cut(&line));
            self.token();
        }
        let line = self.last("", json!({}), Some("stop"), json!({}));
        self.finish();
        self.script.steps.extend(cut(&line));
    }

    fn lines_per_chunk(&mut self, count: usize) {
        let mut chunk = Vec::new();
        for index in 0..self.tokens {
            self.lines.token(index, &mut chunk);
            self.token();
            if (index + 1).is_multiple_of(count.max(1) as u64) {
                let full = std::mem::take(&mut chunk);
                self.chunk(full);
            }
        }
        let last = self.last("", json!({}), Some("stop"), json!({}));
        chunk.extend(last);
        self.finish().chunk(chunk);
    }

    fn broken(&mut self, half_line: bool, ending: Ending) {
        let line = self.lines.token_line(u64::MAX);
        if half_line {
            self.chunk(line[..line.len() / 2].to_vec());
        }
        self.finish().step(Step::Wait(RESET_PAUSE));
        self.script.ending = ending;
    }

    /// A line that contains `what`, cut `at` bytes inside it.
    fn split(&mut self, what: &[u8], at: usize) {
        let line = self.lines.content("face 😀 !");
        let (start, end) =
            line.split_at(line.windows(4).position(|bytes| bytes == "😀".as_bytes()).unwrap_or(0));
        let (one, two) = ([start, &what[..at]].concat(), [&what[at..], &end[4..]].concat());
        self.chunk(one).step(Step::Wait(SEGMENT_PAUSE)).chunk(two).token().normal_end();
    }

    fn last_line(&mut self, last: LastLine) {
        match last {
            LastLine::WithContent => {
                let (before, text) =
                    (self.tokens.saturating_sub(1), self.lines.text(self.tokens.saturating_sub(1)));
                self.tokens(before).token().end(text, json!({}), Some("stop"), json!({}));
            }
            LastLine::NoMetrics => {
                self.tokens(self.tokens);
                let line = self.lines.last("", json!({}), Some("stop"), None, json!({}));
                self.finish().chunk(line);
            }
            LastLine::UnknownReason => {
                self.tokens(self.tokens).end("", json!({}), Some("mystery"), json!({}))
            }
            LastLine::NoReason => self.tokens(self.tokens).end("", json!({}), None, json!({})),
        }
    }

    fn thinking(&mut self) {
        for index in 0..11 {
            let text = self.lines.text(index);
            let line = match index {
                0..5 => self.lines.message("", json!({ "thinking": text }), json!({})),
                5 => self.lines.message(text, json!({ "thinking": " so" }), json!({})),
                _ => self.lines.content(text),
            };
            self.chunk(line).token();
        }
        self.normal_end();
    }

    fn tool_calls(&mut self, style: ToolCalls) {
        let call = |id: Option<&str>, index: u64, name: &str| {
            let function =
                json!({ "index": index, "name": name, "arguments": { "city": "Oslo", "days": 2 } });
            match id {
                Some(id) => json!({ "id": id, "function": function }),
                None => json!({ "function": function }),
            }
        };
        let weather = || json!({ "tool_calls": [call(Some("call_k3x9a0bz"), 0, "get_weather")] });
        match style {
            ToolCalls::LastLine => self.tokens(2).end("", weather(), Some("stop"), json!({})),
            ToolCalls::MidLine => {
                let calls = json!({ "tool_calls": [call(None, 0, "get_weather")] });
                let line = self.lines.message("", calls, json!({}));
                self.tokens(2).chunk(line).token().normal_end();
            }
            ToolCalls::Two => {
                let calls = [call(Some("call_a"), 0, "get_weather"), call(Some("call_b"), 1, "get_tides")];
                let line = self.lines.message("", json!({ "tool_calls": calls }), json!({}));
                self.chunk(line).token().normal_end();
            }
            ToolCalls::AfterSilence(silence) => {
                self.tokens(2).step(Step::Wait(silence)).end("", weather(), Some("stop"), json!({}));
            }
        }
    }

    fn logprobs(&mut self) {
        for index in 0..self.tokens {
            let token = self.lines.text(index);
            let logprobs =
                json!({ "logprobs": [{ "token": token, "logprob": -0.25, "bytes": token.as_bytes() }] });
            let quiet = self.lines.message("", json!({}), logprobs);
            let line = self.lines.content(token);
            self.chunk(quiet).chunk(line).token();
        }
        self.normal_end();
    }

    fn garbage(&mut self, garbage: Garbage) {
        match garbage {
            Garbage::HtmlBadGateway | Garbage::HtmlOk => {
                let status = if garbage == Garbage::HtmlOk { 200 } else { 502 };
                let length = Length::Known(HTML.len());
                self.script.head = Head { status, content_type: "text/html", length, lower_case: false };
                self.finish().chunk(HTML.as_bytes().to_vec());
            }
            Garbage::InvalidJson => {
                let line = self.lines.nonsense();
                self.tokens(3).chunk(line).normal_end();
            }
            Garbage::CrLf => {
                // A line feed never stands inside of JSON.
                self.whole(|line| {
                    let lines = line.split(|byte| *byte == b'\n');
                    vec![Step::Chunk(lines.collect::<Vec<_>>().join(&b"\r\n"[..]))]
                })
            }
            Garbage::BlankLine => {
                self.tokens(3).chunk(b"\n".to_vec()).normal_end();
            }
            Garbage::Bom => {
                self.chunk(b"\xef\xbb\xbf".to_vec()).tokens(3).normal_end();
            }
            Garbage::DoubleDone => {
                self.tokens(3);
                let line = self.last("", json!({}), Some("stop"), json!({}));
                self.finish().chunk(line.clone()).chunk(line);
            }
            Garbage::AfterDone => {
                self.tokens(3).normal_end();
                let line = self.lines.token_line(4);
                self.chunk(line).chunk(b"and more".to_vec());
            }
        }
    }

    fn framing(&mut self, framing: Framing) {
        self.tokens(self.tokens).normal_end();
        let body = |steps: &[Step]| {
            let chunks = steps
                .iter()
                .filter_map(|step| if let Step::Chunk(bytes) = step { Some(bytes.len()) } else { None });
            chunks.sum()
        };
        let head = &mut self.script.head;
        match framing {
            Framing::ContentLength => head.length = Length::Known(body(&self.script.steps)),
            Framing::CloseDelimited => head.length = Length::Close,
            Framing::LowerCase => head.lower_case = true,
            Framing::Informational => {
                self.script.preamble = b"HTTP/1.1 103 Early Hints\r\nLink: </>; rel=preload\r\n\r\n";
            }
            Framing::ChunkExtensions => {
                // The head is written as for any chunked reply, the chunks by hand.
                for step in &mut self.script.steps {
                    if let Step::Chunk(bytes) = step {
                        let size = format!("{:X};speed=fast;note=\"a;b\"\r\n", bytes.len());
                        *step = Step::Raw([size.as_bytes(), bytes, b"\r\n"].concat());
                    }
                }
            }
        }
    }
}

/// The body of an error reply.
pub(crate) fn error_body(message: &str) -> String {
    json::to_go(&json!({ "error": message }))
}
