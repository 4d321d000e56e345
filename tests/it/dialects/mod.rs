//! Other dialects than our own, in front of the fake Ollama.

mod anthropic;
mod ollama;
mod openai;
mod path_key;
