//! The demo's user: made once, kept in a file that only its owner can read.
//!
//! The file is the body of a log-in request, so the printed `curl` lines can send it as it is and no password appears
//! on a screen.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Value, json};

const EMAIL: &str = "demo@example.com";
const PASSWORD_BYTES: usize = 16;

/// Where the user is kept.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("user.json")
}

/// The kept user, or a new one with a password nobody has seen.
pub(crate) fn load_or_create(data_dir: &Path) -> anyhow::Result<Value> {
    let path = path(data_dir);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not ours: remove it", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let user = json!({ "email": EMAIL, "password": password()? });
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
            file.write_all(user.to_string().as_bytes())?;
            Ok(user)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// 128 random bits in groups of four hexadecimal digits.
fn password() -> anyhow::Result<String> {
    let mut bytes = [0_u8; PASSWORD_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("no randomness")?;
    let groups: Vec<_> =
        bytes.chunks(2).map(|pair| pair.iter().map(|b| format!("{b:02x}")).collect::<String>()).collect();
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_user_is_made_once_and_only_its_owner_can_read_it() {
        let dir = std::env::temp_dir().join(format!("deepersensor-user-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&dir).unwrap();
        let made = load_or_create(&dir).unwrap();
        let mode = fs::metadata(path(&dir)).unwrap().permissions().mode();
        let kept = load_or_create(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(made, kept);
        assert_eq!(made["password"].as_str().unwrap().len(), 39);
    }

    #[test]
    fn no_two_passwords_are_alike() {
        assert_ne!(password().unwrap(), password().unwrap());
    }
}
