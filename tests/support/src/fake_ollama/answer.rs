//! `/api/chat` and `/api/generate`: load, wait for a slot, say the tokens.

use std::io;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Server;
use super::ask::{Api, Ask, Refused};
use super::counters::Visit;
use super::http::request::Request;
use super::http::response::{ERROR_JSON, JSON, Wire};
use super::json::Members;
use super::lines::{Lines, Times};
use super::model::Model;
use super::scenario::{BUSY, Scenario};
use super::script::{Ending, Script, Step};

/// Answers one request. Dropping the future is how it learns that the peer left.
pub(crate) async fn answer(
    server: &Server,
    request: &Request,
    api: Api,
    body: &Members,
    wire: &mut Wire<'_>,
    cut: &tokio_util::sync::CancellationToken,
) -> io::Result<()> {
    let checked = Ask::parse(api, body).and_then(|ask| server.model_for(&ask).map(|model| (ask, model)));
    let (ask, model) = match checked {
        Ok(checked) => checked,
        Err(Refused(status, message)) => {
            let (status, body) = api.refusal(status, &message);
            return wire.reply(status, ERROR_JSON, &body).await;
        }
    };
    let visit = Visit::begin(&server.stats, cut, &model.name);
    let scenario = request.header("x-fake").and_then(Scenario::named).unwrap_or(model.scenario);
    let asked_at = Instant::now();

    if ask.is_empty && ask.keep_alive == Some(Some(Duration::ZERO)) {
        server.scheduler.unload(&model.name);
        let times =
            Times { asked_at, loaded_at: asked_at, running_at: asked_at, first_at: None, prompt_words: 0 };
        return single(&mut Lines::new(&ask, &model, times), visit, wire, &ask, "unload").await;
    }
    if let Some(refusal) = refusal(server, scenario, &model, api) {
        return refuse(visit, wire, refusal).await;
    }
    let Ok(lease) = server.scheduler.lease(&model, &ask.shape, ask.keep_alive).await else {
        return refuse(visit, wire, api.refusal(503, BUSY)).await;
    };
    let loaded_at = Instant::now();
    if ask.is_empty {
        let times = Times { asked_at, loaded_at, running_at: loaded_at, first_at: None, prompt_words: 0 };
        return single(&mut Lines::new(&ask, &model, times), visit, wire, &ask, "load").await;
    }
    let slot = lease.slots.clone().acquire_owned().await;
    let mut turn = Turn { visit, slot: Some((slot, lease)) };
    turn.visit.run();
    let running_at = Instant::now();
    match scenario {
        Scenario::SlowHeaders { delay } => tokio::time::sleep(delay).await,
        Scenario::StallBeforeHeaders => std::future::pending().await,
        _ => {}
    }
    if !model.prefill.is_zero() {
        tokio::time::sleep(model.prefill).await;
    }
    let times = Times { asked_at, loaded_at, running_at, first_at: None, prompt_words: ask.words };
    let mut lines = Lines::new(&ask, &model, times);
    let tokens = ask.num_predict.map_or(model.tokens, |wanted| wanted.min(model.tokens));
    if !ask.stream {
        return whole(&mut lines, turn, wire, &ask, &model, tokens).await;
    }
    match Script::of(scenario, &mut lines, tokens) {
        Some(script) => play(script, turn, wire).await,
        None => stream(&mut lines, turn, wire, &model, tokens).await,
    }
}

/// A request that holds a slot.
struct Turn<'s, L> {
    visit: Visit<'s>,
    slot: Option<L>,
}

impl<L> Turn<'_, L> {
    /// Frees the slot before the last bytes leave, so that who reads them finds it free.
    fn finish(&mut self) {
        self.slot = None;
        self.visit.finish();
    }
}

/// How the scenario refuses a request before it is answered: status and body.
pub(crate) fn refusal(server: &Server, scenario: Scenario, model: &Model, api: Api) -> Option<(u16, String)> {
    match scenario {
        Scenario::Error { status, message } => Some(api.refusal(status, message)),
        Scenario::SignIn if api.is_openai() => {
            Some(api.refusal(401, "Incorrect API key provided: sk-was-given."))
        }
        Scenario::SignIn => {
            let body = json!({ "error": "unauthorized", "signin_url": "https://ollama.com/connect?name=fake&key=c3No" });
            Some((401, super::json::to_go(&body)))
        }
        Scenario::OutOfMemory => {
            server.scheduler.unload_all();
            let message = "model requires more system memory (9.9 GiB) than is available (1.1 GiB)";
            Some(api.refusal(500, message))
        }
        Scenario::BusyThenOk { times } => {
            server.refuses_again(&model.name, times).then(|| api.refusal(503, BUSY))
        }
        _ => None,
    }
}

async fn refuse(mut visit: Visit<'_>, wire: &mut Wire<'_>, (status, body): (u16, String)) -> io::Result<()> {
    visit.finish();
    wire.reply(status, ERROR_JSON, &body).await
}

/// A reply of one line: a load, an unload.
async fn single(
    lines: &mut Lines,
    mut visit: Visit<'_>,
    wire: &mut Wire<'_>,
    ask: &Ask,
    reason: &str,
) -> io::Result<()> {
    let line = lines.load_only(reason);
    visit.finish();
    if ask.stream {
        wire.begin(&lines.head());
        return wire.end_with(&line).await;
    }
    wire.reply(200, JSON, &text_of(line)).await
}

/// The normal stream: a line per token at the model's pace, then the last line.
async fn stream<L>(
    lines: &mut Lines,
    mut turn: Turn<'_, L>,
    wire: &mut Wire<'_>,
    model: &Model,
    tokens: u64,
) -> io::Result<()> {
    wire.begin(&lines.head());
    let pace = Pace::new(model);
    let mut batch = Vec::new();
    let mut sent = 0;
    while sent < tokens {
        pace.wait_for(sent).await;
        batch.clear();
        let count = (model.batch_lines as u64).min(tokens - sent);
        for index in sent..sent + count {
            lines.token(index, &mut batch);
        }
        wire.body(&batch).await?;
        turn.visit.sent_tokens(count);
        sent += count;
    }
    pace.wait_for(sent).await;
    let last = lines.last("", json!({}), Some(reason(model, tokens)), Some(tokens), json!({}));
    turn.finish();
    wire.end_with(&last).await
}

/// The normal answer in one piece.
async fn whole<L>(
    lines: &mut Lines,
    mut turn: Turn<'_, L>,
    wire: &mut Wire<'_>,
    ask: &Ask,
    model: &Model,
    tokens: u64,
) -> io::Result<()> {
    Pace::new(model).wait_for(tokens).await;
    let text: String = (0..tokens).map(|index| lines.text(index)).collect();
    let mut line =
        text_of(lines.last(&text, json!({}), Some(reason(model, tokens)), Some(tokens), json!({})));
    if ask.api == Api::Generate {
        // Streams end lines; a single object has no need to.
        line.truncate(line.trim_end().len());
    }
    turn.visit.sent_tokens(tokens);
    turn.finish();
    wire.reply(200, JSON, &line).await
}

async fn play<L>(script: Script, mut turn: Turn<'_, L>, wire: &mut Wire<'_>) -> io::Result<()> {
    let Script { preamble, head, steps, ending } = script;
    if !preamble.is_empty() {
        wire.raw(preamble).await?;
    }
    wire.begin(&head);
    for step in steps {
        match step {
            Step::Chunk(bytes) => wire.body(&bytes).await?,
            Step::Raw(bytes) => wire.raw(&bytes).await?,
            Step::Token => turn.visit.sent_tokens(1),
            Step::Finish => turn.finish(),
            Step::Wait(pause) => tokio::time::sleep(pause).await,
            Step::Silence => {
                wire.flush().await?;
                std::future::pending::<()>().await;
            }
            Step::Forever(bytes) => loop {
                wire.body(&bytes).await?;
            },
        }
    }
    match ending {
        Ending::Clean => wire.end().await,
        Ending::Fin => {
            wire.keep_alive = false;
            Ok(())
        }
        Ending::Reset => wire.reset(),
    }
}

fn reason(model: &Model, tokens: u64) -> &'static str {
    if tokens < model.tokens { "length" } else { "stop" }
}

fn text_of(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap_or_default()
}

/// When each token is due, reckoned from the first so that delays do not add up.
struct Pace {
    from: tokio::time::Instant,
    interval: Duration,
    jitter: f64,
}

impl Pace {
    fn new(model: &Model) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / model.tokens_per_s).unwrap_or(Duration::ZERO);
        Self { from: tokio::time::Instant::now(), interval, jitter: model.jitter.clamp(0.0, 1.0) }
    }

    async fn wait_for(&self, index: u64) {
        if self.interval.is_zero() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of a token interval needs no more")]
        let late =
            self.jitter * (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / (1_u64 << 24) as f64;
        let due = self.interval * u32::try_from(index).unwrap_or(u32::MAX) + self.interval.mul_f64(late);
        tokio::time::sleep_until(self.from + due).await;
    }
}

impl Server {
    /// The model a request is for, if it may have it.
    pub(crate) fn model_for(&self, ask: &Ask) -> Result<Model, Refused> {
        let Ask { api, model: name, .. } = ask;
        let Some(model) = self.find(name) else {
            let nameless = *api == Api::Chat && name.is_empty();
            return Err(match nameless {
                true => Refused(400, "model is required".to_owned()),
                false => Refused(404, format!("model '{name}' not found")),
            });
        };
        let empty_unload = ask.is_empty && ask.keep_alive == Some(Some(Duration::ZERO));
        let verb = if matches!(api, Api::Chat | Api::OpenAiChat) { "chat" } else { "generate" };
        if !model.can("completion") && !empty_unload {
            return Err(Refused(400, format!("\"{name}\" does not support {verb}")));
        }
        for (is_wanted, what) in [(ask.wants_tools, "tools"), (ask.wants_insert, "insert")] {
            if is_wanted && !model.can(what) {
                let full = format!("registry.ollama.ai/library/{} does not support {what}", model.name);
                return Err(Refused(400, full));
            }
        }
        if ask.wants_thinking && !model.can("thinking") {
            return Err(Refused(400, format!("\"{name}\" does not support thinking")));
        }
        Ok(model)
    }
}
