//! What proofs share that run small in the suite and at full size by `scripts/prove`: the service as a process of its own,
//! and the size that was asked for.

use std::{env, path::PathBuf, process::Command, str::FromStr};

use support::{
    gateway::Gateway,
    process::{Scratch, find_program},
};

use super::{Database, SECRET};

/// What `scripts/prove` asks for; nothing in the suite.
#[expect(clippy::disallowed_methods, reason = "scripts/prove has no other way to tell a test its size")]
pub(crate) fn asked<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().ok().unwrap_or_else(|| panic!("{name} cannot be {text:?}")))
}

/// Starts the service in `scratch` with these settings, behind a proxy on this machine that it trusts.
pub(crate) async fn start_process(
    scratch: &Scratch,
    database: &Database,
    settings: &[(&str, &str)],
) -> Gateway {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
    command.env_clear().env("JWT_SECRET", SECRET).env("TRUSTED_PROXY_IPS", "127.0.0.1/32");
    if let Database::Postgres { url, .. } = database {
        command.env("DATABASE_URL", url);
    }
    command.envs(settings.iter().copied());
    Gateway::start(command, scratch).await.unwrap()
}

/// What a process is started with whose wall clock is `ahead` (`+60s`) of the machine's.
pub(crate) fn clock_ahead(ahead: &str) -> [(&'static str, String); 3] {
    [
        ("LD_PRELOAD", libfaketime().to_str().unwrap().to_owned()),
        ("FAKETIME", ahead.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// Where Debian keeps the library that tells a process another time.
fn libfaketime() -> PathBuf {
    find_program("faketime", &[], "faketime").unwrap();
    let found = std::fs::read_dir("/usr/lib").unwrap().filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.is_file().then_some(library)
    });
    found.into_iter().next().expect("the package faketime brings its library")
}
