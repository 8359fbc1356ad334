//! Who has sent how much lately. Names nothing that was sent.

use std::collections::VecDeque;

use minicbor::bytes::ByteArray;

use super::Used;
use crate::crypto::identity::PublicKey;
use crate::limits::LEDGER_ROWS;
use crate::wire::{DecodeError, decode, encode};

/// One transfer, without saying what it was: the same content to the same person is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct What(#[n(0)] ByteArray<16>);

impl What {
    /// Content with this root, to whom.
    pub fn new(to: &PublicKey, root: &[u8; 32]) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(b"secchat/1 sent\0").update(to.as_bytes()).update(root);
        let mut tag = [0; 16];
        hash.finalize_xof().fill(&mut tag);
        Self(tag.into())
    }
}

/// What was sent in the last day, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Ledger {
    // At most LEDGER_ROWS.
    #[n(0)]
    rows: VecDeque<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Row {
    #[n(0)]
    from: ByteArray<32>,
    #[n(1)]
    what: What,
    #[n(2)]
    files: u64,
    #[n(3)]
    bytes: u64,
    #[n(4)]
    at_ms: u64,
}

impl Ledger {
    /// What somebody has sent in the day before `now_ms`, Unix milliseconds, and whether this is part of it.
    pub fn used(&self, from: &PublicKey, what: &What, now_ms: u64) -> Used {
        let lately = |row: &&Row| *row.from == *from.as_bytes() && row.at_ms.saturating_add(DAY_MS) > now_ms;
        self.rows.iter().filter(lately).fold(Used::default(), |used, row| Used {
            files: used.files.saturating_add(row.files),
            bytes: used.bytes.saturating_add(row.bytes),
            counted: used.counted || row.what == *what,
            ..used
        })
    }

    /// Counts a transfer, unless it is counted already.
    pub fn add(&mut self, from: &PublicKey, what: What, (files, bytes): (u64, u64), now_ms: u64) {
        self.rows.retain(|row| row.at_ms.saturating_add(DAY_MS) > now_ms);
        if self.used(from, &what, now_ms).counted {
            return;
        }
        if self.rows.len() >= LEDGER_ROWS {
            self.make_room();
        }
        self.rows.push_back(Row { from: (*from.as_bytes()).into(), what, files, bytes, at_ms: now_ms });
    }

    /// The oldest row goes into the next one of the same person, so that nobody's quota grows.
    fn make_room(&mut self) {
        let Some(oldest) = self.rows.pop_front() else { return };
        if let Some(next) = self.rows.iter_mut().find(|row| row.from == oldest.from) {
            next.files = next.files.saturating_add(oldest.files);
            next.bytes = next.bytes.saturating_add(oldest.bytes);
        }
    }

    /// For keeping; at most [`LEDGER_MAX`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what was kept.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let ledger: Self = decode(bytes, LEDGER_MAX)?;
        if ledger.rows.len() <= LEDGER_ROWS { Ok(ledger) } else { Err(DecodeError::Malformed) }
    }
}

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Largest encoded [`Ledger`], bytes: some 90 for each row.
pub const LEDGER_MAX: usize = 128 * LEDGER_ROWS;
