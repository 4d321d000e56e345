//! Settings of the model room.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use domain::{
    chat::limits::NUM_PREDICT, model_access::RoleModels, model_alias::Aliases, model_name::CanonicalName,
    secret::Secret,
};

use super::residents::ResidencyRules;

/// One model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// For operators: in metrics, traces and the admin API.
    pub name: String,
    pub kind: UpstreamKind,
    /// Its share of the turns of a model that several servers have, against theirs.
    pub weight: u32,
}

impl UpstreamConfig {
    /// A server of the usual weight.
    pub fn new(name: impl Into<String>, kind: UpstreamKind) -> Self {
        Self { name: name.into(), kind, weight: 1 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamKind {
    Ollama {
        base_url: String,
    },
    /// Any server that speaks OpenAI's dialect.
    OpenAi {
        /// Without a slash at its end: what `/chat/completions` follows.
        base_url: String,
        key: Option<Secret<String>>,
    },
    /// The built-in deterministic model; never in production.
    Demo,
}

/// As people know it.
impl fmt::Display for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            UpstreamKind::Ollama { base_url } => write!(f, "Ollama {base_url}"),
            UpstreamKind::OpenAi { base_url, .. } => write!(f, "OpenAI {base_url}"),
            UpstreamKind::Demo => f.write_str("demo model"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct ModelConfig {
    pub upstreams: Vec<UpstreamConfig>,
    /// Turns one model runs at once on one upstream (`OLLAMA_NUM_PARALLEL`).
    pub slots: usize,
    /// The same for single models, in place of `slots`.
    pub slots_of: BTreeMap<CanonicalName, usize>,
    /// Models whose slots in use follow their time to the first token.
    pub adaptive: BTreeSet<CanonicalName>,
    /// Running instances of this service that share the upstreams; divides the slots, never below one.
    pub instance_count: usize,
    /// Models an Ollama server holds at once (`OLLAMA_MAX_LOADED_MODELS`); `None` leaves it to the server.
    pub max_loaded: Option<usize>,
    /// How long a model that was loaded stays at least before it has to go for another.
    pub min_residence: Duration,
    /// Failures of a model server in a row that open its breaker.
    pub breaker_failures: u32,
    pub queue_limit: usize,
    pub queue_per_user: usize,
    /// Which models may be asked by accounts that have no list of their own.
    pub role_models: RoleModels,
    pub aliases: Aliases,
    /// Tokens that one answer may have, at most [`NUM_PREDICT`].
    pub answer_tokens: u32,
    /// The same for single models, in place of `answer_tokens`.
    pub answer_tokens_of: BTreeMap<CanonicalName, u32>,
    /// Lets models run that send prompts to somebody else's machine.
    pub allow_cloud: bool,
    /// The catalogue is asked anew this often.
    pub catalogue_refresh: Duration,
    /// The most models the catalogue keeps.
    pub catalogue_limit: usize,
    pub timeouts: Timeouts,
    /// The longest answer, in bytes of its parts.
    pub reply_bytes_max: usize,
    /// All live answers together.
    pub reply_budget_bytes: usize,
    /// How long an answer can be read from memory after its end.
    pub reply_kept: Duration,
    /// All prompts of turns that wait or run together.
    pub prompt_budget_bytes: usize,
    /// How often the text so far is stored: after this long, or this many bytes, whichever is first.
    pub checkpoint_every: Duration,
    pub checkpoint_bytes: usize,
    /// No turn lives longer, wherever it is; looked at three times in a `lease`.
    pub turn_max: Duration,
    /// A stored turn whose owner has not renewed it for this long counts as interrupted.
    pub lease: Duration,
}

/// How long a model server may take (ollama-wire §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub list: Duration,
    pub show: Duration,
    /// For an unload to be answered, and as long for the memory to be free.
    pub unload: Duration,
    /// Load and prefill; must exceed Ollama's own five minutes of stall detection.
    pub first_byte: Duration,
    /// Between two reads of plain text.
    pub idle: Duration,
    /// Between two reads when tools, a format or thinking make long silences normal.
    pub idle_long: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            list: Duration::from_secs(5),
            show: Duration::from_secs(15),
            unload: Duration::from_secs(15),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            idle_long: Duration::from_secs(600),
        }
    }
}

impl UpstreamKind {
    /// As it is written in the settings.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Ollama { .. } => "ollama",
            Self::OpenAi { .. } => "openai",
            Self::Demo => "demo",
        }
    }

    /// Where it is asked, without credentials; `None` for what is built in.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Ollama { base_url } | Self::OpenAi { base_url, .. } => Some(base_url),
            Self::Demo => None,
        }
    }

    /// Whether it holds models in a memory of its own that it loads them into.
    pub const fn has_memory(&self) -> bool {
        matches!(self, Self::Ollama { .. })
    }
}

impl ModelConfig {
    /// Turns this instance has one model run at once on one upstream.
    pub fn slots(&self, model: &CanonicalName) -> usize {
        let slots = self.slots_of.get(model).copied().unwrap_or(self.slots);
        (slots / self.instance_count.max(1)).max(1)
    }

    /// Tokens that one answer of the model may have.
    pub fn answer_tokens(&self, model: &CanonicalName) -> u32 {
        self.answer_tokens_of.get(model).copied().unwrap_or(self.answer_tokens)
    }
}

impl ModelConfig {
    /// These settings, with those of `new` that can change while the room lives.
    #[must_use]
    pub fn followed_by(&self, new: Self) -> Self {
        let timeouts = Timeouts {
            first_byte: new.timeouts.first_byte,
            idle: new.timeouts.idle,
            idle_long: new.timeouts.idle_long,
            ..self.timeouts
        };
        Self {
            upstreams: new.upstreams,
            slots: new.slots,
            slots_of: new.slots_of,
            adaptive: new.adaptive,
            max_loaded: new.max_loaded,
            min_residence: new.min_residence,
            queue_limit: new.queue_limit,
            queue_per_user: new.queue_per_user,
            turn_max: new.turn_max,
            role_models: new.role_models,
            aliases: new.aliases,
            answer_tokens: new.answer_tokens,
            answer_tokens_of: new.answer_tokens_of,
            allow_cloud: new.allow_cloud,
            timeouts,
            ..self.clone()
        }
    }

    /// What this server may hold in memory.
    pub(super) fn residency_of(&self, server: &UpstreamConfig) -> ResidencyRules {
        ResidencyRules {
            limit: self.max_loaded.filter(|_| server.kind.has_memory()),
            min_residence: self.min_residence,
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            upstreams: vec![UpstreamConfig::new(
                "ollama",
                UpstreamKind::Ollama { base_url: "http://127.0.0.1:11434".to_owned() },
            )],
            slots: 1,
            slots_of: BTreeMap::new(),
            adaptive: BTreeSet::new(),
            instance_count: 1,
            max_loaded: None,
            min_residence: Duration::from_secs(30),
            breaker_failures: 5,
            queue_limit: 256,
            queue_per_user: 64,
            role_models: RoleModels::default(),
            aliases: Aliases::default(),
            answer_tokens: NUM_PREDICT,
            answer_tokens_of: BTreeMap::new(),
            allow_cloud: false,
            catalogue_refresh: Duration::from_secs(10),
            catalogue_limit: 1_000,
            timeouts: Timeouts::default(),
            reply_bytes_max: 4 << 20,
            reply_budget_bytes: 256 << 20,
            reply_kept: Duration::from_secs(60),
            prompt_budget_bytes: 256 << 20,
            checkpoint_every: Duration::from_secs(2),
            checkpoint_bytes: 4 << 10,
            turn_max: Duration::from_secs(3_600),
            lease: Duration::from_secs(30),
        }
    }
}
