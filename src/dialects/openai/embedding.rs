//! `POST /v1/embeddings`: texts as vectors, as numbers or as the bytes of these in base64, which OpenAI's libraries ask for.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::{
    embedding::{EmbedRequest, limits},
    reply::Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    dialects::parts::{TextOr, bounded, model_name},
    http::ApiError,
};

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct EmbeddingRequest {
    #[schema(example = "nomic-embed-text")]
    model: String,
    /// A text, or at most 2,048.
    #[schema(value_type = TextOr<String>)]
    input: Box<RawValue>,
    encoding_format: Option<EncodingFormat>,
    #[schema(minimum = 1, maximum = 65536)]
    dimensions: Option<i64>,
}

#[derive(Debug, Deserialize, ToSchema, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    #[default]
    Float,
    /// Little-endian numbers of four bytes.
    Base64,
}

impl EmbeddingRequest {
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<(EmbedRequest, EncodingFormat), ApiError> {
        let inputs = inputs(&self.input)?;
        bounded("input", inputs.len(), 1, limits::INPUTS)?;
        if inputs.iter().any(String::is_empty) {
            return Err(ApiError::invalid("there is nothing in a text").at("input"));
        }
        let dimensions = self.dimensions.map(|given| {
            let dimensions =
                u32::try_from(given).ok().filter(|given| (1..=limits::DIMENSIONS).contains(given));
            dimensions
                .ok_or_else(|| ApiError::invalid("this must be an integer from 1 to 65536").at("dimensions"))
        });
        let model = model_name(&self.model)?;
        let request = EmbedRequest { model, inputs, dimensions: dimensions.transpose()?, truncate: true };
        Ok((request, self.encoding_format.unwrap_or_default()))
    }
}

fn inputs(given: &RawValue) -> Result<Vec<String>, ApiError> {
    match serde_json::from_str(given.get()) {
        Ok(TextOr::Text(text)) => Ok(vec![text]),
        Ok(TextOr::List(texts)) => Ok(texts),
        // Tokens are of one model's vocabulary, which the model server does not take.
        Err(_) if given.get().starts_with('[') => {
            let message =
                "this must be texts, not tokens (LangChain: check_embedding_ctx_length=False), at most 2048";
            Err(ApiError::invalid(message).at("input"))
        }
        Err(_) => Err(ApiError::invalid("this must be a text or a list of texts").at("input")),
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct EmbeddingReply<'a> {
    object: &'static str,
    data: Vec<EmbeddingView>,
    model: &'a str,
    usage: EmbeddingUsage,
}

#[derive(Serialize, ToSchema)]
struct EmbeddingView {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize, ToSchema)]
struct EmbeddingUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

impl<'a> EmbeddingReply<'a> {
    pub(crate) fn new(model: &'a str, vectors: Vec<Vec<f32>>, format: EncodingFormat, usage: Usage) -> Self {
        let view = |(index, vector): (usize, Vec<f32>)| EmbeddingView {
            object: "embedding",
            index,
            embedding: match format {
                EncodingFormat::Float => Vector::Float(vector),
                EncodingFormat::Base64 => Vector::Base64(in_base64(&vector)),
            },
        };
        Self {
            object: "list",
            data: vectors.into_iter().enumerate().map(view).collect(),
            model,
            usage: EmbeddingUsage { prompt_tokens: usage.prompt_tokens, total_tokens: usage.prompt_tokens },
        }
    }
}

fn in_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dialects::fuzz::no_body_is_our_fault;

    fn read(fields: Value) -> Result<(EmbedRequest, EncodingFormat), ApiError> {
        let mut body = json!({"model": "m", "input": "hi"});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        serde_json::from_str::<EmbeddingRequest>(&body.to_string()).unwrap().read()
    }

    #[test]
    fn texts_come_alone_or_together_and_nothing_else_does() {
        assert_eq!(read(json!({})).unwrap().0.inputs, ["hi"]);
        let (request, format) =
            read(json!({"input": ["a", "b"], "dimensions": 3, "encoding_format": "base64", "user": "x"}))
                .unwrap();
        assert_eq!((request.inputs, request.dimensions), (vec!["a".to_owned(), "b".to_owned()], Some(3)));
        assert_eq!(format, EncodingFormat::Base64);
        for (fields, param) in [
            (json!({"input": [1, 2]}), "input"),
            (json!({"input": [[1, 2]]}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": ""}), "input"),
            (json!({"input": 7}), "input"),
            (json!({"input": vec!["x"; 2_049]}), "input"),
            (json!({"dimensions": 0}), "dimensions"),
            (json!({"model": "../x"}), "model"),
        ] {
            let error = read(fields).err().unwrap();
            assert_eq!((error.status().as_u16(), error.object("r").param), (400, Some(param)));
        }
    }

    #[test]
    fn numbers_in_base64_are_little_endian() {
        let usage = Usage { prompt_tokens: 5, ..Usage::default() };
        let reply = EmbeddingReply::new("m", vec![vec![1.0, -0.5]], EncodingFormat::Base64, usage);
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5},
                   "data": [{"object": "embedding", "index": 0, "embedding": "AACAPwAAAL8="}]})
        );
    }

    #[test]
    fn no_body_about_vectors_is_our_fault() {
        let good = [
            json!({"model": "m", "input": "hi"}),
            json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 3, "user": "x"}),
        ];
        no_body_is_our_fault(&good, EmbeddingRequest::read);
    }
}
