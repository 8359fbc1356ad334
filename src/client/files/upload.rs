//! An opened file as the source of a channel.

use cap_std::fs::{File, FileExt};

use super::hashing::Stamp;
use super::shares::OpenShare;
use crate::channel::{Piece, SourceError, StreamSource};

/// Reads from the handle that was hashed, ahead by [`AHEAD`] bytes, and stops as soon as the file looks different.
#[derive(Debug)]
pub(super) struct FileSource {
    file: File,
    stamp: Stamp,
    // Holds the file's bytes from `start` on.
    buffer: Vec<u8>,
    start: u64,
}

impl FileSource {
    pub(super) fn new(open: OpenShare) -> Self {
        Self { file: open.file, stamp: open.stamp, buffer: Vec::new(), start: 0 }
    }

    /// Whether the file still looks as it did when it was hashed.
    pub(super) fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| Stamp::of(&metadata) == self.stamp)
    }

    fn buffered(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.buffer.get(from..from.checked_add(len)?)
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<(), SourceError> {
        let left = usize::try_from(self.stamp.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.start = offset;
        self.buffer.resize(left.min(AHEAD.max(len)), 0);
        let read = self.file.read_exact_at(&mut self.buffer, offset);
        if read.is_err() || !self.is_unchanged() {
            self.buffer.clear();
            return Err(SourceError::Failed);
        }
        Ok(())
    }
}

impl StreamSource for FileSource {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), SourceError> {
        for Piece { offset, bytes } in pieces {
            if self.buffered(*offset, bytes.len()).is_none() {
                // A repeat can go back behind the buffer's start; it goes on forward from there.
                self.fill(*offset, bytes.len())?;
            }
            bytes.copy_from_slice(self.buffered(*offset, bytes.len()).ok_or(SourceError::Failed)?);
        }
        Ok(())
    }
}

/// Bytes read at once.
const AHEAD: usize = 256 * 1024;
