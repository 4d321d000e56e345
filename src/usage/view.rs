//! Reports and rows of the ledger in JSON.

use chrono::NaiveDate;
use domain::{
    id::{ApiKeyId, UserId},
    usage::{Days, Dimension, Dimensions, LedgerEntry, Mean, Tally, UsageGroup, UsageReport},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::turns::TurnView;

/// Sums over turns, in groups.
#[derive(Serialize, ToSchema)]
pub(crate) struct UsageReportView {
    object: &'static str,
    /// The first UTC day.
    from: NaiveDate,
    /// The last UTC day; all of it is included.
    to: NaiveDate,
    /// What is grouped by, in the order in which groups are sorted.
    by: Vec<&'static str>,
    data: Vec<GroupView>,
    /// The sum over the groups of all pages.
    total: TallyView,
    /// Pass it as `cursor` to read on; `null` at the end.
    next_cursor: Option<String>,
}

/// Turns that have something in common: what is grouped by, and only that, is named.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupView {
    /// The UTC day on which they began.
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The key that asked; `null`: somebody signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Option<KeyName>>,
    /// `streaming`, `complete`, `interrupted`, `cancelled` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(flatten)]
    tally: TallyView,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct UserName {
    #[schema(value_type = Uuid)]
    id: UserId,
    /// `null` for a deleted account.
    email: Option<String>,
}

/// A key, also one that is revoked.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyName {
    #[schema(value_type = Uuid)]
    id: ApiKeyId,
    /// `null` for one of a deleted account.
    name: Option<String>,
}

/// What turns came to. Of those that are not settled (yet) only the number is known. A duration is the mean over all turns
/// of which it is known, in whole milliseconds, a half rounded up; `null` where there are none.
#[derive(Serialize, ToSchema)]
pub(crate) struct TallyView {
    /// Turns, however they stand.
    requests: u64,
    complete: u64,
    interrupted: u64,
    cancelled: u64,
    failed: u64,
    streaming: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    /// Turns whose tokens the model server reported.
    reported: u64,
    /// Turns that broke off, of whose answer the pieces were counted.
    counted: u64,
    /// Turns whose tokens were estimated from the text.
    estimated: u64,
    /// From admission to a free slot.
    avg_queued_ms: Option<u64>,
    /// Loading the model, as far as the turn waited for it: zero where it did not.
    avg_load_ms: Option<u64>,
    /// From the slot to the first piece of the answer, of turns that had one.
    avg_first_token_ms: Option<u64>,
    /// From admission to the end.
    avg_total_ms: Option<u64>,
}

/// A turn and with what it was asked for. Of one that is not settled `usage` and `timings` are `null`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LedgerView {
    #[serde(flatten)]
    turn: TurnView,
    /// The key that asked; `null`: somebody signed in.
    key: Option<KeyName>,
}

impl UsageReportView {
    pub(crate) fn of(report: UsageReport, days: Days, by: Dimensions) -> Self {
        Self {
            object: "list",
            from: days.first(),
            to: days.last(),
            by: by.iter().map(Dimension::as_str).collect(),
            data: report.groups.into_iter().map(|group| GroupView::of(group, by)).collect(),
            total: report.total.into(),
            next_cursor: report.next.map(|next| next.to_string()),
        }
    }
}

impl GroupView {
    pub(super) fn of(group: UsageGroup, by: Dimensions) -> Self {
        let UsageGroup { of, email, key_name, tally } = group;
        Self {
            day: of.day,
            user: of.user.map(|id| UserName { id, email }),
            model: of.model,
            key: by.contains(Dimension::Key).then(|| of.key.map(|id| KeyName { id, name: key_name })),
            status: of.status.map(|status| status.as_str()),
            tally: tally.into(),
        }
    }
}

impl From<Tally> for TallyView {
    fn from(tally: Tally) -> Self {
        Self {
            requests: tally.requests(),
            complete: tally.outcomes.complete,
            interrupted: tally.outcomes.interrupted,
            cancelled: tally.outcomes.cancelled,
            failed: tally.outcomes.failed,
            streaming: tally.outcomes.streaming,
            prompt_tokens: tally.prompt_tokens,
            completion_tokens: tally.completion_tokens,
            total_tokens: tally.total_tokens(),
            reported: tally.sources.reported,
            counted: tally.sources.counted,
            estimated: tally.sources.estimated,
            avg_queued_ms: Mean::milliseconds(tally.queued),
            avg_load_ms: Mean::milliseconds(tally.load),
            avg_first_token_ms: Mean::milliseconds(tally.first_token),
            avg_total_ms: Mean::milliseconds(tally.total),
        }
    }
}

impl TallyView {
    /// What it says, under the names that it has in JSON and in the same order.
    pub(super) fn cells(&self) -> [(&'static str, Option<u64>); 16] {
        [
            ("requests", Some(self.requests)),
            ("complete", Some(self.complete)),
            ("interrupted", Some(self.interrupted)),
            ("cancelled", Some(self.cancelled)),
            ("failed", Some(self.failed)),
            ("streaming", Some(self.streaming)),
            ("prompt_tokens", Some(self.prompt_tokens)),
            ("completion_tokens", Some(self.completion_tokens)),
            ("total_tokens", Some(self.total_tokens)),
            ("reported", Some(self.reported)),
            ("counted", Some(self.counted)),
            ("estimated", Some(self.estimated)),
            ("avg_queued_ms", self.avg_queued_ms),
            ("avg_load_ms", self.avg_load_ms),
            ("avg_first_token_ms", self.avg_first_token_ms),
            ("avg_total_ms", self.avg_total_ms),
        ]
    }
}

impl From<LedgerEntry> for LedgerView {
    fn from(entry: LedgerEntry) -> Self {
        let LedgerEntry { turn, key, key_name } = entry;
        Self { turn: turn.into(), key: key.map(|id| KeyName { id, name: key_name }) }
    }
}
