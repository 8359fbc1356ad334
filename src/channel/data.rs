//! Where a connection's bytes come from and go to, and the datagrams that carry them. The driver implements source and
//! sink over its files.

use super::event::Failure;
use thiserror::Error;

use crate::wire::packet::MAX_DATAGRAM;

/// The stream that we send.
pub trait StreamSource {
    /// Fills `bytes`, which is never empty, with the stream from `offset` on. The same place may be asked for again
    /// until it is acknowledged, with the same bytes each time; nothing is asked for beyond the end that
    /// [`set_stream_end`](super::Connection::set_stream_end) told.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError>;

    /// What the peer is told when a read has failed.
    fn failure(&self) -> String {
        Failure::Source.to_string()
    }
}

/// Why a source has not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Not read from disk yet: ask again at the next transmit.
    #[error("the bytes are not there yet")]
    NotReady,
    /// The file is gone, shorter than agreed, or cannot be read. Ends the connection.
    #[error("the file cannot be read")]
    Failed,
}

/// The stream that comes.
pub trait StreamSink {
    /// Takes bytes of the peer's stream: each once, in order from offset 0.
    /// A sink that cannot go on remembers why, and its owner closes the connection.
    fn deliver(&mut self, offset: u64, bytes: &[u8]);
}

/// The source of a side that sends nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSource;

impl StreamSource for NoSource {
    fn read(&mut self, _offset: u64, _bytes: &mut [u8]) -> Result<(), SourceError> {
        Err(SourceError::Failed)
    }
}

/// The sink of a side that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl StreamSink for NoSink {
    fn deliver(&mut self, _offset: u64, _bytes: &[u8]) {}
}

/// A stream in memory.
impl StreamSource for &[u8] {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        let start = usize::try_from(offset).map_err(|_| SourceError::Failed)?;
        let found = self.get(start..).and_then(|rest| rest.get(..bytes.len())).ok_or(SourceError::Failed)?;
        bytes.copy_from_slice(found);
        Ok(())
    }
}

/// Collects a short stream.
impl StreamSink for Vec<u8> {
    fn deliver(&mut self, _offset: u64, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Sealed datagrams for one address that leave in one system call (generic segmentation offload): one behind the
/// other, all of [`Self::stride`] bytes but the last, which may be shorter. Made once and filled again and again.
#[derive(Debug)]
pub struct Batch {
    // MAX_DATAGRAM bytes from the first use on.
    buffer: Vec<u8>,
    // What they will carry, as it was read: MAX_DATAGRAM bytes too.
    plain: Vec<u8>,
    // Bytes in use.
    used: usize,
    // 0 while the batch is empty.
    stride: usize,
    max: usize,
}

impl Batch {
    /// A batch of up to `max` datagrams, 1 to [`MAX_BATCH`]; a driver without segmentation offload takes 1.
    pub fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), plain: Vec::new(), used: 0, stride: 0, max: max.clamp(1, MAX_BATCH) }
    }

    /// All datagrams, one behind the other: at most 65,507 bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }

    /// Bytes of each datagram but the last. 0 if there is none.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.used.div_ceil(self.stride.max(1))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Each datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(self.stride.max(1))
    }

    /// Each datagram, to be opened or damaged in place.
    pub fn datagrams_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let stride = self.stride.max(1);
        self.buffer.get_mut(..self.used).unwrap_or_default().chunks_mut(stride)
    }

    /// The most datagrams that it takes.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Changes [`Self::max`] from the next filling on: a driver falls back to 1 where the kernel refuses offload.
    pub fn set_max(&mut self, max: usize) {
        self.max = max.clamp(1, MAX_BATCH);
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.stride = 0;
    }

    /// Forgets the old contents and hands out `used` bytes for datagrams of `stride` bytes; at most [`MAX_DATAGRAM`].
    pub(super) fn begin(&mut self, used: usize, stride: usize) -> &mut [u8] {
        if self.buffer.len() < MAX_DATAGRAM {
            self.buffer.resize(MAX_DATAGRAM, 0);
        }
        self.used = used.min(MAX_DATAGRAM);
        self.stride = stride;
        self.buffer.get_mut(..self.used).unwrap_or_default()
    }

    /// Room for what the datagrams will carry, and the datagrams.
    pub(super) fn halves(&mut self) -> (&mut [u8], &mut [u8]) {
        if self.plain.len() < MAX_DATAGRAM {
            self.plain.resize(MAX_DATAGRAM, 0);
        }
        (&mut self.plain, self.buffer.get_mut(..self.used).unwrap_or_default())
    }

    /// Drops what lies behind the first `used` bytes.
    pub(super) fn truncate(&mut self, used: usize) {
        self.used = self.used.min(used);
        if self.used == 0 {
            self.stride = 0;
        }
    }
}

/// The most datagrams in one batch: what the kernel takes in one segmented send.
pub const MAX_BATCH: usize = 64;
