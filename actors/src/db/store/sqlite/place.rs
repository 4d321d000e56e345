//! Where the database lies: a private directory on a local disk, and who may use it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    data_dir,
    db::{config::DATABASE_FILE, store::OpenError},
};

/// File systems whose locks do not reach other machines, or not reliably.
const NETWORK_FILE_SYSTEMS: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "afs"];

pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    /// Creates what is missing: the directory for its owner alone (0700), the file likewise (0600). Files that others may
    /// read are taken away from them; a directory that others may write to is refused.
    pub(super) fn prepare(data_dir: &Path) -> Result<Self, OpenError> {
        let place = Self { dir: data_dir.to_path_buf() };
        data_dir::prepare(data_dir).map_err(at(data_dir))?;
        if let Some(kind) = network_file_system(data_dir) {
            return Err(OpenError::NetworkFileSystem { path: data_dir.to_path_buf(), kind });
        }
        // SQLite gives its log and shared-memory files the mode of the database file, if it makes them anew.
        place.open_private(&place.database())?;
        for left_over in ["deepersensor.db-wal", "deepersensor.db-shm"] {
            let path = place.dir.join(left_over);
            match File::open(&path).and_then(|file| data_dir::tighten(&file, &path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&path)(error)),
                _ => {}
            }
        }
        Ok(place)
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE_FILE)
    }

    /// Claims the directory for one running service; the claim ends with the file, and with the process.
    pub(super) fn lock(&self) -> Result<File, OpenError> {
        let file = self.open_private(&self.dir.join("serve.lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse(self.dir.clone())),
            Err(fs::TryLockError::Error(cause)) => Err(at(&self.dir)(cause)),
        }
    }

    /// Waits until no other process migrates.
    pub(super) async fn lock_for_migration(&self) -> Result<File, OpenError> {
        let path = self.dir.join("migrate.lock");
        let file = self.open_private(&path)?;
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        locked.map_err(io::Error::other).and_then(|locked| locked).map_err(at(&path))
    }

    fn open_private(&self, path: &Path) -> Result<File, OpenError> {
        let open = || {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            data_dir::tighten(&file, path)?;
            Ok(file)
        };
        open().map_err(at(path))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |cause| OpenError::File { path: path.to_path_buf(), cause }
}

/// The kind of the file system that holds `dir`, if it is one of another machine.
fn network_file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    // Not on Linux: there is nothing to read, and nothing to say.
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let kind = kind_of(&mounts, &dir)?;
    NETWORK_FILE_SYSTEMS.contains(&kind).then(|| kind.to_owned())
}

/// The file system type of the innermost mount point above `dir`.
fn kind_of<'m>(mounts: &'m str, dir: &Path) -> Option<&'m str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_decides_the_file_system() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\nfiler:/x /srv nfs4 rw 0 0\n/dev/sdb1 /srv/local xfs rw 0 0\n";
        assert_eq!(kind_of(mounts, Path::new("/var/lib/deepersensor")), Some("ext4"));
        assert_eq!(kind_of(mounts, Path::new("/srv/data")), Some("nfs4"));
        assert_eq!(kind_of(mounts, Path::new("/srv/local/data")), Some("xfs"));
        assert_eq!(kind_of(mounts, Path::new("/srvlocal")), Some("ext4"));
    }
}
