//! Limits of one account or one key, as they are shown and changed.

use domain::limits::{Limits, LimitsChange, Priority};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::shapes;

/// What was set; `null` where nothing was.
#[derive(Serialize, ToSchema)]
pub(crate) struct LimitsView {
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u32>,
    /// Turns that run at once; those beyond it wait.
    streams: Option<u32>,
    /// The most that may be asked for: `interactive` or `batch`.
    #[schema(schema_with = shapes::priority)]
    priority: Option<Priority>,
}

/// What changes: a limit that is left out stays, `null` removes it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsPatch {
    /// 1 to 1,000,000.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000)]
    requests_per_minute: Option<Option<u32>>,
    /// 1 to 1,000,000,000.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000000)]
    tokens_per_minute: Option<Option<u32>>,
    /// Turns that run at once, 1 to 10,000; those beyond it wait.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    streams: Option<Option<u32>>,
    /// The most that may be asked for: `interactive` or `batch`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(schema_with = shapes::priority)]
    priority: Option<Option<Priority>>,
}

impl From<Limits> for LimitsView {
    fn from(limits: Limits) -> Self {
        let Limits { requests_per_minute, tokens_per_minute, streams, priority } = limits;
        Self { requests_per_minute, tokens_per_minute, streams, priority }
    }
}

impl From<LimitsPatch> for LimitsChange {
    fn from(patch: LimitsPatch) -> Self {
        let LimitsPatch { requests_per_minute, tokens_per_minute, streams, priority } = patch;
        Self { requests_per_minute, tokens_per_minute, streams, priority }
    }
}

/// Tells `null` from a field that is left out, which `default` makes `None`.
pub(crate) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_left_out_stays_and_null_removes_it() {
        let change = |text| serde_json::from_str::<LimitsPatch>(text).map(LimitsChange::from);
        assert_eq!(change("{}").unwrap(), LimitsChange::NONE);
        let body = r#"{"requests_per_minute":60,"streams":null,"priority":"batch"}"#;
        let expected = LimitsChange {
            requests_per_minute: Some(Some(60)),
            tokens_per_minute: None,
            streams: Some(None),
            priority: Some(Some(Priority::Batch)),
        };
        assert_eq!(change(body).unwrap(), expected);
        for unfit in [
            r#"{"requests":60}"#,
            r#"{"streams":-1}"#,
            r#"{"priority":"urgent"}"#,
            r#"{"streams":1,"streams":2}"#,
        ] {
            assert!(change(unfit).is_err(), "{unfit}");
        }
    }
}
