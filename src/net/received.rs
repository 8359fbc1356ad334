//! Room for what one receive call brings: several batches, each of datagrams that came from one address in a row.

use std::fmt;
use std::io::IoSliceMut;
use std::net::SocketAddr;

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta};

use super::udp::canonical;

/// Buffers for [`super::udp::Port::recv_batch`], made once and used again, and what the last call put into them.
pub struct Received {
    bytes: Vec<u8>,
    // One for each buffer of BUFFER_LEN bytes.
    metas: Vec<RecvMeta>,
    // Buffers that the last call filled; at most metas.len().
    filled: usize,
    // Buffers that a call may fill: the last one, and any.
    offered: usize,
    least: usize,
    // The next call is to fill only one.
    one: bool,
}

impl Received {
    /// `buffers` of 64 KiB, at least one and at most 32. Each takes one datagram of any size, or as many datagrams as the
    /// system has joined. Where datagrams come one by one, more of them are taken: then little of each buffer is used.
    pub fn new(buffers: usize) -> Self {
        let offered = buffers.clamp(1, BATCH_SIZE);
        // Memory that is never written to costs nothing.
        Self {
            bytes: vec![0; BATCH_SIZE * BUFFER_LEN],
            metas: vec![RecvMeta::default(); BATCH_SIZE],
            filled: 0,
            least: offered,
            one: false,
            offered,
        }
    }

    /// The next call fills one buffer only, whatever waits.
    pub fn take_one(&mut self) {
        self.one = true;
    }

    /// Bytes that the last call received.
    pub fn len(&self) -> usize {
        self.metas.iter().take(self.filled).map(|meta| meta.len).sum()
    }

    /// Whether the last call received nothing.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether the last call had room for more.
    pub fn had_room(&self) -> bool {
        self.filled < self.offered
    }

    /// What the last call received, in order.
    pub fn batches(&mut self) -> impl Iterator<Item = Batch<'_>> {
        let filled = self.metas.iter().take(self.filled);
        self.bytes.chunks_mut(BUFFER_LEN).zip(filled).filter_map(|(bytes, meta)| Batch::of(bytes, meta))
    }

    /// Lets `receive` fill the buffers; it returns how many it has filled.
    pub(super) fn fill<E>(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.offered = if std::mem::take(&mut self.one) {
            1
        } else if !self.is_empty() && self.len() <= self.filled * SMALL {
            BATCH_SIZE
        } else {
            self.least
        };
        self.filled = 0;
        let mut buffers = self.bytes.chunks_mut(BUFFER_LEN);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let slices = slices.get_mut(..self.offered).unwrap_or_default();
        let metas = self.metas.get_mut(..self.offered).unwrap_or_default();
        self.filled = receive(slices, metas)?.min(self.offered);
        Ok(())
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("buffers", &self.offered).field("filled", &self.filled).finish()
    }
}

/// Datagrams of one sender that came in a row.
#[derive(Debug)]
pub struct Batch<'b> {
    /// The datagrams end to end: each has `stride` bytes, the last may have fewer. Never empty.
    pub bytes: &'b mut [u8],
    /// Bytes of a datagram, at least 1.
    pub stride: usize,
    /// Where they came from; an IPv4-mapped address as IPv4.
    pub from: SocketAddr,
    /// Whether a router on the way marked them for congestion (ECN CE, RFC 3168).
    pub ce: bool,
}

impl<'b> Batch<'b> {
    fn of(buffer: &'b mut [u8], meta: &RecvMeta) -> Option<Self> {
        // An empty datagram says nothing to any protocol of ours.
        let bytes = buffer.get_mut(..meta.len).filter(|bytes| !bytes.is_empty())?;
        let ce = meta.ecn == Some(EcnCodepoint::Ce);
        Some(Self { bytes, stride: meta.stride.max(1), from: canonical(meta.addr), ce })
    }

    /// The datagrams, one by one.
    pub fn datagrams(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_mut(self.stride)
    }
}

/// Room for the largest datagram, and for as much as Linux joins.
const BUFFER_LEN: usize = 65_536;
/// Bytes in a buffer, on the average, up to which all buffers together stay in the processor's cache.
const SMALL: usize = 4_096;
