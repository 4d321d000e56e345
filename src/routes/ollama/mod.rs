//! Ollama's paths; see [`crate::dialects::ollama`]. Those by which its models are changed are not here: that is the operator's, at
//! the model server.

pub(crate) mod answer;
pub(crate) mod catalogue;
pub(crate) mod embed;
