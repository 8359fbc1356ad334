//! Where a connection's segments come from and go to. The driver implements both over its file.

use thiserror::Error;

/// The file at the sending side.
pub trait SegmentSource {
    /// Fills all of `out` with the file's bytes from `offset` on. The same place may be asked for many times, until
    /// it is acknowledged; the bytes must not change meanwhile.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SourceError>;
}

/// Why a source has not filled a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Not read from disk yet: ask again at the next transmit.
    #[error("the bytes are not there yet")]
    NotReady,
    /// The file is gone, shorter than agreed, or cannot be read. Ends the connection.
    #[error("the file cannot be read")]
    Failed,
}

/// The file at the receiving side.
pub trait SegmentSink {
    /// Takes bytes of the file. With Go-Back-N each byte comes once, in order from offset 0.
    /// A sink that cannot go on remembers why, and its owner closes the connection.
    fn deliver(&mut self, offset: u64, bytes: &[u8]);
}

/// The source of a receiver, which sends no segments.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSource;

impl SegmentSource for NoSource {
    fn read(&mut self, _offset: u64, _out: &mut [u8]) -> Result<(), SourceError> {
        Err(SourceError::Failed)
    }
}

/// The sink of a sender, which takes no segments.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl SegmentSink for NoSink {
    fn deliver(&mut self, _offset: u64, _bytes: &[u8]) {}
}

/// A file in memory.
impl SegmentSource for &[u8] {
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let start = usize::try_from(offset).map_err(|_| SourceError::Failed)?;
        let bytes = self.get(start..).and_then(|rest| rest.get(..out.len())).ok_or(SourceError::Failed)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

/// Collects a small file; offsets are ignored, so it needs delivery in order.
impl SegmentSink for Vec<u8> {
    fn deliver(&mut self, _offset: u64, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
