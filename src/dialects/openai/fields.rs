//! Fields that requests for chats, completions and responses have in common.

use actors::model::TurnOptions;
use domain::chat::{Sampling, limits};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::Manner;
use crate::{
    dialects::{
        parts::{answer_tokens, bounded, stop_list, within},
        raw::parsed,
    },
    http::ApiError,
};

#[derive(Deserialize, ToSchema, Default)]
pub(crate) struct StreamOptions {
    /// Tell at the end of the stream what it cost.
    include_usage: Option<bool>,
}

/// How the answer is to be drawn, as these requests say it.
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) max_tokens: Option<(&'static str, i64)>,
    pub(super) seed: Option<i64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) stop: Option<Box<RawValue>>,
}

impl Drawn {
    /// What is not said is left to the model's own defaults.
    ///
    /// # Errors
    ///
    /// 400 naming the field that is out of its bounds.
    pub(super) fn sampling(self) -> Result<Sampling, ApiError> {
        if let Some((param, 0)) = self.max_tokens {
            return Err(ApiError::invalid("an answer has one token at least").at(param));
        }
        Ok(Sampling {
            num_predict: self.max_tokens.map(|(_, count)| answer_tokens(count)),
            seed: self.seed,
            temperature: within(self.temperature, 0.0..=2.0, "temperature")?,
            top_p: within(self.top_p, 0.0..=1.0, "top_p")?,
            presence_penalty: within(self.presence_penalty, -2.0..=2.0, "presence_penalty")?,
            frequency_penalty: within(self.frequency_penalty, -2.0..=2.0, "frequency_penalty")?,
            stop: stops(self.stop.as_deref())?,
            ..Sampling::default()
        })
    }
}

fn stops(given: Option<&RawValue>) -> Result<Vec<String>, ApiError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let given: Value = parsed(given, limits::OPTIONS_BYTES, || "stop".to_owned())?;
    let stops = stop_list(&given)
        .ok_or_else(|| ApiError::invalid("`stop` is a string or a list of strings").at("stop"))?;
    bounded("stop", stops.len(), 0, limits::STOP_SEQUENCES)?;
    Ok(stops)
}

/// # Errors
///
/// 400 when more than one answer is asked for: each would be a turn of its own.
pub(super) fn one_answer(given: Option<i64>, param: &'static str) -> Result<(), ApiError> {
    if given.is_none_or(|count| count == 1) {
        return Ok(());
    }
    Err(ApiError::invalid("one answer is given to each request: ask again for another").at(param))
}

pub(super) fn manner(stream: Option<bool>, options: Option<&StreamOptions>) -> Manner {
    if !stream.unwrap_or(false) {
        return Manner::Whole;
    }
    let with_usage = options.is_some_and(|options| options.include_usage.unwrap_or(false));
    Manner::Streamed { with_usage }
}

/// A turn that ends with its client, and of which only the cost is kept unless asked.
pub(super) fn turn_options(store: bool, manner: Manner) -> TurnOptions {
    TurnOptions { store, is_streamed: manner != Manner::Whole, ..TurnOptions::default() }
}
