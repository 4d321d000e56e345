//! OpenAI's paths. Their own libraries read what they answer, so what is ours in it is only added.

mod answering;
pub(crate) mod chat_completions;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod responses;
