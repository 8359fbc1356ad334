//! Files and directories that are nobody else's business: 0600 and 0700, replaced whole or not at all.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why a private file cannot be used. Each names it.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// Others may read or change it.
    #[error("{path} is open to others (mode {mode:04o})")]
    Loose {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than such a file can be.
    #[error("{path} has more than {max} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The cap, bytes.
        max: u64,
    },
    /// The disk said no.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PrivateError {
    /// Nothing stands at that path.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Something stands there already.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// Makes a directory, 0700, with its parents. One that is there is left as it is.
pub fn make_dir(dir: &Path) -> Result<(), PrivateError> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir).map_err(io_at(dir))
}

/// Reads a secret file of at most `max` bytes, which nobody else may be able to read. Wiped on drop.
pub fn read(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, PrivateError> {
    let file = File::open(path).map_err(io_at(path))?;
    let metadata = file.metadata().map_err(io_at(path))?;
    check_mode(path, &metadata)?;
    let size = usize::try_from(metadata.len().min(max)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(max + 1).read_to_end(&mut bytes).map_err(io_at(path))?;
    if bytes.len() as u64 > max {
        return Err(PrivateError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

/// Writes a file, 0600, in place of the one that may stand there: beside it, to disk, then renamed.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), PrivateError> {
    let (dir, file) = beside(path, bytes)?;
    file.persist(path).map_err(|e| io_at(path)(e.error))?;
    sync_dir(dir).map_err(io_at(dir))
}

/// As [`replace`], but never over another file.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PrivateError> {
    let (dir, file) = beside(path, bytes)?;
    file.persist_noclobber(path).map_err(|e| io_at(path)(e.error))?;
    sync_dir(dir).map_err(io_at(dir))
}

/// Refuses a file that its group or others may read or write.
#[cfg(unix)]
fn check_mode(path: &Path, metadata: &Metadata) -> Result<(), PrivateError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(PrivateError::Loose { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &Metadata) -> Result<(), PrivateError> {
    Ok(())
}

/// `tempfile` makes its files 0600.
fn beside<'p>(path: &'p Path, bytes: &[u8]) -> Result<(&'p Path, tempfile::NamedTempFile), PrivateError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".secchat-").tempfile_in(dir).map_err(io_at(dir))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(io_at(path))?;
    Ok((dir, file))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> PrivateError {
    move |source| PrivateError::Io { path: path.to_owned(), source }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_private_and_what_is_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_new(&path, b"two").unwrap_err().is_taken());
        assert_eq!(read(&path, 3).unwrap().as_slice(), b"one");
        replace(&path, b"three").unwrap();
        assert!(matches!(read(&path, 3), Err(PrivateError::TooLarge { .. })));
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path, 9), Err(PrivateError::Loose { .. })), "{mode:o}");
        }
        assert!(read(&dir.path().join("absent"), 9).unwrap_err().is_absent());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
