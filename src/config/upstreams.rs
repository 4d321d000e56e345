//! The model servers: `UPSTREAMS` with `UPSTREAM_API_KEYS`, or `OLLAMA_BASE_URL`, and the demo model.

use std::collections::BTreeMap;

use actors::model::{UpstreamConfig, UpstreamKind};
use domain::secret::Secret;
use http::Uri;

use super::{
    keys,
    reader::{self, Bad, Reader, items},
};

/// Model servers that one instance asks. Each is asked for its models every few seconds, and each has a breaker, so a mistake
/// must not make thousands.
pub(crate) const UPSTREAMS_MAX: usize = 32;

/// Characters of a server's name: it is a label of metrics and a part of paths.
const NAME_CHARS_MAX: usize = 32;

const WEIGHT_MAX: u32 = 100;

/// The built-in model's name among the servers.
const DEMO: &str = "demo";

/// One entry of `UPSTREAMS` before its key is known.
struct Entry {
    name: String,
    kind: Wire,
    base_url: String,
    weight: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Ollama,
    OpenAi,
}

/// Every server that is named, in their order, then the demo model.
pub(crate) fn read(reader: &mut Reader<'_>) -> Vec<UpstreamConfig> {
    let mut upstreams = if reader.is_given(&keys::UPSTREAMS) { named(reader) } else { ollamas(reader) };
    if upstreams.len() > UPSTREAMS_MAX {
        let key = if reader.is_given(&keys::UPSTREAMS) { &keys::UPSTREAMS } else { &keys::OLLAMA_BASE_URL };
        let what = format!("names {} servers", upstreams.len());
        reader.refuse(key, Bad::new(what, format!("name at most {UPSTREAMS_MAX}")));
    }
    if reader.switch(&keys::DEMO_MODEL) {
        if upstreams.iter().any(|server| server.name == DEMO) {
            let what = format!("names a server {DEMO}, which is the built-in model of DEMO_MODEL");
            reader.refuse(&keys::UPSTREAMS, Bad::new(what, "give the server another name"));
        }
        upstreams.push(UpstreamConfig::new(DEMO, UpstreamKind::Demo));
    }
    upstreams
}

/// The servers of `OLLAMA_BASE_URL`: the first is called `ollama`, the second `ollama-2`.
fn ollamas(reader: &mut Reader<'_>) -> Vec<UpstreamConfig> {
    let mut upstreams: Vec<UpstreamConfig> = Vec::new();
    for base_url in reader.list(&keys::OLLAMA_BASE_URL, reader::upstream) {
        let kind = UpstreamKind::Ollama { base_url };
        // Naming a server twice must not double its slots.
        if upstreams.iter().all(|known| known.kind != kind) {
            let name = match upstreams.len() {
                0 => "ollama".to_owned(),
                before => format!("ollama-{}", before + 1),
            };
            upstreams.push(UpstreamConfig::new(name, kind));
        }
    }
    let secrets = api_keys(reader);
    keys_of_nobody(reader, &secrets, &[]);
    upstreams
}

/// The servers of `UPSTREAMS`.
fn named(reader: &mut Reader<'_>) -> Vec<UpstreamConfig> {
    let text = reader.text(&keys::UPSTREAMS);
    let mut entries: Vec<Entry> = Vec::new();
    for item in items(&text) {
        match entry(item).and_then(|entry| alone(&entries, entry)) {
            Ok(entry) => entries.push(entry),
            Err(bad) => reader.refuse(&keys::UPSTREAMS, bad),
        }
    }
    let secrets = api_keys(reader);
    keys_of_nobody(reader, &secrets, &entries);
    entries.into_iter().map(|entry| finished(entry, &secrets)).collect()
}

fn finished(entry: Entry, secrets: &BTreeMap<String, Secret<String>>) -> UpstreamConfig {
    let Entry { name, kind, base_url, weight } = entry;
    let kind = match kind {
        Wire::Ollama => UpstreamKind::Ollama { base_url },
        Wire::OpenAi => UpstreamKind::OpenAi { base_url, key: secrets.get(&name).cloned() },
    };
    UpstreamConfig { name, kind, weight }
}

/// `NAME KIND URL [weight=N]`.
fn entry(item: &str) -> Result<Entry, Bad> {
    let bad = |what: String| {
        Bad::new(
            what,
            "give entries such as `gpu1 ollama http://10.0.0.1:11434 weight=2`, separated by commas",
        )
    };
    // From here on an entry is shown.
    if item.contains('@') {
        return Err(Bad::new(
            "contains credentials",
            "give the address alone, and keys in UPSTREAM_API_KEYS",
        ));
    }
    let mut words = item.split_whitespace();
    let (Some(name), Some(kind), Some(url)) = (words.next(), words.next(), words.next()) else {
        return Err(bad(format!("contains {item:?}, which is not a name, a kind and an address")));
    };
    let is_named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() > NAME_CHARS_MAX || !name.bytes().all(is_named) {
        let fix = format!("name servers in at most {NAME_CHARS_MAX} small letters, digits and hyphens");
        return Err(Bad::new(format!("contains {name:?}, which is no server's name"), fix));
    }
    let (kind, base_url) = match kind {
        "ollama" => (Wire::Ollama, reader::upstream(url)?),
        "openai" => (Wire::OpenAi, openai_address(url)?),
        _ => {
            let what = format!("contains {kind:?}, which is no kind of server");
            return Err(Bad::new(what, "give ollama or openai"));
        }
    };
    let weight = words.next().map_or(Ok(1), |word| {
        let number = word.strip_prefix("weight=").and_then(|number| number.parse().ok());
        number.filter(|weight| (1..=WEIGHT_MAX).contains(weight)).ok_or_else(|| {
            let fix = format!("give nothing, or weight= with a whole number from 1 to {WEIGHT_MAX}");
            Bad::new(format!("contains {word:?} after the address of {name}"), fix)
        })
    })?;
    match words.next() {
        None => Ok(Entry { name: name.to_owned(), kind, base_url, weight }),
        Some(word) => Err(bad(format!("contains {word:?} at the end of {name}"))),
    }
}

/// The entry, if it names neither a server nor an address of those before it.
fn alone(before: &[Entry], entry: Entry) -> Result<Entry, Bad> {
    let Entry { name, base_url, .. } = &entry;
    if before.iter().any(|other| other.name == *name) {
        return Err(Bad::new(format!("names {name} twice"), "give each server a name of its own"));
    }
    if let Some(other) = before.iter().find(|other| other.base_url == *base_url) {
        let what = format!("gives {} and {name} the same address", other.name);
        return Err(Bad::new(what, "name each server once, and give it a weight"));
    }
    Ok(entry)
}

/// The base address of an OpenAI-compatible server, without a slash at its end.
fn openai_address(url: &str) -> Result<String, Bad> {
    let fix = "give the address that ends before /chat/completions, such as https://llm.example/v1";
    let uri = url.parse::<Uri>().map_err(|_| Bad::new(format!("contains {url:?}, which is no URL"), fix))?;
    let is_spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_spoken || uri.host().is_none_or(str::is_empty) || uri.query().is_some() || url.contains('#') {
        return Err(Bad::new(format!("contains {url:?}, which is no base address"), fix));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// The keys of `UPSTREAM_API_KEYS` by server. What is wrong with one is told by its place: its text may be a key.
fn api_keys(reader: &mut Reader<'_>) -> BTreeMap<String, Secret<String>> {
    let Some(text) = reader.secret(&keys::UPSTREAM_API_KEYS) else { return BTreeMap::new() };
    let mut secrets = BTreeMap::new();
    for (place, item) in items(text.reveal()).enumerate() {
        let place = place + 1;
        let mut refuse = |what: String| {
            reader.refuse(
                &keys::UPSTREAM_API_KEYS,
                Bad::new(what, "give entries such as hosted=KEY, one for each server"),
            );
        };
        let Some((name, key)) = item.split_once('=').map(|(name, key)| (name.trim(), key.trim())) else {
            refuse(format!("has no = in its entry {place}"));
            continue;
        };
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            refuse(format!("has a key in its entry {place} that cannot be sent in a header"));
        } else if secrets.insert(name.to_owned(), Secret::new(key.to_owned())).is_some() {
            refuse(format!("names the server of its entry {place} twice"));
        }
    }
    secrets
}

/// Keys that would be sent to nobody: a misspelt name must not leave a server without its key.
fn keys_of_nobody(reader: &mut Reader<'_>, secrets: &BTreeMap<String, Secret<String>>, entries: &[Entry]) {
    let is_used = |name: &str| entries.iter().any(|entry| entry.name == name && entry.kind == Wire::OpenAi);
    for (place, _) in secrets.keys().enumerate().filter(|(_, name)| !is_used(name)) {
        let what =
            format!("has a key (number {} by name) for no server of the kind openai in UPSTREAMS", place + 1);
        reader.refuse(
            &keys::UPSTREAM_API_KEYS,
            Bad::new(what, "name a server of UPSTREAMS, or remove the key"),
        );
    }
}
