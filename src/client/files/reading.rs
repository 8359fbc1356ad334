//! Reads a holder's stream: file bytes by positioned reads, hashes between.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::content::{Content, Costly, Reader};
use super::engine::CancelOnDrop;
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
    // One that has to be opened away from here, and whether that was asked for.
    opening: Option<(u32, bool)>,
    // One that was.
    opened: Option<(u32, io::Result<Costly>)>,
    // Bytes that were read for trees and not accounted for.
    spent: u64,
    // Tells who opens that nobody waits any more.
    gone: Gone,
    /// An item that is no longer what it was, or cannot be read.
    pub(super) changed: Option<u32>,
}

/// Nobody waits any more once this is dropped.
#[derive(Debug)]
struct Gone(CancelOnDrop);

impl Default for Gone {
    fn default() -> Self {
        Self(CancelOnDrop(Arc::default()))
    }
}

impl OpenItems {
    /// An item that is to be opened away from here, told once; and whether nobody waits for it any more.
    pub(super) fn wanted(&mut self) -> Option<(u32, Arc<AtomicBool>)> {
        let (item, asked) = self.opening.as_mut().filter(|(_, asked)| !asked)?;
        *asked = true;
        Some((*item, Arc::clone(&self.gone.0.0)))
    }

    /// It was opened, or cannot be.
    pub(super) fn opened(&mut self, item: u32, result: io::Result<Costly>) {
        self.opening = None;
        self.opened = Some((item, result));
    }

    /// Bytes that were read for trees since this was asked.
    pub(super) fn spent(&mut self) -> u64 {
        std::mem::take(&mut self.spent)
    }

    fn get(&mut self, content: &Content, item: u32) -> Result<&Reader, SourceError> {
        if let Some((item, result)) = self.opened.take() {
            self.add(item, result)?;
        }
        match self.items.iter().position(|(open, _)| *open == item) {
            Some(at) if at + 1 < self.items.len() => {
                let found = self.items.remove(at);
                self.items.push(found);
            }
            Some(_) => {}
            None => match content.open_quickly(item) {
                Ok(None) => {
                    self.opening.get_or_insert((item, false));
                    return Err(SourceError::NotReady);
                }
                Ok(Some(opened)) => self.add(item, Ok(opened))?,
                Err(error) => self.add(item, Err(error))?,
            },
        }
        if self.touched.last() != Some(&item) {
            self.touched.push(item);
        }
        let (_, reader) = self.items.last().ok_or(SourceError::Failed)?;
        Ok(reader)
    }

    fn add(&mut self, item: u32, opened: io::Result<Costly>) -> Result<(), SourceError> {
        let Ok((reader, spent)) = opened else {
            self.changed = Some(item);
            return Err(SourceError::Failed);
        };
        self.spent = self.spent.saturating_add(spent);
        let mut held = reader.tree_size() + self.items.iter().map(|(_, reader)| reader.tree_size()).sum::<usize>();
        while self.items.len() >= OPEN_MAX || self.items.len() >= OPEN_MIN && held > TREES_MAX {
            self.check()?;
            let (_, oldest) = self.items.remove(0);
            held = held.saturating_sub(oldest.tree_size());
        }
        self.items.push((item, reader));
        Ok(())
    }

    /// Whether all that was read is what was hashed.
    fn check(&mut self) -> Result<(), SourceError> {
        for item in self.touched.drain(..) {
            let known = self.items.iter().find(|(open, _)| *open == item);
            if !known.is_some_and(|(_, reader)| reader.is_unchanged()) {
                self.changed = Some(item);
                return Err(SourceError::Failed);
            }
        }
        Ok(())
    }
}

impl StreamSource for UploadSource<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        self.fill(offset, bytes).and_then(|()| self.open.check())
    }

    fn failure(&self) -> String {
        self.content.failure(self.open.changed.unwrap_or(0)).1
    }
}

impl UploadSource<'_> {
    fn fill(&mut self, start: u64, mut room: &mut [u8]) -> Result<(), SourceError> {
        let end = start.saturating_add(room.len() as u64);
        for part in self.answers.parts(start..end) {
            let place = room.split_off_mut(..part.len).ok_or(SourceError::Failed)?;
            let read = match part.source {
                PartSource::Bytes(bytes) => put(place, bytes),
                PartSource::Pair { item, slot, skip } => {
                    let pair = self.open.get(self.content, item)?.pair(slot);
                    pair.and_then(|pair| put(place, pair.get(skip..).unwrap_or_default()))
                }
                PartSource::File { item, offset } => self.open.get(self.content, item)?.read(place, offset),
            };
            read.map_err(|_| SourceError::Failed)?;
        }
        if room.is_empty() { Ok(()) } else { Err(SourceError::Failed) }
    }
}

/// Fills `place` from the beginning of `bytes`.
fn put(place: &mut [u8], bytes: &[u8]) -> io::Result<()> {
    place.copy_from_slice(bytes.get(..place.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// Files of a folder that stay open, so that repeats find them.
const OPEN_MAX: usize = 16;
/// Bytes of their trees beyond which fewer do, but for the latest [`OPEN_MIN`]: what goes into one batch.
const TREES_MAX: usize = 128 << 20;
const OPEN_MIN: usize = 4;

#[cfg(test)]
mod tests;
