//! Every name that a span tells something by, in one place: OpenTelemetry's semantic conventions, and ours where they have
//! none.
//!
//! What may stand behind them is closed as well: never a secret, an e-mail, a prompt, an answer or the text of an error.

/// A word of a closed list, as in the metrics.
pub const ERROR: &str = "error.type";

pub const HTTP_METHOD: &str = "http.request.method";
/// As it is written in the route table.
pub const HTTP_ROUTE: &str = "http.route";
pub const HTTP_STATUS: &str = "http.response.status_code";
pub const CLIENT_ADDRESS: &str = "client.address";
pub const USER_ID: &str = "user.id";
/// As in the reply's header and in the log.
pub const REQUEST_ID: &str = "deepersensor.request.id";

/// `postgresql` or `sqlite`; `redis` for limits that instances share.
pub const DB_SYSTEM: &str = "db.system.name";
/// Questions that were asked together, when they were.
pub const DB_BATCH_SIZE: &str = "db.operation.batch.size";

pub const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
/// A prompt is answered.
pub const CHAT: &str = "chat";
/// Texts become vectors.
pub const EMBEDDINGS: &str = "embeddings";
/// By the upstream's name in the configuration.
pub const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
pub const GEN_AI_CONVERSATION: &str = "gen_ai.conversation.id";
/// A name of the catalogue.
pub const GEN_AI_MODEL: &str = "gen_ai.request.model";
pub const GEN_AI_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub const GEN_AI_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub const GEN_AI_FINISH: &str = "gen_ai.response.finish_reasons";

pub const TURN_ID: &str = "deepersensor.turn.id";
/// `complete`, `failed`, `cancelled` or `interrupted`.
pub const TURN_STATUS: &str = "deepersensor.turn.status";
/// Whether tokens were `reported`, `counted` or `estimated`.
pub const USAGE_SOURCE: &str = "deepersensor.usage.source";
pub const QUEUED_MS: &str = "deepersensor.turn.queued_ms";
pub const FIRST_TOKEN_MS: &str = "deepersensor.turn.first_token_ms";
