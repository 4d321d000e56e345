//! The models a fake server has, and the names they answer to.

use std::time::Duration;

use serde::Serialize;

use super::scenario::Scenario;

/// A model's file, as `/api/tags` describes it.
#[derive(Debug, Clone, Serialize)]
pub struct Details {
    pub parent_model: String,
    pub format: String,
    pub family: String,
    /// `None` is sent as `null`, as some imported models have it.
    pub families: Option<Vec<String>>,
    pub parameter_size: String,
    pub quantization_level: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
}

/// A model: what it claims to be, and how it behaves.
#[derive(Debug, Clone)]
pub struct Model {
    /// As listed, with its tag.
    pub name: String,
    /// `None`: an older server, which does not say.
    pub capabilities: Option<Vec<String>>,
    pub details: Details,
    pub size: u64,
    /// Hex without a prefix.
    pub digest: String,
    /// RFC 3339 with the server's own offset.
    pub modified_at: String,
    /// Requests that run at once; more wait without limit, first come first served.
    pub parallel: usize,
    /// How long loading takes; loads of different models wait for each other.
    pub load: Duration,
    /// Silence between a free slot and the headers.
    pub prefill: Duration,
    /// Tokens of an answer, unless `num_predict` asks for fewer.
    pub tokens: u64,
    /// Pace per request; 0 is full speed.
    pub tokens_per_s: f64,
    /// How far a token may be late, as a share of the time between two (0..1); the same for the same prompt.
    pub jitter: f64,
    /// Token lines per write and per HTTP chunk; Ollama's own is 1.
    pub batch_lines: usize,
    /// Puts the send time into each token as `t=<nanoseconds since 1970> ` in place of the deterministic word.
    pub stamp_tokens: bool,
    pub scenario: Scenario,
}

impl Model {
    /// A chat model with tools, 32 tokens at full speed, one slot, loaded at once.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = with_tag(name);
        let family = name.split([':', '.']).next().unwrap_or_default().to_owned();
        Self {
            capabilities: Some(["completion", "tools"].map(str::to_owned).to_vec()),
            details: Details {
                parent_model: String::new(),
                format: "gguf".to_owned(),
                families: Some(vec![family.clone()]),
                family,
                parameter_size: "8.2B".to_owned(),
                quantization_level: "Q4_K_M".to_owned(),
                context_length: Some(40_960),
                embedding_length: Some(4_096),
            },
            size: 5_225_388_164,
            digest: digest_of(&name),
            name,
            modified_at: "2026-08-20T09:14:03.120398417+02:00".to_owned(),
            parallel: 1,
            load: Duration::ZERO,
            prefill: Duration::ZERO,
            tokens: 32,
            tokens_per_s: 0.0,
            jitter: 0.0,
            batch_lines: 1,
            stamp_tokens: false,
            scenario: Scenario::Normal,
        }
    }

    /// A model that only embeds, into vectors of eight numbers.
    #[must_use]
    pub fn embedding(name: &str) -> Self {
        let mut model = Self::new(name).capabilities(&["embedding"]);
        model.details.embedding_length = Some(8);
        model.details.context_length = Some(2_048);
        model
    }

    /// One model per scenario, named `fake-<scenario>:latest`.
    #[must_use]
    pub fn every_scenario() -> Vec<Self> {
        Scenario::CATALOGUE
            .iter()
            .map(|(name, _)| Self::new(&format!("fake-{name}")))
            .map(Self::by_name)
            .collect()
    }

    #[must_use]
    pub fn capabilities(mut self, capabilities: &[&str]) -> Self {
        self.capabilities = Some(capabilities.iter().map(|&known| known.to_owned()).collect());
        self
    }

    #[must_use]
    pub fn parallel(mut self, slots: usize) -> Self {
        self.parallel = slots;
        self
    }

    #[must_use]
    pub fn load(mut self, load: Duration) -> Self {
        self.load = load;
        self
    }

    #[must_use]
    pub fn prefill(mut self, prefill: Duration) -> Self {
        self.prefill = prefill;
        self
    }

    #[must_use]
    pub fn tokens(mut self, tokens: u64) -> Self {
        self.tokens = tokens;
        self
    }

    #[must_use]
    pub fn tokens_per_s(mut self, tokens_per_s: f64) -> Self {
        self.tokens_per_s = tokens_per_s;
        self
    }

    #[must_use]
    pub fn batch_lines(mut self, lines: usize) -> Self {
        self.batch_lines = lines.max(1);
        self
    }

    #[must_use]
    pub fn stamp_tokens(mut self, stamp: bool) -> Self {
        self.stamp_tokens = stamp;
        self
    }

    #[must_use]
    pub fn scenario(mut self, scenario: Scenario) -> Self {
        self.scenario = scenario;
        self
    }

    /// Gives a model called `fake-<scenario>` its scenario and what the scenario needs.
    pub(crate) fn by_name(mut self) -> Self {
        let scenario = self.name.strip_prefix("fake-").and_then(|name| name.split(':').next());
        if let Some(scenario) = scenario.and_then(Scenario::named) {
            self.scenario = scenario;
            self.parallel = 4;
            self = self.capabilities(&["completion", "tools", "thinking"]);
        }
        self
    }

    /// Whether the model says that it can `what`; one that says nothing is believed to.
    pub(crate) fn can(&self, what: &str) -> bool {
        self.capabilities.as_ref().is_none_or(|list| list.iter().any(|known| known == what))
    }
}

/// The one spelling of a model's names: lower case, without default host, namespace and source, with its tag.
pub(crate) fn canonical(name: &str) -> String {
    let name = name.trim().to_lowercase();
    let name = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
    let name = name.strip_prefix("registry.ollama.ai/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    with_tag(name.strip_suffix(":local").unwrap_or(name))
}

fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn digest_of(name: &str) -> String {
    let seed = name.bytes().fold(5_381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
    (1..=4_u64).map(|part| format!("{:016x}", seed.wrapping_mul(part).rotate_left(17))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_name_are_one_model() {
        for name in [
            "llama3.2",
            "LLAMA3.2:latest",
            "library/llama3.2",
            "registry.ollama.ai/library/llama3.2:latest",
            "llama3.2:local",
            " llama3.2 ",
        ] {
            assert_eq!(canonical(name), "llama3.2:latest", "{name}");
        }
        assert_eq!(canonical("Qwen3:8B:local"), "qwen3:8b");
        assert_eq!(canonical("me/qwen3"), "me/qwen3:latest");
    }
}
