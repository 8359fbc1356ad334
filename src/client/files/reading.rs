//! Reads a holder's stream: file bytes by positioned reads, hashes between.

use std::io;

use super::content::{Content, Reader};
use crate::channel::{SourceError, StreamSource};
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
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        self.fill(offset, bytes).and_then(|()| self.open.check()).map_err(|_| SourceError::Failed)
    }

    fn failure(&self) -> String {
        self.content.failure(self.open.changed.unwrap_or(0)).1
    }
}

impl UploadSource<'_> {
    fn fill(&mut self, start: u64, mut room: &mut [u8]) -> io::Result<()> {
        let end = start.saturating_add(room.len() as u64);
        for part in self.answers.parts(start..end) {
            let place = room.split_off_mut(..part.len).ok_or(io::ErrorKind::UnexpectedEof)?;
            match part.source {
                PartSource::Bytes(bytes) => put(place, bytes),
                PartSource::Pair { item, slot, skip } => {
                    let pair = self.open.get(self.content, item)?.pair(slot)?;
                    put(place, pair.get(skip..).unwrap_or_default())
                }
                PartSource::File { item, offset } => match self.open.get(self.content, item) {
                    Ok(reader) => reader.read(place, offset),
                    Err(error) => {
                        self.open.changed = Some(item);
                        Err(error)
                    }
                },
            }?;
        }
        if room.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Fills `place` from the beginning of `bytes`.
fn put(place: &mut [u8], bytes: &[u8]) -> io::Result<()> {
    place.copy_from_slice(bytes.get(..place.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// Files of a folder that stay open, so that repeats find them.
const OPEN_MAX: usize = 16;
