//! Turns texts into typed values and remembers everything that was wrong with them.
//!
//! Reading never stops at a bad value: the problem is kept, the key's default stands in, and the caller asks for all
//! problems at the end. The stand-ins are never used, because a configuration with a problem is no configuration.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use domain::{
    chat::limits::NUM_PREDICT,
    model_access::ModelPatterns,
    model_alias::Aliases,
    model_name::{CanonicalName, ModelName},
    secret::Secret,
};
use http::Uri;
use ipnet::IpNet;

use super::{
    keys::{Key, Kind},
    problem::Problem,
    sources::{Origin, Raw, Settings},
};
use crate::http::PageOrigin;

/// As many as `OLLAMA_NUM_PARALLEL` may say.
const MODEL_SLOTS_MAX: usize = 1_024;

/// Why a text is not a value: what it is, and what it should be.
pub(crate) struct Bad {
    what: String,
    fix: String,
}

impl Bad {
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

pub(crate) struct Reader<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// `problems` are those that were found while the sources were read.
    pub(crate) const fn new(settings: &'a Settings, problems: Vec<Problem>) -> Self {
        Self { settings, problems }
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The key's value as `parse` understands it; `None` when it is not set.
    pub(crate) fn optional<T>(&mut self, key: &Key, parse: impl Fn(&str) -> Result<T, Bad>) -> Option<T> {
        let raw = self.settings.get(key)?;
        match parse(raw.text.trim()) {
            Ok(value) => Some(value),
            Err(bad) => {
                self.problems.push(problem(key, raw, bad));
                parse(key.default).ok()
            }
        }
    }

    /// Whether any source gave the key a value of its own.
    pub(crate) fn is_given(&self, key: &Key) -> bool {
        self.settings.get(key).is_some_and(|raw| raw.origin != Origin::Default)
    }

    pub(crate) fn text(&mut self, key: &Key) -> String {
        self.optional(key, |text| Ok(text.to_owned())).unwrap_or_default()
    }

    pub(crate) fn secret(&mut self, key: &Key) -> Option<Secret<String>> {
        self.optional(key, |text| Ok(Secret::new(text.to_owned())))
    }

    pub(crate) fn switch(&mut self, key: &Key) -> bool {
        self.optional(key, |text| {
            text.parse().map_err(|_| Bad::new("is neither true nor false", "give true or false"))
        })
        .unwrap_or_default()
    }

    /// The position of the value among the key's choices.
    pub(crate) fn choice(&mut self, key: &Key) -> usize {
        let Kind::Choice(names) = key.kind else { return 0 };
        self.optional(key, |text| {
            names
                .iter()
                .position(|name| *name == text)
                .ok_or_else(|| Bad::new("is not known here", format!("give one of {}", names.join(", "))))
        })
        .unwrap_or_default()
    }

    /// A whole number within the key's bounds, in any type that holds those bounds.
    pub(crate) fn whole<T: TryFrom<u64>>(&mut self, key: &Key) -> Option<T> {
        let (min, max) = if let Kind::Whole { min, max } = key.kind { (min, max) } else { (0, u64::MAX) };
        let fix = format!("give a whole number from {min} to {max}");
        self.optional(key, |text| {
            let number = text.parse::<u64>().map_err(|_| Bad::new("is not a whole number", fix.as_str()))?;
            if !(min..=max).contains(&number) {
                return Err(Bad::new("is out of bounds", fix.as_str()));
            }
            T::try_from(number).map_err(|_| Bad::new("is out of bounds", fix.as_str()))
        })
    }

    pub(crate) fn count(&mut self, key: &Key) -> usize {
        self.whole(key).unwrap_or_default()
    }

    pub(crate) fn seconds(&mut self, key: &Key) -> Duration {
        Duration::from_secs(self.whole(key).unwrap_or_default())
    }

    /// A number from 0 to 1.
    pub(crate) fn share(&mut self, key: &Key) -> f64 {
        self.optional(key, |text| {
            let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
            share
                .ok_or_else(|| Bad::new("is no share of the whole", "give a number from 0 to 1, such as 0.1"))
        })
        .unwrap_or_default()
    }

    pub(crate) fn address(&mut self, key: &Key) -> Option<IpAddr> {
        self.optional(key, |text| parsed(text, "is not an IP address", "give one such as 127.0.0.1 or ::1"))
    }

    /// An address with a port.
    pub(crate) fn socket(&mut self, key: &Key) -> Option<SocketAddr> {
        let fix = "give one such as 127.0.0.1:9464 or [::1]:9464";
        self.optional(key, |text| parsed(text, "is not an address with a port", fix))
    }

    /// Remembers that the key's value, though well-formed, will not do.
    pub(crate) fn refuse(&mut self, key: &Key, bad: Bad) {
        if let Some(raw) = self.settings.get(key) {
            self.problems.push(problem(key, raw, bad));
        }
    }

    /// The comma-separated items, blanks between them ignored.
    pub(crate) fn list<T>(&mut self, key: &Key, parse: impl Fn(&str) -> Result<T, Bad>) -> Vec<T> {
        self.optional(key, |text| items(text).map(&parse).collect()).unwrap_or_default()
    }

    /// The comma-separated items that say something about a model each, no model twice in any spelling.
    pub(crate) fn by_model<T>(
        &mut self,
        key: &Key,
        parse: impl Fn(&str) -> Result<(CanonicalName, T), Bad>,
    ) -> BTreeMap<CanonicalName, T> {
        self.optional(key, |text| {
            let mut models = BTreeMap::new();
            for item in items(text) {
                let (model, value) = parse(item)?;
                let again = format!("names {model} twice");
                if models.insert(model, value).is_some() {
                    return Err(Bad::new(again, "name each model once"));
                }
            }
            Ok(models)
        })
        .unwrap_or_default()
    }
}

fn problem(key: &Key, raw: &Raw, bad: Bad) -> Problem {
    let shown = if key.hides(&raw.text) { String::new() } else { format!("{:?} ", raw.text) };
    Problem::new(key.name, format!("{shown}{}", bad.what), bad.fix).from(&raw.origin)
}

pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parsed<T: FromStr>(text: &str, what: &str, fix: &str) -> Result<T, Bad> {
    text.parse().map_err(|_| Bad::new(what, fix))
}

/// An address or a CIDR range.
pub(crate) fn network(item: &str) -> Result<IpNet, Bad> {
    item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        Bad::new(
            format!("contains {item:?}, which is no network"),
            "give addresses or ranges such as 10.0.0.0/8",
        )
    })
}

pub(crate) fn model(item: &str) -> Result<CanonicalName, Bad> {
    ModelName::parse(item).map(|name| name.canonical()).map_err(|_| {
        Bad::new(
            format!("contains {item:?}, which is no model's name"),
            "give names such as llama3.2 or qwen3:8b",
        )
    })
}

/// Patterns of models' names; `-` for none of them.
pub(crate) fn patterns(text: &str) -> Result<ModelPatterns, Bad> {
    if text == "-" {
        return Ok(ModelPatterns::none());
    }
    ModelPatterns::of(items(text)).map_err(|fault| Bad::new("is no list of models", fault.to_string()))
}

/// `NAME = MODEL then MODEL …`.
pub(crate) fn aliases(text: &str) -> Result<Aliases, Bad> {
    let fix = "give items such as fast = qwen3:8b then llama3.2, at most 256 aliases of at most 8 models, none of them an alias";
    Aliases::parse(text).map_err(|fault| Bad::new(fault.to_string(), fix))
}

/// `name=tokens`.
pub(crate) fn model_tokens(item: &str) -> Result<(CanonicalName, u32), Bad> {
    let bad = || {
        let fix = format!("give items such as llama3.2=4096, with 1 to {NUM_PREDICT} tokens");
        Bad::new(format!("contains {item:?}, which is no model with its tokens"), fix)
    };
    let (name, tokens) = item.split_once('=').ok_or_else(bad)?;
    let tokens = tokens.trim().parse().ok().filter(|tokens| (1..=NUM_PREDICT).contains(tokens));
    Ok((model(name.trim())?, tokens.ok_or_else(bad)?))
}

/// `name=slots`.
pub(crate) fn model_slots(item: &str) -> Result<(CanonicalName, usize), Bad> {
    let bad = || {
        let fix = format!("give items such as llama3.2=4, with 1 to {MODEL_SLOTS_MAX} slots");
        Bad::new(format!("contains {item:?}, which is no model with its slots"), fix)
    };
    let (name, slots) = item.split_once('=').ok_or_else(bad)?;
    let slots = slots.trim().parse().ok().filter(|slots| (1..=MODEL_SLOTS_MAX).contains(slots));
    Ok((model(name.trim())?, slots.ok_or_else(bad)?))
}

pub(crate) fn origin(item: &str) -> Result<PageOrigin, Bad> {
    item.parse().map_err(|_| {
        Bad::new(
            format!("contains {item:?}, which is no origin"),
            "give origins such as https://chat.example.org; wildcards are not supported",
        )
    })
}

/// The base address of a model server, without a slash at its end.
pub(crate) fn upstream(item: &str) -> Result<String, Bad> {
    let bad = |what: &str, fix: &str| Bad::new(format!("contains {item:?}, {what}"), fix.to_owned());
    // Wherever it stands, mistyped ones included: from here on the address is shown.
    if item.contains('@') {
        return Err(Bad::new("contains credentials", "give the address alone"));
    }
    let uri = item
        .parse::<Uri>()
        .map_err(|_| bad("which is no URL", "give addresses such as http://127.0.0.1:11434"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(bad(
                "but model servers are spoken to without TLS",
                "give its http:// address on a private network",
            ));
        }
        _ => return Err(bad("which does not start with http://", "put http:// in front of it")),
    }
    if uri.host().is_none_or(str::is_empty) || uri.query().is_some() || item.contains('#') {
        return Err(bad("which is no base address", "give scheme, host and port only"));
    }
    Ok(item.trim_end_matches('/').to_owned())
}

/// The address of a collector of traces.
pub(crate) fn collector(text: &str) -> Result<String, Bad> {
    let fix = "give the address of its gRPC receiver, such as http://127.0.0.1:4317";
    let uri = text.parse::<Uri>().map_err(|_| Bad::new("is no URL", fix))?;
    let is_spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_spoken || uri.host().is_none_or(str::is_empty) {
        return Err(Bad::new("does not name a server by http:// or https://", fix));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Bad::new("contains credentials", "give the address alone"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(Bad::new("has a path, which gRPC has no use for", fix));
    }
    Ok(text.to_owned())
}

/// The address of a Postgres database; whatever else it says is judged by connecting.
pub(crate) fn postgres(text: &str) -> Result<Secret<String>, Bad> {
    let fix = "give postgres://user:password@host/database, or remove the name to use SQLite in DATA_DIR";
    url_of(&["postgres://", "postgresql://"], text, fix)
}

/// The address of a Redis server, judged like that of a database.
pub(crate) fn redis(text: &str) -> Result<Secret<String>, Bad> {
    let fix = "give redis://user:password@host/0, or remove the name to count callers in memory";
    url_of(&["redis://", "rediss://"], text, fix)
}

fn url_of(schemes: &[&str; 2], text: &str, fix: &str) -> Result<Secret<String>, Bad> {
    if schemes.iter().any(|scheme| text.starts_with(scheme)) {
        Ok(Secret::new(text.to_owned()))
    } else {
        Err(Bad::new(format!("does not start with {}", schemes[0]), fix))
    }
}
