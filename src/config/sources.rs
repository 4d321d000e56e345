//! Where settings come from: defaults < TOML file < `.env` < environment < flags.
//!
//! Each source is read into plain pairs of name and text; a later one wins. Names that mean nothing are problems in
//! every source that is ours alone. The environment is full of other people's names: there only a misspelt one of ours is
//! a problem, because it would leave open what somebody meant to close.
//!
//! # When it breaks
//!
//! A file that is missing, no regular file, or not understood is a problem like any other. One on storage that hangs keeps its
//! reader for as long as that does.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{
    keys::{self, Key, Kind},
    problem::Problem,
};

/// A secret's file may be no longer than this.
const SECRET_FILE_MAX_BYTES: u64 = 64 << 10;

/// Everything that is looked at; nothing below here reads the process's surroundings.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Values a verb puts in place of the table's defaults.
    pub defaults: Vec<(&'static str, String)>,
    /// A flat TOML file; one that was named must exist.
    pub file: Option<PathBuf>,
    /// Read if it exists.
    pub env_file: Option<PathBuf>,
    pub environment: BTreeMap<String, String>,
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The surroundings of this process: `.env` in the working directory and the environment.
    ///
    /// A variable that is not UTF-8 is left out: none of our values can be.
    pub fn of_process() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
            .collect();
        Self { env_file: Some(PathBuf::from(".env")), environment, ..Self::default() }
    }
}

/// Which source a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    EnvFile(PathBuf),
    Environment,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) | Self::EnvFile(path) => write!(f, "{}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A value before it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    pub text: String,
    pub origin: Origin,
}

/// The winning text of every key that has one.
#[derive(Debug, Clone, Default)]
pub struct Settings(BTreeMap<&'static str, Raw>);

impl Settings {
    /// Reads all sources; what cannot be read or understood is added to `problems`.
    pub fn resolve(sources: &Sources, problems: &mut Vec<Problem>) -> Self {
        let mut settings = Self::default();
        for key in keys::ALL.iter().filter(|key| !key.default.is_empty()) {
            settings.put(key, key.default.to_owned(), Origin::Default);
        }
        for (name, text) in &sources.defaults {
            if let Some(key) = keys::find(name) {
                settings.put(key, text.clone(), Origin::Default);
            }
        }
        if let Some(path) = &sources.file {
            let pairs = read_toml(path, problems);
            settings.lay(pairs, &Origin::File(path.clone()), problems);
        }
        if let Some(path) = &sources.env_file {
            let pairs = read_env_file(path, problems);
            settings.lay(pairs, &Origin::EnvFile(path.clone()), problems);
        }
        let environment = sources.environment.iter().map(|(name, text)| (name.clone(), text.clone()));
        settings.lay(environment.collect(), &Origin::Environment, problems);
        settings.lay(sources.flags.clone(), &Origin::Flag, problems);
        settings
    }

    pub fn get(&self, key: &Key) -> Option<&Raw> {
        self.0.get(key.name)
    }

    /// These, with what `other` says of `key`.
    pub(super) fn take(&mut self, key: &Key, other: &Self) {
        match other.0.get(key.name) {
            Some(raw) => self.0.insert(key.name, raw.clone()),
            None => self.0.remove(key.name),
        };
    }

    fn put(&mut self, key: &'static Key, text: String, origin: Origin) {
        self.0.insert(key.name, Raw { text, origin });
    }

    /// Lays one source over what is there.
    fn lay(&mut self, pairs: Vec<(String, String)>, origin: &Origin, problems: &mut Vec<Problem>) {
        let mut spelt: BTreeMap<&'static str, String> = BTreeMap::new();
        for (name, text) in pairs {
            let Some((key, is_file)) = meaning(&name) else {
                if let Some(problem) = stranger(&name, &text, origin) {
                    problems.push(problem.from(origin));
                }
                continue;
            };
            let empty = text.trim().is_empty();
            if empty && key.kind != Kind::Secret {
                continue;
            }
            if let Some(first) = spelt.insert(key.name, name.clone())
                && first != name
            {
                problems.push(
                    Problem::new(&name, format!("{first} is set too"), "keep one of the two").from(origin),
                );
                continue;
            }
            if empty {
                problems.push(
                    Problem::new(
                        &name,
                        "is set, but empty",
                        "give it a value, or remove the name to go without it",
                    )
                    .from(origin),
                );
                continue;
            }
            match if is_file { read_secret(Path::new(&text)) } else { Ok(text) } {
                Ok(text) => self.put(key, text, origin.clone()),
                Err(what) => problems.push(
                    Problem::new(&name, what, "name a readable file that holds the secret").from(origin),
                ),
            }
        }
    }
}

/// The key a name stands for, and whether it names a file that holds the value.
fn meaning(name: &str) -> Option<(&'static Key, bool)> {
    keys::find(name).map(|key| (key, false)).or_else(|| {
        let key = keys::find(name.strip_suffix("_FILE")?)?;
        (key.kind == Kind::Secret).then_some((key, true))
    })
}

/// What to say about a name that is no key.
fn stranger(name: &str, text: &str, origin: &Origin) -> Option<Problem> {
    let base = name.strip_suffix("_FILE").unwrap_or(name);
    if *origin == Origin::Environment {
        let near = keys::misspelt(base).filter(|_| !text.trim().is_empty())?;
        let fix =
            format!("did you mean {near}? If it belongs to another program, unset it here: env -u {name} …");
        return Some(Problem::new(name, "is not a configuration key", fix));
    }
    let fix = keys::nearest(name).map_or_else(
        || "remove it; `check-config` prints every key".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    Some(Problem::new(name, "is not a configuration key", fix))
}

/// Looks at a file before it is opened: whoever opens a pipe or a device may wait there for ever.
fn regular(path: &Path) -> io::Result<fs::Metadata> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() { Ok(metadata) } else { Err(io::Error::other("it is no regular file")) }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let length = regular(path).map_err(cannot)?.len();
    if length > SECRET_FILE_MAX_BYTES {
        return Err(format!("{} is larger than {SECRET_FILE_MAX_BYTES} bytes", path.display()));
    }
    let text = fs::read_to_string(path).map_err(cannot)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text.to_owned()) }
}

fn read_toml(path: &Path, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
    let shown = path.display().to_string();
    let text = match regular(path).and_then(|_| fs::read_to_string(path)) {
        Ok(text) => text,
        Err(error) => {
            problems.push(Problem::new(
                shown,
                format!("cannot be read: {error}"),
                "name an existing file, or leave --config out",
            ));
            return Vec::new();
        }
    };
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            // The error's own text quotes the line, which may hold a secret.
            let line =
                error.span().map_or(0, |span| text.get(..span.start).unwrap_or("").matches('\n').count() + 1);
            let what = format!("is not TOML at line {line}: {}", error.message());
            problems.push(Problem::new(shown, what, "write one `NAME = value` per line"));
            return Vec::new();
        }
    };
    let mut pairs = Vec::with_capacity(table.len());
    for (name, value) in table {
        match scalar(&value) {
            Some(text) => pairs.push((name, text)),
            None => problems.push(
                Problem::new(
                    name,
                    format!("is a {}", value.type_str()),
                    "the file is flat: give text, a number, true or false, or a list of texts",
                )
                .from(&shown),
            ),
        }
    }
    pairs
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn read_env_file(path: &Path, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
    let lines = match regular(path).map_err(dotenvy::Error::Io).and_then(|_| dotenvy::from_path_iter(path)) {
        Ok(lines) => lines,
        Err(error) if error.not_found() => return Vec::new(),
        Err(error) => {
            problems.push(Problem::new(
                path.display().to_string(),
                format!("cannot be read: {error}"),
                "make it readable, or remove it",
            ));
            return Vec::new();
        }
    };
    let mut pairs = Vec::new();
    for line in lines {
        match line {
            Ok(pair) => pairs.push(pair),
            Err(error) => {
                // A parse error's own text quotes the line, which may hold a secret: only its name is repeated.
                let what = match &error {
                    dotenvy::Error::LineParse(line, _) => {
                        let name = line.split('=').next().filter(|name| line.len() > name.len());
                        format!("cannot be understood at {:?}", name.unwrap_or("a line without `=`").trim())
                    }
                    other => format!("cannot be read: {other}"),
                };
                problems.push(Problem::new(
                    path.display().to_string(),
                    what,
                    "write one NAME=value per line; quote values with blanks, `#` or `$` in single quotes",
                ));
                break;
            }
        }
    }
    pairs
}
