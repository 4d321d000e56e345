//! A model server asked what it is, before the room uses it.

use super::{
    Timeouts, UpstreamConfig,
    provider::{AnyProvider, Provider as _},
};

/// What a model server said.
pub(crate) struct Found {
    pub what: String,
    pub warning: Option<String>,
}

/// Asks for its models, and for its version where it has one.
///
/// # Errors
///
/// Why it cannot be asked, for the operator.
pub(crate) async fn look(server: &UpstreamConfig, timeouts: &Timeouts) -> Result<Found, String> {
    let provider = AnyProvider::from_config(server, timeouts).map_err(|error| error.to_string())?;
    match provider {
        AnyProvider::Ollama(ollama) => {
            let (version, is_unsafe) = ollama.version().await.map_err(|error| error.to_string())?;
            let models = ollama.list().await.map_err(|error| error.to_string())?.len();
            let warning =
                is_unsafe.then(|| "it has known security holes, 0.17.1 or newer has not".to_owned());
            let warning =
                warning.or_else(|| (models == 0).then(|| "it has no model: `ollama pull` one".to_owned()));
            Ok(Found { what: format!("answers, version {version}, {models} models"), warning })
        }
        AnyProvider::OpenAi(openai) => {
            let models = openai.list().await.map_err(|error| error.to_string())?.len();
            let warning = (models == 0).then(|| "it has no model".to_owned());
            Ok(Found { what: format!("answers, {models} models"), warning })
        }
        AnyProvider::Demo(_) => Ok(Found { what: "is built in".to_owned(), warning: None }),
        #[cfg(test)]
        AnyProvider::Scripted(_) => Ok(Found { what: "is built in".to_owned(), warning: None }),
    }
}
