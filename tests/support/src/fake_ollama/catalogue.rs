//! What the server says about itself and its models: tags, ps, show, version.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::Server;
use super::http::response::{ERROR_JSON, JSON, Wire};
use super::json;
use super::model::Model;
use super::script::error_body;
use crate::clock;

/// How `/api/tags` or `/api/ps` answers. A vanished model, `families: null` and absent capabilities are matters of
/// the model table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listing {
    #[default]
    Normal,
    /// The truth, this much later.
    Slow(Duration),
    /// An error with this status.
    Fails(u16),
    /// No models.
    Empty,
}

pub(crate) async fn tags(server: &Server, wire: &mut Wire<'_>) -> io::Result<()> {
    let listing = server.faults.lock().tags;
    let mut models = server.models.lock().clone();
    models.sort_by(|a, b| b.modified_at.cmp(&a.modified_at));
    list(listing, models.iter().map(entry).collect(), wire).await
}

pub(crate) async fn ps(server: &Server, wire: &mut Wire<'_>) -> io::Result<()> {
    let listing = server.faults.lock().ps;
    let loaded = server.scheduler.loaded().into_iter().filter_map(|loaded| {
        let model = server.find(&loaded.model)?;
        let context = model.details.context_length.unwrap_or(4_096);
        let mut entry = entry(&model);
        let object = entry.as_object_mut()?;
        object.shift_remove("modified_at");
        object.shift_remove("capabilities");
        // A model that stays for ever says so by a far year.
        let stays = loaded.expires_in.unwrap_or(Duration::from_secs(292 * 365 * 86_400));
        object.insert("expires_at".to_owned(), json!(clock::rfc3339(clock::now() + stays)));
        object.insert("size_vram".to_owned(), json!(model.size));
        object.insert("context_length".to_owned(), json!(context));
        Some(entry)
    });
    let loaded = loaded.collect();
    list(listing, loaded, wire).await
}

async fn list(listing: Listing, models: Vec<Value>, wire: &mut Wire<'_>) -> io::Result<()> {
    let models = match listing {
        Listing::Normal => models,
        Listing::Slow(delay) => {
            tokio::time::sleep(delay).await;
            models
        }
        Listing::Fails(status) => return wire.reply(status, ERROR_JSON, &error_body("listing failed")).await,
        Listing::Empty => Vec::new(),
    };
    wire.reply(200, JSON, &json::to_go(&json!({ "models": models }))).await
}

fn entry(model: &Model) -> Value {
    let mut entry = json!({
        "name": model.name,
        "model": model.name,
        "modified_at": model.modified_at,
        "size": model.size,
        "digest": model.digest,
        "details": model.details,
    });
    if let Some(capabilities) = &model.capabilities {
        entry["capabilities"] = json!(capabilities);
    }
    entry
}

pub(crate) async fn show(server: &Server, body: &json::Members, wire: &mut Wire<'_>) -> io::Result<()> {
    let text = |name| body.field(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(name) = text("model").or(text("name")) else {
        return wire.reply(400, ERROR_JSON, &error_body("model is required")).await;
    };
    let Some(model) = server.find(name) else {
        let message = format!("model '{}' not found", super::model::canonical(name));
        return wire.reply(404, ERROR_JSON, &error_body(&message)).await;
    };
    let family = &model.details.family;
    let mut info = json!({ "general.architecture": family, "general.parameter_count": 8_190_735_360_u64 });
    let lengths = [
        ("context_length", model.details.context_length),
        ("embedding_length", model.details.embedding_length),
    ];
    for (name, length) in lengths {
        if let Some(length) = length {
            info[format!("{family}.{name}")] = json!(length);
        }
    }
    let reply = json!({
        "license": "Apache License 2.0",
        "modelfile": format!("FROM /usr/share/ollama/.ollama/models/blobs/sha256-{}\n", model.digest),
        "parameters": "stop                           \"<|im_end|>\"\ntemperature                    0.6",
        "template": "{{ .Prompt }}",
        "details": model.details,
        "model_info": info,
        // Servers that leave them out of the tags still tell them here.
        "capabilities": model.capabilities.as_deref().unwrap_or(&["completion".to_owned()]),
        "modified_at": model.modified_at,
    });
    wire.reply(200, JSON, &json::to_go(&reply)).await
}
