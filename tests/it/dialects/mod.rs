//! Other dialects than our own, in front of the fake Ollama.

mod anthropic;
mod matrix;
mod ollama;
mod openai;
mod path_key;
mod responses;
