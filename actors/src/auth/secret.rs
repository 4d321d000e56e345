//! The master secret: from the configuration, or made once and kept in the data directory.
//!
//! All keys are derived from it, so losing it signs everybody out and leaking it lets anybody in. There is no default
//! (A8): a secret that is empty, short, thought up or printed in somebody's documentation is refused at
//! start.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{id::InstanceId, secret::Secret};

use crate::{clock::fresh_id, data_dir, system::StartError};

/// RFC 7518 §3.2: a key for HS256 is at least as long as its hash.
const MIN_BYTES: usize = 32;

/// Longer than any secret; a file above it is something else.
const MAX_FILE_BYTES: u64 = 4_096;

/// 32 random bytes, as hex, have fewer different characters with a chance of less than 10⁻¹¹.
const MIN_DISTINCT_BYTES: usize = 10;

/// Neighbours such as `1234`, `fedc` or `aaaa`: so many in a row are a run.
const RUN_BYTES: usize = 4;

pub(super) const FILE: &str = "secret";

/// Phrases of secrets that people think up or copy, compared without case and punctuation. Random text in base64 contains
/// one of them less than once in a million times, in hex never.
const PHRASES: [&str; 27] = [
    "256bit",
    "512bit",
    "asdfgh",
    "atleast",
    "changeme",
    "changethis",
    "deepersensor",
    "donotuse",
    "example",
    "generatewith",
    "insecure",
    "openssl",
    "passphrase",
    "passw0rd",
    "password",
    "placeholder",
    "qwerty",
    "randombytes",
    "replaceme",
    "replacethis",
    "replacewith",
    "s3cr3t",
    "sample",
    "secret",
    "signingkey",
    "yourjwt",
    "zxcvbn",
];

/// What is wrong with a secret and how to mend it, for the operator; `None` when it will do.
pub fn weakness(secret: &Secret<String>) -> Option<String> {
    let flaw = flaw(secret.reveal().trim())?;
    Some(format!("{flaw}; use at least {MIN_BYTES} random bytes, such as `openssl rand -base64 48` prints"))
}

fn flaw(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("it is empty".to_owned());
    }
    if text.len() < MIN_BYTES {
        return Some(format!("it has {} bytes and needs at least {MIN_BYTES}", text.len()));
    }
    let plain: String =
        text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    if PHRASES.iter().any(|phrase| plain.contains(phrase)) {
        return Some("it reads like a sample value, not like random bytes".to_owned());
    }
    if is_periodic(text.as_bytes()) || distinct(text.as_bytes()) < MIN_DISTINCT_BYTES {
        return Some("it repeats itself".to_owned());
    }
    let is_runs = bytes_in_runs(plain.as_bytes()) * 2 > plain.len();
    is_runs.then(|| "it is mostly runs of neighbouring characters".to_owned())
}

/// How many bytes belong to runs: at least [`RUN_BYTES`] that rise, fall or stay by the same step of one or none.
fn bytes_in_runs(text: &[u8]) -> usize {
    let (mut in_runs, mut from) = (0, 0);
    while from < text.len() {
        let step = |at: usize| Some(i16::from(*text.get(at + 1)?) - i16::from(text[at]));
        let first = step(from).filter(|step| step.abs() <= 1);
        let steps = (from..text.len()).take_while(|at| first.is_some() && step(*at) == first).count();
        if steps + 1 >= RUN_BYTES {
            in_runs += steps + 1;
            from += steps + 1;
        } else {
            from += 1;
        }
    }
    in_runs
}

/// Whether it is one part said again and again.
fn is_periodic(text: &[u8]) -> bool {
    (1..=text.len() / 2).any(|period| text[period..] == text[..text.len() - period])
}

fn distinct(text: &[u8]) -> usize {
    text.iter().collect::<HashSet<_>>().len()
}

/// The configured secret, or the one kept in `data_dir`, made now if there is none.
///
/// # Errors
///
/// [`StartError::Config`] says what the operator should change; nothing has been overwritten.
pub(super) fn load(
    configured: Option<&Secret<String>>,
    data_dir: &Path,
) -> Result<Secret<String>, StartError> {
    let (secret, source) = match configured {
        Some(secret) => (secret.clone(), "auth.secret".to_owned()),
        None => {
            let path = data_dir.join(FILE);
            let secret = read_or_make(data_dir, &path)
                .map_err(|error| StartError::Config(format!("{}: {error}", path.display())))?;
            (secret, path.display().to_string())
        }
    };
    match weakness(&secret) {
        None => Ok(Secret::new(secret.reveal().trim().to_owned())),
        Some(weakness) => Err(StartError::Config(format!("{source}: {weakness}"))),
    }
}

fn read_or_make(dir: &Path, path: &Path) -> io::Result<Secret<String>> {
    data_dir::prepare(dir)?;
    match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(dir, path)?;
            // Not what was just made: another process may have been first.
            read(path)
        }
        outcome => outcome,
    }
}

fn read(path: &Path) -> io::Result<Secret<String>> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "others may read it; run `chmod 600` on it, or remove it and run `deepersensor keys rotate`",
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(Secret::new(text))
}

/// Writes a whole new file beside `path` and links it there, which fails if anything is there already: no reader ever
/// sees half a secret and no secret is ever replaced.
fn make(data_dir: &Path, path: &Path) -> io::Result<()> {
    let secret = fresh()?;
    let draft = data_dir.join(format!(".{FILE}.{}", fresh_id::<InstanceId>()));
    let outcome =
        write_new(&draft, secret.reveal().as_bytes()).and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        });
    // The draft may not exist if writing failed; its absence is what we want.
    let _ = fs::remove_file(&draft);
    outcome?;
    File::open(data_dir)?.sync_all()
}

fn fresh() -> io::Result<Secret<String>> {
    loop {
        let mut bytes = [0; MIN_BYTES];
        rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
        // Chance writes a phrase too, sometimes: what is kept must pass the check of the next start.
        if weakness(&secret).is_none() {
            return Ok(secret);
        }
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.write_all(b"\n")?;
    file.sync_all()
}
