//! By what a file is known to be the same as before.

use std::os::unix::fs::MetadataExt as _;

use cap_std::fs::{Metadata, MetadataExt as _};

/// Size, time of the last change, and which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    /// Bytes.
    pub(super) size: u64,
    changed: (i64, i64),
    file: (u64, u64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }

    /// For files that were opened by their path.
    pub(super) fn of_std(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }

    /// A text of its own for each stamp, fit for a file name.
    pub(super) fn key(&self) -> String {
        let ((device, inode), (seconds, nanoseconds)) = (self.file, self.changed);
        format!("{device:x}-{inode:x}-{:x}-{seconds:x}-{nanoseconds:x}", self.size)
    }
}
