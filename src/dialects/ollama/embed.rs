//! Texts as vectors: `/api/embed`, and the older `/api/embeddings` of one text.

use actors::reply::Ending;
use domain::embedding::{EmbedRequest, limits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::reply::nanos;
use crate::{
    dialects::parts::{TextOr, bounded, model_name},
    http::ApiError,
};

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct EmbedBody {
    #[schema(example = "nomic-embed-text")]
    model: String,
    /// A text, or at most 2,048.
    #[schema(value_type = Option<TextOr<String>>)]
    input: Option<TextOr<String>>,
    /// Cuts what is too long to be read; `true` unless said otherwise.
    truncate: Option<bool>,
    #[schema(minimum = 1, maximum = 65536)]
    dimensions: Option<i64>,
}

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct OldEmbedBody {
    #[schema(example = "nomic-embed-text")]
    model: String,
    prompt: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    /// Nanoseconds.
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u32,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OldEmbedded {
    pub(crate) embedding: Vec<f32>,
}

impl EmbedBody {
    /// What is to be turned into vectors, which may be nothing.
    ///
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<EmbedRequest, ApiError> {
        let inputs = match self.input {
            None => Vec::new(),
            Some(TextOr::Text(text)) if text.is_empty() => Vec::new(),
            Some(TextOr::Text(text)) => vec![text],
            Some(TextOr::List(texts)) => texts,
        };
        bounded("input", inputs.len(), 0, limits::INPUTS)?;
        let dimensions = self.dimensions.map(|given| {
            let dimensions =
                u32::try_from(given).ok().filter(|given| (1..=limits::DIMENSIONS).contains(given));
            dimensions
                .ok_or_else(|| ApiError::invalid("this must be an integer from 1 to 65536").at("dimensions"))
        });
        Ok(EmbedRequest {
            model: model_name(&self.model)?,
            inputs,
            dimensions: dimensions.transpose()?,
            truncate: self.truncate.unwrap_or(true),
        })
    }
}

impl OldEmbedBody {
    /// # Errors
    ///
    /// As [`EmbedBody::read`].
    pub(crate) fn read(self) -> Result<EmbedRequest, ApiError> {
        let input = self.prompt.map(TextOr::Text);
        EmbedBody { model: self.model, input, truncate: None, dimensions: None }.read()
    }
}

impl<'a> Embedded<'a> {
    pub(crate) fn new(model: &'a str, embeddings: Vec<Vec<f32>>, ending: &Ending) -> Self {
        Self {
            model,
            embeddings,
            total_duration: nanos(ending.timings.total),
            load_duration: nanos(ending.timings.load),
            prompt_eval_count: ending.usage.prompt_tokens,
        }
    }

    /// Of no text.
    pub(crate) fn nothing(model: &'a str) -> Self {
        Self { model, embeddings: Vec::new(), total_duration: 0, load_duration: 0, prompt_eval_count: 0 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialects::fuzz::no_body_is_our_fault;

    #[test]
    fn b05_no_body_about_vectors_is_our_fault() {
        let good = [
            json!({"model": "m", "input": "hi"}),
            json!({"model": "m", "input": ["a", "b"], "truncate": false, "dimensions": 3, "options": {}, "keep_alive": 0}),
        ];
        no_body_is_our_fault(&good, EmbedBody::read);
        no_body_is_our_fault(
            &[json!({"model": "m", "prompt": "hi"}), json!({"model": "m"})],
            OldEmbedBody::read,
        );
    }

    #[test]
    fn what_is_no_text_or_too_much_is_refused_by_its_name() {
        for (field, value) in [
            ("input", json!([[1, 2], [3]])),
            ("input", json!(vec!["x"; limits::INPUTS + 1])),
            ("dimensions", json!(0)),
            ("dimensions", json!(limits::DIMENSIONS + 1)),
            ("model", json!("../x")),
        ] {
            let mut body = json!({"model": "m", "input": "hi"});
            body[field] = value;
            let read = |body: EmbedBody, _: &[u8]| body.read();
            let refused = crate::http::understand_body(body.to_string().as_bytes(), read).unwrap_err();
            assert_eq!(refused.status().as_u16(), 400, "{body}");
            assert!(refused.object("r").param.is_some_and(|param| param.starts_with(field)), "{body}");
        }
    }
}
