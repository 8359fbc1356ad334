//! Fills datagrams with a holder's stream: file bytes by positioned reads straight into them, hashes between.

use std::io::{self, IoSliceMut};
use std::slice::IterMut;

use super::content::{Content, Reader};
use crate::channel::{MAX_BATCH, Piece, SourceError, StreamSource};
use crate::transfer::exchange::{Answers, PartSource};

/// One upload's stream.
#[derive(Debug)]
pub(super) struct UploadSource<'u> {
    pub(super) answers: &'u Answers,
    pub(super) content: &'u Content,
    pub(super) open: &'u mut OpenItems,
}

/// Items that were opened lately, the latest last.
#[derive(Debug, Default)]
pub(super) struct OpenItems {
    // At most OPEN_MAX.
    items: Vec<(u32, Reader)>,
    // Items that were read since the last check.
    touched: Vec<u32>,
    /// An item that is no longer what it was, or cannot be read.
    pub(super) changed: Option<u32>,
}

impl OpenItems {
    fn get(&mut self, content: &Content, item: u32) -> io::Result<&Reader> {
        match self.items.iter().position(|(open, _)| *open == item) {
            Some(at) if at + 1 < self.items.len() => {
                let found = self.items.remove(at);
                self.items.push(found);
            }
            Some(_) => {}
            None => {
                if self.items.len() >= OPEN_MAX {
                    self.check()?;
                    self.items.remove(0);
                }
                self.items.push((item, content.open(item)?));
            }
        }
        if self.touched.last() != Some(&item) {
            self.touched.push(item);
        }
        let (_, reader) = self.items.last().ok_or(io::ErrorKind::NotFound)?;
        Ok(reader)
    }

    /// Whether all that was read is what was hashed.
    fn check(&mut self) -> io::Result<()> {
        for item in self.touched.drain(..) {
            let known = self.items.iter().find(|(open, _)| *open == item);
            if !known.is_some_and(|(_, reader)| reader.is_unchanged()) {
                self.changed = Some(item);
                return Err(io::Error::other("the file was changed"));
            }
        }
        Ok(())
    }
}

impl StreamSource for UploadSource<'_> {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), SourceError> {
        self.fill(pieces).and_then(|()| self.open.check()).map_err(|_| SourceError::Failed)
    }

    fn failure(&self) -> String {
        self.content.failure(self.open.changed.unwrap_or(0)).1
    }
}

impl UploadSource<'_> {
    fn fill(&mut self, pieces: &mut [Piece<'_>]) -> io::Result<()> {
        let Some(first) = pieces.first() else { return Ok(()) };
        let (start, len): (u64, usize) = (first.offset, pieces.iter().map(|piece| piece.bytes.len()).sum());
        let end = start.saturating_add(len as u64);
        let mut room = Scatter { pieces: pieces.iter_mut(), rest: &mut [] };
        let mut at = start;
        for part in self.answers.parts(start..end) {
            at += part.len as u64;
            match part.source {
                PartSource::Bytes(bytes) => room.put(bytes.get(..part.len).unwrap_or_default()),
                PartSource::Pair { item, slot, skip } => {
                    let pair = self.open.get(self.content, item)?.pair(slot)?;
                    room.put(pair.get(skip..).and_then(|rest| rest.get(..part.len)).unwrap_or_default());
                }
                PartSource::File { item, offset } => {
                    let reader = match self.open.get(self.content, item) {
                        Ok(reader) => reader,
                        Err(error) => {
                            self.open.changed = Some(item);
                            return Err(error);
                        }
                    };
                    room.read(reader, offset, part.len)?;
                }
            }
        }
        if at == end { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The room in consecutive pieces, filled from its beginning.
struct Scatter<'p, 'b> {
    pieces: IterMut<'p, Piece<'b>>,
    rest: &'p mut [u8],
}

impl<'p> Scatter<'p, '_> {
    /// The next room in one place, at most `most` bytes.
    fn next(&mut self, most: usize) -> Option<&'p mut [u8]> {
        while self.rest.is_empty() {
            self.rest = self.pieces.next()?.bytes;
        }
        let rest = std::mem::take(&mut self.rest);
        let (now, later) = rest.split_at_mut(most.min(rest.len()));
        self.rest = later;
        Some(now)
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(room) = self.next(bytes.len()) else { return };
            let (now, later) = bytes.split_at(room.len());
            room.copy_from_slice(now);
            bytes = later;
        }
    }

    fn read(&mut self, reader: &Reader, mut offset: u64, mut len: usize) -> io::Result<()> {
        while len > 0 {
            let mut buffers: [IoSliceMut<'_>; MAX_BATCH] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
            let (mut used, mut bytes) = (0, 0);
            for buffer in &mut buffers {
                let Some(room) = (bytes < len).then(|| self.next(len - bytes)).flatten() else { break };
                bytes += room.len();
                used += 1;
                *buffer = IoSliceMut::new(room);
            }
            let buffers = buffers.get_mut(..used).filter(|_| bytes > 0).ok_or(io::ErrorKind::UnexpectedEof)?;
            reader.read(buffers, offset)?;
            offset += bytes as u64;
            len -= bytes;
        }
        Ok(())
    }
}

/// Files of a folder that stay open, so that repeats find them.
const OPEN_MAX: usize = 16;
