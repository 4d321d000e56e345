//! What the tests and the benchmark stand on.
//!
//! A scripted Ollama that can be slow, lie or die on purpose ([`fake_ollama`]), the same in OpenAI's dialect ([`fake_openai`]), a collector of traces that can do the same
//! ([`otlp`]), a proxy that breaks the network between two parties ([`fault_proxy`]), the service itself as a process
//! ([`gateway`]), a client for load ([`client`]) with what its figures need ([`stats`]), and the real servers a deployment has:
//! [`postgres`], [`redis`], [`nginx`] and [`prometheus`], started on free ports in a temporary directory and ended with the test
//! process, however it ends ([`process`]).
//!
//! Nothing here depends on the project's other crates, so every one of them may use it in its tests.

pub mod client;
pub mod clock;
mod door;
pub mod fake_ollama;
pub mod fake_openai;
pub mod fault_proxy;
pub mod gateway;
pub mod nginx;
pub mod otlp;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod redis;
pub mod stats;
