//! Texts as vectors.

use crate::{chat::tokens, model_name::ModelName, reply::Usage};

/// Texts to be turned into vectors, validated: at most [`limits::INPUTS`].
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    pub model: ModelName,
    pub inputs: Vec<String>,
    /// Shortens the vectors, where the model knows how.
    pub dimensions: Option<u32>,
    /// Cuts an input that is longer than the model can read; else it is refused.
    pub truncate: bool,
}

impl EmbedRequest {
    /// Tokens by rule of thumb, at least one for each input.
    pub fn estimated_tokens(&self) -> u32 {
        self.inputs.iter().map(|text| tokens(text.len(), 0)).fold(0, u32::saturating_add)
    }

    /// About how much memory it takes for as long as its turn waits.
    pub fn memory_bytes(&self) -> usize {
        self.inputs.iter().map(|text| text.len() + size_of::<String>()).sum()
    }
}

/// One vector for each input, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embeddings {
    pub vectors: Vec<Vec<f32>>,
    /// As the server counted; `None` when it did not tell.
    pub usage: Option<Usage>,
}

/// Bounds on what one request may carry.
pub mod limits {
    pub const INPUTS: usize = 2_048;
    pub const DIMENSIONS: u32 = 65_536;
}
