//! A copy of a server's database, taken while another connection writes to it.

use super::{BUSY, DATABASE};
use rusqlite::{Connection, InterruptHandle, OpenFlags};
use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why there is no copy. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The copy would have to replace something.
    #[error("{0} is there already")]
    Taken(PathBuf),
    /// The path is of no use.
    #[error("{0} is not an absolute path of a file")]
    Path(PathBuf),
    /// The file cannot be made or kept.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk is full, the database is damaged, or the copy was broken off.
    #[error("the copy failed: {0}")]
    Copy(#[from] rusqlite::Error),
}

/// Breaks off a copy from another thread.
pub struct Breaker(InterruptHandle);

impl Breaker {
    /// The copy ends with an error, soon.
    pub fn stop(&self) {
        self.0.interrupt();
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Breaker")
    }
}

/// Copies the database of a data directory, as it is at this moment, into a file that is not there yet (0600); its size in bytes. The copy
/// appears under its name only when it is whole and on the disk. `begun` gets what breaks it off.
pub fn backup(data: &Path, file: &Path, begun: impl FnOnce(Breaker)) -> Result<u64, BackupError> {
    let parent = file.parent().filter(|_| file.is_absolute() && file.file_name().is_some());
    let parent = parent.ok_or_else(|| BackupError::Path(file.to_owned()))?;
    if file.symlink_metadata().is_ok() {
        return Err(BackupError::Taken(file.to_owned()));
    }
    let io = |source| BackupError::Io { path: file.to_owned(), source };
    let private = Permissions::from_mode(0o600);
    let copy =
        tempfile::Builder::new().prefix(".secchat-backup-").permissions(private).tempfile_in(parent).map_err(io)?;
    let source = Connection::open_with_flags(data.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    source.busy_timeout(BUSY)?;
    begun(Breaker(source.get_interrupt_handle()));
    let path = copy.path().to_str().ok_or_else(|| BackupError::Path(file.to_owned()))?;
    source.execute("VACUUM INTO ?1", [path])?;
    drop(source);
    let size = copy.as_file().metadata().and_then(|meta| copy.as_file().sync_all().map(|()| meta.len())).map_err(io)?;
    copy.persist_noclobber(file).map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Taken(file.to_owned()),
        _ => io(e.error),
    })?;
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)?;
    Ok(size)
}

/// Bytes that the database of a data directory takes on the disk, what is not yet merged into it included.
pub fn size(data: &Path) -> u64 {
    let parts = [DATABASE.to_owned(), format!("{DATABASE}-wal")];
    parts.iter().filter_map(|part| Some(data.join(part).metadata().ok()?.len())).sum()
}

/// What a restored directory needs beside the database.
pub const BESIDE: &str = "identity, name, tls.pem and tls.key (or what --cert and --mesh-certs name)";
/// Under which name it is restored.
pub const RESTORED_AS: &str = DATABASE;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;
    use crate::store::{Entry, List, ServerStore, Write};
    use crate::wire::name::Name;
    use std::fs;

    fn filled(dir: &Path) -> ServerStore {
        let mut store = ServerStore::open(dir).unwrap();
        let name =
            Write::Name { name: Name::parse("bob").unwrap(), key: Identity::from_seed(&[1; 32]).public(), since_ms: 1 };
        let ban = Write::Keep(Entry { list: List::Ban, key: vec![7], value: vec![8] });
        store.apply(&[name, ban]).unwrap();
        store
    }

    #[test]
    fn a_copy_of_a_database_in_use_holds_its_names_and_bans() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = filled(dir.path());
        let copy = other.path().join("copy.db");
        let size = backup(dir.path(), &copy, |_| ()).unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().len(), size);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1, "nothing else is left");
        assert!(matches!(backup(dir.path(), &copy, |_| ()), Err(BackupError::Taken(_))));
        let restored = tempfile::tempdir().unwrap();
        fs::copy(&copy, restored.path().join(RESTORED_AS)).unwrap();
        let loaded = ServerStore::open(restored.path()).unwrap().load().unwrap();
        let before = store.load().unwrap();
        assert_eq!((loaded.names.len(), loaded.register), (1, before.register));
    }

    #[test]
    fn a_copy_that_cannot_be_made_leaves_nothing() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _store = filled(dir.path());
        let absent = other.path().join("absent/copy.db");
        assert!(matches!(backup(dir.path(), &absent, |_| ()), Err(BackupError::Io { .. })));
        assert!(matches!(backup(dir.path(), Path::new("copy.db"), |_| ()), Err(BackupError::Path(_))));
        // One that is broken off.
        let file = other.path().join("copy.db");
        let mut held = filled(other.path());
        assert!(backup(&other.path().join("absent"), &file, |_| ()).is_err());
        assert!(!file.exists());
        held.apply(&[]).unwrap();
        let left: Vec<_> = fs::read_dir(other.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("backup")), "{left:?}");
    }
}
