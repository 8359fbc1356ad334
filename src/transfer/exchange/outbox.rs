//! A short byte stream of our own, kept until the peer has acknowledged it.

use std::collections::VecDeque;

/// The bytes of a stream from the first that is not acknowledged.
#[derive(Debug, Default)]
pub struct Outbox {
    // The stream offset of the first byte kept.
    base: u64,
    bytes: VecDeque<u8>,
}

impl Outbox {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Bytes that exist so far, from the stream's beginning.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Bytes that are kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Drops what lies below `acked`.
    pub fn forget(&mut self, acked: u64) {
        let gone = acked.saturating_sub(self.base).min(self.bytes.len() as u64);
        self.bytes.drain(..usize::try_from(gone).unwrap_or(0));
        self.base += gone;
    }

    /// Fills `out` with the bytes from `offset` on; false when they are not all kept.
    #[must_use]
    pub fn read(&self, offset: u64, out: &mut [u8]) -> bool {
        let start = offset.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let Some((start, end)) = start.and_then(|start| Some((start, start.checked_add(out.len())?))) else {
            return false;
        };
        if end > self.bytes.len() {
            return false;
        }
        self.bytes.range(start..end).zip(out).for_each(|(from, to)| *to = *from);
        true
    }
}
