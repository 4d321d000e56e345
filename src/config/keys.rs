//! The one table of configuration keys.
//!
//! Parsing, `check-config`, `.env.example` and the README's table all read it, so a key cannot exist in one place
//! only. Defaults stand here as text and in the rooms' config structs as values; a test compares the two.

/// One setting: its name, what it may hold and what it means.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub group: Group,
    pub kind: Kind,
    /// The value when no source gives one; empty for "not set".
    pub default: &'static str,
    /// One sentence for `.env.example` and the README.
    pub help: &'static str,
    /// A name it had before, still understood.
    pub former: Option<&'static str>,
    /// How a reload changes it, for the operator; `None` for what needs a restart.
    pub reload: Option<&'static str>,
}

impl Key {
    /// Whether `text` must not be shown as this key's value: it is a secret, or an address that carries credentials by
    /// mistake.
    pub(super) fn hides(&self, text: &str) -> bool {
        self.kind == Kind::Secret || text.contains('@')
    }
}

/// Where a key stands in the printed tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Service,
    Store,
    Identity,
    Edge,
    Limits,
    Models,
}

impl Group {
    pub const ALL: [Self; 6] =
        [Self::Service, Self::Store, Self::Identity, Self::Edge, Self::Limits, Self::Models];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Store => "Store",
            Self::Identity => "Identity",
            Self::Edge => "Edge",
            Self::Limits => "Limits per caller",
            Self::Models => "Models",
        }
    }
}

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Also accepted as `<NAME>_FILE`; never printed, never taken from the command line.
    Secret,
    Path,
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds.
    Whole {
        min: u64,
        max: u64,
    },
    /// A number from 0 to 1.
    Share,
    /// An IP address.
    Address,
    /// An IP address and a port.
    Socket,
    /// Comma-separated.
    List(Item),
}

/// What a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// `http://host[:port]`.
    Upstream,
    /// A model server: name, kind, address, and `weight=` with a whole number if it is not 1.
    Server,
    /// `scheme://host[:port]`, as a browser sends it.
    Origin,
    /// An IP address or a CIDR range.
    Network,
    /// A model's name.
    Model,
    /// A model's name, `=`, and a whole number from 1 on.
    ModelSlots,
    /// The same, of tokens.
    ModelTokens,
    /// A pattern of models' names.
    Pattern,
    /// A name, `=`, and models' names with `then` between them.
    Alias,
}

/// Names that OpenTelemetry gives a meaning to and that look like ours: set for all programs of a machine, they are no
/// misspelt ones of ours.
const OF_OPENTELEMETRY: [&str; 4] = [
    "OTEL_TRACES_SAMPLER",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];

const DAY: u64 = 86_400;
const MIB: u64 = 1 << 20;

macro_rules! keys {
    ($($group:ident { $($name:ident $kind:expr, $default:literal, $help:literal $(, was $former:literal)? $(, reload $reload:literal)? ;)+ })+) => {
        $($(
            #[doc = $help]
            pub static $name: Key = Key {
                name: stringify!($name),
                group: Group::$group,
                kind: $kind,
                default: $default,
                help: $help,
                former: keys!(@given $($former)?),
                reload: keys!(@given $($reload)?),
            };
        )+)+

        /// Every key, in the order in which it is printed.
        pub static ALL: &[&Key] = &[$($(&$name),+),+];
    };
    (@given) => { None };
    (@given $text:literal) => { Some($text) };
}

keys! {
    Service {
        APP_ENV Kind::Choice(&["local", "test", "production"]), "local",
            "What this instance is for; `production` refuses weak secrets and the demo model.";
        APP_HOST Kind::Address, "127.0.0.1", "Address to listen on; `0.0.0.0` or `::` for all.";
        APP_PORT Kind::Whole { min: 0, max: 65_535 }, "8080", "Port to listen on; 0 takes a free one.";
        OPS_BIND Kind::Socket, "127.0.0.1:9464",
            "Where `/metrics` and `/actors` answer; another free port if this default is taken. Needs `OPS_TOKEN` unless it is loopback.",
            was "PROMETHEUS_BIND";
        OPS_TOKEN Kind::Secret, "",
            "What `/metrics` and `/actors` ask for as `Authorization: Bearer`; without it they ask for nothing, and answer this machine only.";
        DATA_DIR Kind::Path, "./data", "Directory of SQLite, generated secrets, and what a database that is away is told later; `demo` uses `./data/demo`.";
        RUST_LOG Kind::Text, "info", "What to log, as `tracing` filter directives.",
            reload "At once. A filter set for a time by `/v1/admin/log-filter` stays until its time is over.";
        LOG_FORMAT Kind::Choice(&["text", "json"]), "text", "How log lines are written.";
        SHUTDOWN_GRACE_SECS Kind::Whole { min: 1, max: 600 }, "30",
            "Seconds that running answers have after SIGTERM; the process ends at most 5 seconds later.";
        INSTANCE_COUNT Kind::Whole { min: 1, max: 1_000 }, "1",
            "Running instances that share the model server; divides its slots, and the limits of callers while Redis is away.";
        OTEL_EXPORTER_OTLP_ENDPOINT Kind::Text, "",
            "The OpenTelemetry collector that takes traces over gRPC, such as `http://127.0.0.1:4317`; without it nothing is traced.";
        OTEL_SERVICE_NAME Kind::Text, "deepersensor", "What traces call this service.";
        OTEL_TRACES_SAMPLER_ARG Kind::Share, "1",
            "Share of the traces begun here that is recorded, 0 to 1; a trusted proxy decides about its own.";
    }
    Store {
        DATABASE_URL Kind::Secret, "", "`postgres://…`; without it everything is kept in SQLite under `DATA_DIR`.";
        MIGRATE_DATABASE_URL Kind::Secret, "",
            "The same database by the role that owns its schema, for migrations; then the role of `DATABASE_URL` needs no right to change it.";
        DATABASE_READ_URL Kind::Secret, "",
            "A streaming replica of it, for lists that may be up to 5 seconds behind; while it is away or further behind, `DATABASE_URL` answers.";
        DATABASE_READERS Kind::Whole { min: 1, max: 256 }, "4",
            "Connections of an instance for reads; to the replica there are as many again, and one.";
        DATABASE_WRITERS Kind::Whole { min: 1, max: 64 }, "4",
            "Connections of an instance for writes; SQLite always has one.";
        CONVERSATION_RETENTION_DAYS Kind::Whole { min: 0, max: 36_500 }, "0",
            "Days a conversation is kept in which nothing is said; then it is removed. 0: for ever.",
            reload "With the next round, within the hour.";
        REDIS_URL Kind::Secret, "",
            "`redis://…` or `rediss://…`, where all instances count callers together; without it each counts its own.";
    }
    Identity {
        JWT_SECRET Kind::Secret, "",
            "Master secret, at least 32 random bytes; without it one is generated into `DATA_DIR`.";
        JWT_ALGORITHM Kind::Choice(&["HS256", "EdDSA"]), "HS256",
            "How access tokens are signed; with EdDSA others can verify them by `/.well-known/jwks.json`.";
        JWT_ISSUER Kind::Text, "deepersensor", "Issuer named in access tokens.";
        JWT_ACCESS_TTL_SECS Kind::Whole { min: 30, max: DAY }, "900", "Seconds an access token lives.";
        JWT_REFRESH_TTL_SECS Kind::Whole { min: 60, max: 365 * DAY }, "1209600",
            "Seconds a session may rest before it ends.";
        SESSION_MAX_SECS Kind::Whole { min: 60, max: 365 * DAY }, "2592000",
            "Seconds after which a session ends, however busy.";
        SIGNUP_MODE Kind::Choice(&["open", "invite", "closed"]), "open",
            "Who may sign up: everybody, who has an invite, or nobody but the first administrator.",
            reload "For the next sign-up.";
        PASSWORD_MIN_LENGTH Kind::Whole { min: 8, max: 64 }, "8",
            "Characters a new password needs; 15 where it is the only factor (NIST).",
            reload "For the next new password.";
        PASSWORD_HASH_MEMORY_KIB Kind::Whole { min: 12_288, max: 65_536 }, "19456",
            "Memory of one argon2id hash; at least 19456 KiB with 2 passes, 47104 with 1, or 12288 with 3.";
        PASSWORD_HASH_PASSES Kind::Whole { min: 1, max: 8 }, "2", "Passes of argon2id over that memory.";
        PASSWORD_HASH_LANES Kind::Whole { min: 1, max: 4 }, "1", "Lanes of argon2id.";
        PASSWORD_WORKERS Kind::Whole { min: 1, max: 256 }, "",
            "Passwords hashed at once, `PASSWORD_HASH_MEMORY_KIB` each; without it one less than the cores.";
    }
    Edge {
        ALLOWED_ORIGINS Kind::List(Item::Origin), "",
            "Origins whose pages may call this API from a browser, comma-separated, matched exactly.",
            reload "For the next request.";
        BROWSER_SESSIONS Kind::Switch, "false",
            "Whether pages may keep their session in cookies that no script can read; needs TLS in front.";
        API_KEY_IN_PATH Kind::Switch, "false",
            "Whether Ollama's clients that can send no header may put an API key in front of their path, `/k/<key>/api/…`; addresses are written down in more places than headers.";
        TRUSTED_PROXY_IPS Kind::List(Item::Network), "",
            "Proxies whose `X-Forwarded-For`, `X-Request-Id` and `traceparent` are believed: addresses or CIDR ranges, comma-separated.",
            reload "For the next request; who is a proxy is decided when a connection is accepted.";
        MAX_REQUEST_SIZE_BYTES Kind::Whole { min: 1_024, max: 64 * MIB }, "2097152", "Largest request body.",
            reload "For the next request.";
        MAX_INFLIGHT_REQUESTS Kind::Whole { min: 1, max: 1_000_000 }, "2048",
            "Requests served at once; above, callers get 503.";
        MAX_CONNECTIONS Kind::Whole { min: 1, max: 1_000_000 }, "4096", "Open connections; above, callers get 503.";
        MAX_CONNECTIONS_PER_IP Kind::Whole { min: 1, max: 1_000_000 }, "64",
            "Open connections of one address; loopback and trusted proxies are exempt.";
    }
    Limits {
        RATE_LIMIT_ENABLED Kind::Switch, "true",
            "Whether requests and running turns are counted; queue and memory bounds always hold.";
        RATE_LIMIT_REQUESTS_PER_MINUTE Kind::Whole { min: 1, max: 1_000_000 }, "60",
            "Requests per minute and user; an address gets five times that.",
            reload "A new bucket for each caller, which starts full: a burst is regained once.";
        RATE_LIMIT_BURST Kind::Whole { min: 1, max: 1_000_000 }, "20", "Requests a user may make at once.",
            reload "A new bucket for each caller, which starts full: a burst is regained once.";
        RATE_LIMIT_MODEL_REQUESTS_PER_MINUTE Kind::Whole { min: 1, max: 1_000_000 }, "",
            "Turns per minute, user and model, a third of them at once; without it only requests are counted.",
            reload "A new bucket for each user and model, which starts full.";
        RATE_LIMIT_TOKENS_PER_MINUTE Kind::Whole { min: 1, max: 1_000_000_000 }, "",
            "Tokens per minute and user, all of them at once; without it tokens are not counted.",
            reload "A new bucket for each caller, which starts full; turns under way give nothing back to it.";
        RATE_LIMIT_RESERVE_TOKENS Kind::Whole { min: 1, max: 1_000_000 }, "1024",
            "Tokens held back for an answer of unknown length until it is over.",
            reload "For the next turn.";
        STREAMS_PER_USER Kind::Whole { min: 1, max: 1_000_000 }, "4",
            "Turns of one user that run at once, over all models and instances; those beyond it wait in their queues.",
            reload "For the next turn; those that wait keep the number they came with.";
        LOG_IN_PER_MINUTE Kind::Whole { min: 1, max: 1_000_000 }, "5", "Log-ins per minute and address.",
            reload "A new bucket for each address, which starts full.";
        LOG_IN_BURST Kind::Whole { min: 1, max: 1_000_000 }, "5", "Log-ins an address may try at once.",
            reload "A new bucket for each address, which starts full.";
        SIGN_UP_PER_HOUR Kind::Whole { min: 1, max: 1_000_000 }, "10", "Sign-ups per hour and address.",
            reload "A new bucket for each address, which starts full.";
        SIGN_UP_BURST Kind::Whole { min: 1, max: 1_000_000 }, "10", "Sign-ups an address may make at once.",
            reload "A new bucket for each address, which starts full.";
    }
    Models {
        OLLAMA_BASE_URL Kind::List(Item::Upstream), "http://127.0.0.1:11434",
            "The Ollama server, or several, comma-separated; not looked at where `UPSTREAMS` is set.",
            reload "Running turns end where they are, those that wait are served by the new server if it has their model.";
        UPSTREAMS Kind::List(Item::Server), "",
            "Model servers in place of `OLLAMA_BASE_URL`, comma-separated, each `NAME KIND URL [weight=N]`: `gpu1 ollama http://10.0.0.1:11434 weight=2, hosted openai https://llm.example/v1`. The kind `openai` is any server of that dialect (vLLM, llama.cpp, LM Studio, hosted ones); its URL is what `/chat/completions` follows.",
            reload "A server that stays keeps its breaker and what it holds; weights count from the next turn on; turns of one that goes end there.";
        UPSTREAM_API_KEYS Kind::Secret, "",
            "Keys for servers of `UPSTREAMS` of the kind openai, comma-separated, each `NAME=KEY`.",
            reload "A server with another key is another server: running turns end on the one before.";
        OLLAMA_NUM_PARALLEL Kind::Whole { min: 1, max: 1_024 }, "1",
            "Answers one model generates at once on one server; the same number as there.",
            reload "New slots serve at once; one too many is given up when its turn has ended.";
        OLLAMA_MAX_LOADED_MODELS Kind::Whole { min: 0, max: 1_000 }, "",
            "Models one server is asked to hold in memory at once; without it, or with 0, that is left to the server.",
            reload "For the next load; nothing is unloaded before somebody needs the room.";
        MODEL_MIN_RESIDENCE_SECS Kind::Whole { min: 0, max: DAY }, "30",
            "Seconds a model that was loaded stays before it goes for another, where `OLLAMA_MAX_LOADED_MODELS` limits them.",
            reload "For the next load.";
        MODEL_SLOTS Kind::List(Item::ModelSlots), "",
            "Answers that single models generate at once, in place of `OLLAMA_NUM_PARALLEL`: `llama3.2=4,qwen3:8b=2`.",
            reload "New slots serve at once; one too many is given up when its turn has ended.";
        MODEL_ADAPTIVE Kind::List(Item::Model), "",
            "Models of which fewer answers are generated at once while their first token comes late; comma-separated.",
            reload "At once; a model begins at its ceiling.";
        USER_MODELS Kind::List(Item::Pattern), "*",
            "Models that users may ask who have no list of their own: names, `*` for any run of characters (`qwen3:*`), comma-separated; `-` for none.",
            reload "For the next request; turns under way go on.";
        ADMIN_MODELS Kind::List(Item::Pattern), "*", "The same for administrators.",
            reload "For the next request; turns under way go on.";
        MODEL_ALIASES Kind::List(Item::Alias), "",
            "Names that stand for models, and what to fall back to while those are away: `fast = qwen3:8b then llama3.2, smart = gpt-oss:120b`.",
            reload "For the next request; turns under way go on where they are.";
        MAX_OUTPUT_TOKENS Kind::Whole { min: 1, max: 131_072 }, "131072",
            "The most tokens that one answer may have, whatever its caller asks for; where it is less than this default, also of callers who ask for no number.",
            reload "For the next turn.";
        MODEL_MAX_OUTPUT_TOKENS Kind::List(Item::ModelTokens), "",
            "The same for single models, in place of `MAX_OUTPUT_TOKENS`: `llama3.2=4096,qwen3:8b=32768`.",
            reload "For the next turn.";
        DEMO_MODEL Kind::Switch, "false", "Also offers the built-in demo model, which needs no server; not in production.",
            reload "Its queue ends at once when it goes, its running turns end by themselves.";
        ALLOW_CLOUD_MODELS Kind::Switch, "false",
            "Whether models may run that send prompts to somebody else's machine.",
            reload "Models come or go; the queue of one that goes ends at once, its running turns end by themselves.";
        MODEL_QUEUE_LIMIT Kind::Whole { min: 1, max: 100_000 }, "256", "Turns that may wait for one model.",
            reload "For newcomers; nobody who waits is sent away.";
        MODEL_QUEUE_PER_USER Kind::Whole { min: 1, max: 100_000 }, "64", "Turns of one user that may wait for one model.",
            reload "For newcomers; nobody who waits is sent away.";
        REPLY_BUDGET_BYTES Kind::Whole { min: 8 * MIB, max: 1 << 40 }, "268435456",
            "Memory for all live answers together; near it, new turns get 503.";
        PROMPT_BUDGET_BYTES Kind::Whole { min: 8 * MIB, max: 1 << 40 }, "268435456",
            "Memory for the prompts of all turns that wait or run, by estimate; beyond it, new turns get 503.";
        UPSTREAM_FIRST_BYTE_TIMEOUT_SECS Kind::Whole { min: 1, max: DAY }, "600",
            "Seconds a model server may take to load a model and read a prompt.",
            reload "For the next answer.";
        UPSTREAM_IDLE_TIMEOUT_SECS Kind::Whole { min: 1, max: DAY }, "120",
            "Seconds a model server may be silent within an answer.",
            reload "For the next answer.";
        TURN_MAX_SECS Kind::Whole { min: 10, max: DAY }, "3600",
            "Seconds a turn may live, from its admission to its end, also when nobody reads it any more.",
            reload "For the next turn.";
    }
}

/// The key of that name, or of that former name.
pub fn find(name: &str) -> Option<&'static Key> {
    ALL.iter().copied().find(|key| key.name == name || key.former == Some(name))
}

/// The known name nearest to a misspelt one, if any is near enough to be meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    within(0.75, name)
}

/// Like [`nearest`], but so near that a name among those of other programs can hardly be one of theirs: one letter in a
/// short name, every fifth in a long one.
pub fn misspelt(name: &str) -> Option<&'static str> {
    if OF_OPENTELEMETRY.contains(&name) { None } else { within(0.8, name) }
}

fn within(least: f64, name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_uppercase().replace(['-', '.'], "_");
    ALL.iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(&wanted, key.name), key.name))
        .filter(|(likeness, _)| *likeness >= least)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_once() {
        for (i, key) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != key.name), "{}", key.name);
            assert!(std::ptr::eq(find(key.name).unwrap(), *key));
        }
        assert_eq!(find("PROMETHEUS_BIND").unwrap().name, "OPS_BIND");
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        assert_eq!(nearest("RATE_LIMT_BURST"), Some("RATE_LIMIT_BURST"));
        assert_eq!(nearest("app_port"), Some("APP_PORT"));
        assert_eq!(nearest("app-port"), Some("APP_PORT"));
        assert_eq!(nearest("COMPLETELY_ELSE"), None);
    }

    #[test]
    fn names_of_other_programs_are_no_misspelt_ones_of_ours() {
        let names = "PGDATABASE PGHOST PGDATA POSTGRES_URL POSTGRES_PASSWORD DATABASE DATABASE_HOST DATABASE_NAME DB_URL \
            REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_PORT_6379_TCP OLLAMA_HOST OLLAMA_MODELS OLLAMA_KEEP_ALIVE \
            OLLAMA_MAX_QUEUE OLLAMA_ORIGINS OLLAMA_API_BASE_URL OLLAMA_PORT OLLAMA_FLASH_ATTENTION APP_NAME APP_KEY \
            APP_URL APP_ROOT APP_DEBUG APP_VERSION HOST PORT HOSTNAME PASSWORD DATA DATA_PATH XDG_DATA_DIRS \
            XDG_DATA_HOME LOG_LEVEL LOG_FILE LOGNAME RUST_BACKTRACE RUST_MIN_STACK RUSTFLAGS JWT_KEY JWT_SECRET_KEY \
            OTEL_TRACES_SAMPLER OTEL_EXPORTER_OTLP_LOGS_ENDPOINT OTEL_EXPORTER_OTLP_TRACES_ENDPOINT \
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_PROTOCOL \
            OTEL_RESOURCE_ATTRIBUTES OTEL_TRACES_EXPORTER OTEL_PROPAGATORS OTEL_LOG_LEVEL OTEL_SDK_DISABLED \
            ALLOWED_HOSTS TRUSTED_HOSTS NODE_ENV RAILS_ENV MODEL_PATH http_proxy PATH HOME";
        for name in names.split_whitespace() {
            assert_eq!(misspelt(name), None, "{name}");
        }
    }
}
