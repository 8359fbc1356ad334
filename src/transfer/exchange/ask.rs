//! What an asker wants: its messages, and their decoder.

use std::ops::Range;

use thiserror::Error;

use crate::limits::{ASK_MAX, FILE_SIZE_MAX, ITEMS_PER_ASK};
use crate::wire::{decode, encode};

/// One wish of an asker. Item 0 is the file, or the manifest of a folder; item i is the manifest's i-th entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Ask {
    /// Groups of one item.
    #[n(0)]
    Want {
        /// Which.
        #[n(0)]
        item: u32,
        /// The first group.
        #[n(1)]
        first: u64,
        /// How many, at least 1.
        #[n(2)]
        count: u64,
    },
    /// Whole items, one after another.
    #[n(1)]
    Items {
        /// The first.
        #[n(0)]
        first: u32,
        /// How many, 1 to [`ITEMS_PER_ASK`].
        #[n(1)]
        count: u32,
    },
}

/// The bytes are not asks: wrongly framed, or for what cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer's ask is malformed")]
pub struct BadAsk;

impl Ask {
    /// Appends the ask with its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let body = encode(self);
        debug_assert!(body.len() <= ASK_MAX);
        out.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&body);
    }

    /// The groups of a [`Ask::Want`], if they can be.
    pub(super) fn groups(first: u64, count: u64) -> Result<Range<u64>, BadAsk> {
        let end = first.checked_add(count).filter(|end| count > 0 && *end <= FILE_SIZE_MAX).ok_or(BadAsk)?;
        Ok(first..end)
    }

    fn check(self) -> Result<Self, BadAsk> {
        match self {
            Self::Want { first, count, .. } => Self::groups(first, count).map(|_| self),
            Self::Items { first, count } => {
                let sound = (1..=ITEMS_PER_ASK).contains(&count) && first.checked_add(count).is_some();
                sound.then_some(self).ok_or(BadAsk)
            }
        }
    }
}

/// Reads asks from a stream as its bytes come. Keeps less than one ask.
#[derive(Debug, Default)]
pub struct AskDecoder {
    // The length and body of the ask that is under way.
    begun: Vec<u8>,
}

impl AskDecoder {
    /// Takes the first ask out of `bytes`, which moves forward. `None`: more bytes are needed. After an error the stream
    /// makes no sense any more.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Ask>, BadAsk> {
        if !self.fill(bytes, LENGTH) {
            return Ok(None);
        }
        let len = match self.begun.get(..LENGTH) {
            Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(BadAsk),
        };
        if len > ASK_MAX {
            return Err(BadAsk);
        }
        if !self.fill(bytes, LENGTH + len) {
            return Ok(None);
        }
        let ask: Ask = decode(self.begun.get(LENGTH..).unwrap_or_default(), ASK_MAX).map_err(|_| BadAsk)?;
        self.begun.clear();
        ask.check().map(Some)
    }

    /// Whether the stream may end here: not inside an ask.
    pub fn is_between(&self) -> bool {
        self.begun.is_empty()
    }

    fn fill(&mut self, bytes: &mut &[u8], len: usize) -> bool {
        let missing = len.saturating_sub(self.begun.len()).min(bytes.len());
        let (now, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.begun.extend_from_slice(now);
        *bytes = rest;
        self.begun.len() >= len
    }
}

/// Bytes of an ask's length.
const LENGTH: usize = 2;
