//! The downloads directory. Everything happens beneath one directory handle, never through a link, never over a file
//! that is there.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use rustix::fs::{OFlags, RenameFlags};
use thiserror::Error;

use crate::transfer::name::SafeName;

/// Where downloads go.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    dir: Arc<Dir>,
    path: PathBuf,
}

/// What is known of a file before it comes.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) name: SafeName,
    /// Bytes.
    pub(super) size: u64,
    /// BLAKE3.
    pub(super) root: [u8; 32],
}

/// Why a download does not stand under its name.
#[derive(Debug, Error)]
pub(super) enum DownloadError {
    /// It is not the file that was agreed on.
    #[error("the bytes that came are not those of the file that was agreed on")]
    Verification,
    /// The disk.
    #[error("the downloads directory: {0}")]
    Disk(#[from] io::Error),
    /// The name and every number after it are taken.
    #[error("too many files have this name already")]
    NamesTaken,
}

impl Downloads {
    /// Opens the directory; makes it if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { dir: Arc::new(dir), path: path.to_owned() })
    }

    /// Makes the unfinished file, told apart from others by the random `tag`.
    pub(super) fn begin(&self, expected: Expected, tag: [u8; 8]) -> Result<PartialFile, DownloadError> {
        let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let partial = expected.name.partial(&tag);
        let mut options = OpenOptions::new();
        let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        options.write(true).create_new(true).mode(0o600).custom_flags(no_follow);
        let file = self.dir.open_with(&partial, &options)?;
        let downloads = self.clone();
        Ok(PartialFile { downloads, partial, file, expected, hasher: blake3::Hasher::new(), written: 0 })
    }

    /// Gives the file `partial` the first of its names that is free.
    fn settle(&self, partial: &str, name: &SafeName) -> Result<PathBuf, DownloadError> {
        let names = std::iter::once(name.clone()).chain((1..=NUMBERS_MAX).map(|n| name.numbered(n)));
        for name in names {
            match rename_to_new(&self.dir, partial, name.as_str()) {
                Ok(()) => {
                    rustix::fs::fsync(
                        rustix::fs::openat(
                            &*self.dir,
                            ".",
                            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                            rustix::fs::Mode::empty(),
                        )
                        .map_err(io::Error::from)?,
                    )
                    .map_err(io::Error::from)?;
                    return Ok(self.path.join(name));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DownloadError::NamesTaken)
    }
}

/// A file that is still coming. It is removed when dropped, unless it was finished.
#[derive(Debug)]
pub(super) struct PartialFile {
    downloads: Downloads,
    partial: String,
    file: File,
    expected: Expected,
    hasher: blake3::Hasher,
    written: u64,
}

impl PartialFile {
    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Checks that this is the file expected and gives it its name; returns its path.
    pub(super) fn finish(self) -> Result<PathBuf, DownloadError> {
        let same = blake3::Hash::from_bytes(self.expected.root) == self.hasher.finalize();
        if self.written != self.expected.size || !same {
            return Err(DownloadError::Verification);
        }
        self.file.sync_all()?;
        self.downloads.settle(&self.partial, &self.expected.name)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After a rename nothing stands under this name; the tag is random, so it is nobody else's.
        let _ = self.downloads.dir.remove_file(&self.partial);
    }
}

/// Renames in one step, and fails if `to` is there, be it a dangling link.
fn rename_to_new(dir: &Dir, from: &str, to: &str) -> io::Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            // A file system without this kind of rename; a hard link does not replace either.
            dir.hard_link(from, dir, to)?;
            dir.remove_file(from)
        }
        Err(error) => Err(error.into()),
    }
}

/// Numbers tried after a name that is taken.
const NUMBERS_MAX: u32 = 9_999;
