//! The data directory: where SQLite and generated secrets lie, nobody's but ours.
//!
//! Whoever may write to it may put a database or a secret of their own in place of ours, so such a directory is refused
//! rather than mended: what is in it may be theirs already.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Whether a start could keep its files in `dir`, as far as that shows without touching anything.
///
/// # Errors
///
/// Why not, for the operator.
pub fn would_do(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    let existing =
        dir.ancestors().find(|place| place.as_os_str().is_empty() || place.exists()).unwrap_or(dir);
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let found = fs::metadata(existing).map_err(|error| format!("{shown} cannot be looked at: {error}"))?;
    if !found.is_dir() {
        return Err(format!("{} is no directory", existing.display()));
    }
    if existing == dir {
        fit(&found).map_err(|error| format!("{shown}: {error}"))?;
    }
    // A file without a name, gone when it is closed; some file systems have none, and tell nothing.
    match OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(existing) {
        Err(error) if is_refusal(&error) => {
            Err(format!("nothing can be made in {}: {error}", existing.display()))
        }
        _ => Ok(()),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

const OTHERS_MAY_WRITE: u32 = 0o022;
const OTHERS_MAY_ANYTHING: u32 = 0o077;
/// In such a directory nobody removes or renames what is not theirs, except its owner.
const STICKY: u32 = 0o1000;

/// Creates the directory for its owner alone (0700), or makes sure that nobody else may write to the one that is there.
///
/// # Errors
///
/// Tell the operator, with the path; nothing in it was touched.
pub(crate) fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fit(&fs::metadata(dir)?)
}

fn fit(found: &Metadata) -> io::Result<()> {
    let mode = found.permissions().mode();
    if mode & OTHERS_MAY_WRITE == 0 || (mode & STICKY != 0 && is_ours(found)) {
        return Ok(());
    }
    let mode = mode & 0o7777;
    Err(io::Error::other(format!(
        "others may write to this directory (mode {mode:o}); make sure that they have not, then run `chmod 700` on it"
    )))
}

/// Takes the file away from others, if they may do anything with it.
pub(crate) fn tighten(file: &File, path: &Path) -> io::Result<()> {
    if file.metadata()?.permissions().mode() & OTHERS_MAY_ANYTHING != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
        tracing::warn!(path = %path.display(), "others could open this file; its mode is 600 now");
    }
    Ok(())
}

/// Whether the directory is there and belongs to another user: what we make there could not be opened by its owner.
pub(crate) fn is_anothers(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|found| !is_ours(&found)) && Path::new("/proc/self").exists()
}

fn is_ours(found: &Metadata) -> bool {
    // Our own entry in /proc belongs to who we are; where there is none, nobody knows.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == found.uid())
}

#[cfg(test)]
mod tests {
    use domain::id::InstanceId;

    use super::*;
    use crate::clock::fresh_id;

    #[test]
    fn what_a_start_would_stumble_over_shows_before_and_nothing_is_made() {
        let dir = std::env::temp_dir().join(format!("deepersensor-dir-{}", fresh_id::<InstanceId>()));
        let inner = dir.join("a/b");
        would_do(&inner).unwrap();
        assert!(!dir.exists(), "only looked at");
        prepare(&dir).unwrap();
        would_do(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        assert!(would_do(&dir).unwrap_err().contains("chmod 700"));
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.join("a"), "").unwrap();
        assert!(would_do(&inner).unwrap_err().ends_with("a is no directory"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a8_a_directory_that_others_may_write_to_is_refused_and_left_alone() {
        let dir = std::env::temp_dir().join(format!("deepersensor-dir-{}", fresh_id::<InstanceId>()));
        prepare(&dir).unwrap();
        let mode = || fs::metadata(&dir).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o700);
        for (is_fine, set) in
            [(true, 0o755), (true, 0o750), (true, 0o1777), (false, 0o770), (false, 0o702), (false, 0o777)]
        {
            fs::set_permissions(&dir, Permissions::from_mode(set)).unwrap();
            let outcome = prepare(&dir).map_err(|error| error.to_string());
            match &outcome {
                Ok(()) => assert!(is_fine, "{set:o} was accepted"),
                Err(said) => assert!(!is_fine && said.contains("chmod 700"), "{set:o}: {said}"),
            }
            assert_eq!(mode(), set);
        }
        fs::remove_dir(&dir).unwrap();
    }
}
