//! The data directory: where SQLite and generated secrets lie, nobody's but ours.
//!
//! Whoever may write to it may put a database or a secret of their own in place of ours, so such a directory is refused
//! rather than mended: what is in it may be theirs already.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
};

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
    let found = fs::metadata(dir)?;
    let mode = found.permissions().mode();
    if mode & OTHERS_MAY_WRITE == 0 || (mode & STICKY != 0 && is_ours(&found)) {
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
