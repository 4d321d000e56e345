//! How a request goes wrong: the scenarios of the wire guide, as data.
//!
//! A scenario belongs to a model ([`super::Model::scenario`], changed at run time by [`super::Control`]), to a single
//! request (header `x-fake: <name>`), or to a model name: `fake-<name>:latest` is served without being configured.
//! [`Scenario::CATALOGUE`] lists the names. Line scenarios shape streams; a request with `"stream":false` gets a
//! normal answer, or the error, delay or silence that stands before the first line.

use std::time::Duration;

/// What happens to a chat or generate request. `after` counts the whole token lines sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Tokens at the model's pace, then a last line with empty content and metrics.
    Normal,
    /// A long prefill: no header byte for `delay`, then normal.
    SlowHeaders { delay: Duration },
    /// An error before the stream: `{"error": message}`.
    Error { status: u16, message: &'static str },
    /// 401 with a `signin_url`, as for a cloud model.
    SignIn,
    /// 500 for lack of memory; every loaded model is unloaded.
    OutOfMemory,
    /// 503 for the first `times` requests, then normal.
    BusyThenOk { times: u32 },
    /// An error line in the stream, then a clean end.
    ErrorLine { after: u64 },
    /// A clean end without `done:true`.
    NoDone { after: u64 },
    /// The connection closes without the final chunk, perhaps inside a line.
    Fin { after: u64, half_line: bool },
    /// As [`Scenario::Fin`], with a reset.
    Reset { after: u64, half_line: bool },
    /// Silence on an open connection.
    Stall { after: u64 },
    /// Silence before the headers.
    StallBeforeHeaders,
    /// Every line in two chunks with a pause between.
    HalfLines { pause: Duration },
    /// Many lines in one chunk.
    LinesPerChunk { lines: usize },
    /// One byte per chunk.
    ByteChunks,
    /// A chunk ends inside the bytes of 😀.
    Utf8Split,
    /// A chunk ends between the halves of `\ud83d\ude00`.
    EscapeSplit,
    /// A last line made this long by its `context` array.
    HugeContext { bytes: usize },
    /// One content line of this length.
    HugeLine { bytes: usize },
    /// A line that never ends.
    EndlessLine,
    /// How the last line differs.
    LastLine(LastLine),
    /// Five thinking lines, one mixed line, five content lines.
    Thinking,
    /// Tool calls.
    ToolCalls(ToolCalls),
    /// Lines with empty content and logprobs between the others.
    Logprobs,
    /// Bytes that are no answer.
    Garbage(Garbage),
    /// An unusual but legal HTTP framing.
    Framing(Framing),
}

/// Last lines that differ from the normal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLine {
    /// Carries the last token.
    WithContent,
    /// Neither counts nor durations.
    NoMetrics,
    /// `"done_reason":"mystery"`.
    UnknownReason,
    /// No `done_reason`.
    NoReason,
}

/// Ways tool calls arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolCalls {
    /// All on the last line, with ids.
    LastLine,
    /// A line of its own in mid-stream, without an id.
    MidLine,
    /// Two calls, index 0 and 1, on one line.
    Two,
    /// Silence, then the call on the last line.
    AfterSilence(Duration),
}

/// Replies that break the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// A proxy's 502 page.
    HtmlBadGateway,
    /// 200 with an HTML page.
    HtmlOk,
    /// A line that is no JSON.
    InvalidJson,
    /// Lines that end with CRLF.
    CrLf,
    /// A blank line between lines.
    BlankLine,
    /// A byte order mark first.
    Bom,
    /// `done:true` twice.
    DoubleDone,
    /// More lines after `done:true`.
    AfterDone,
}

/// HTTP framings other than one chunk per line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The whole stream under a `Content-Length`.
    ContentLength,
    /// HTTP/1.0: the body ends with the connection.
    CloseDelimited,
    /// `5;name=value` chunk sizes and a trailer.
    ChunkExtensions,
    /// Header names in lower case.
    LowerCase,
    /// A 103 response first.
    Informational,
}

const AFTER: u64 = 3;
const CONTEXT_EXCEEDED: &str = r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}"#;
pub(crate) const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

impl Scenario {
    /// Every scenario by the name that selects it.
    pub const CATALOGUE: &'static [(&'static str, Scenario)] = &[
        ("normal", Self::Normal),
        ("slow-headers", Self::SlowHeaders { delay: Duration::from_secs(2) }),
        (
            "error-400",
            Self::Error {
                status: 400,
                message: "the prompt is longer than the context length currently available to the model; reduce it",
            },
        ),
        (
            "error-500",
            Self::Error {
                status: 500,
                message: "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details",
            },
        ),
        ("error-503", Self::Error { status: 503, message: BUSY }),
        ("canceled", Self::Error { status: 499, message: "request canceled" }),
        ("nested-error", Self::Error { status: 400, message: CONTEXT_EXCEEDED }),
        ("sign-in", Self::SignIn),
        ("out-of-memory", Self::OutOfMemory),
        ("busy-then-ok", Self::BusyThenOk { times: 1 }),
        ("error-line", Self::ErrorLine { after: AFTER }),
        ("no-done", Self::NoDone { after: AFTER }),
        ("fin", Self::Fin { after: AFTER, half_line: false }),
        ("fin-half", Self::Fin { after: AFTER, half_line: true }),
        ("reset", Self::Reset { after: AFTER, half_line: false }),
        ("reset-half", Self::Reset { after: AFTER, half_line: true }),
        ("stall", Self::Stall { after: AFTER }),
        ("stall-headers", Self::StallBeforeHeaders),
        ("half-lines", Self::HalfLines { pause: Duration::from_millis(50) }),
        ("lines-per-chunk", Self::LinesPerChunk { lines: 20 }),
        ("byte-chunks", Self::ByteChunks),
        ("utf8-split", Self::Utf8Split),
        ("escape-split", Self::EscapeSplit),
        ("context-2m", Self::HugeContext { bytes: 2 << 20 }),
        ("line-9m", Self::HugeLine { bytes: 9 << 20 }),
        ("endless-line", Self::EndlessLine),
        ("last-content", Self::LastLine(LastLine::WithContent)),
        ("no-metrics", Self::LastLine(LastLine::NoMetrics)),
        ("odd-reason", Self::LastLine(LastLine::UnknownReason)),
        ("no-reason", Self::LastLine(LastLine::NoReason)),
        ("thinking", Self::Thinking),
        ("tools-last", Self::ToolCalls(ToolCalls::LastLine)),
        ("tools-mid", Self::ToolCalls(ToolCalls::MidLine)),
        ("tools-two", Self::ToolCalls(ToolCalls::Two)),
        ("tools-silence", Self::ToolCalls(ToolCalls::AfterSilence(Duration::from_secs(90)))),
        ("logprobs", Self::Logprobs),
        ("html-502", Self::Garbage(Garbage::HtmlBadGateway)),
        ("html-200", Self::Garbage(Garbage::HtmlOk)),
        ("bad-json", Self::Garbage(Garbage::InvalidJson)),
        ("crlf", Self::Garbage(Garbage::CrLf)),
        ("blank-line", Self::Garbage(Garbage::BlankLine)),
        ("bom", Self::Garbage(Garbage::Bom)),
        ("double-done", Self::Garbage(Garbage::DoubleDone)),
        ("after-done", Self::Garbage(Garbage::AfterDone)),
        ("content-length", Self::Framing(Framing::ContentLength)),
        ("http10", Self::Framing(Framing::CloseDelimited)),
        ("chunk-extensions", Self::Framing(Framing::ChunkExtensions)),
        ("lower-case", Self::Framing(Framing::LowerCase)),
        ("informational", Self::Framing(Framing::Informational)),
    ];

    /// The scenario called `name` in [`Scenario::CATALOGUE`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::CATALOGUE.iter().find(|(known, _)| *known == name).map(|(_, scenario)| *scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_module_documentation_and_chooses_its_scenario() {
        for (name, scenario) in Scenario::CATALOGUE {
            assert!(include_str!("mod.rs").contains(&format!("`{name}`")), "{name}");
            assert_eq!(Scenario::named(name), Some(*scenario), "two scenarios are called {name}");
        }
    }
}
