//! What the two byte streams of a transfer say.
//!
//! ```text
//! asker's stream    ask*            ask:    length u16, CBOR
//! holder's stream   answer*         answer: kind u8, and by kind
//!                                   0 data     the encoding of the groups asked for: parents before children
//!                                   1 not here
//!                                   2 changed
//!                                   3 have     length u16, CBOR: what a holder of a part has; unasked
//! ```
//!
//! Answers 0 to 2 come in the order of the asks, one for each `Want` and one for each item of an `Items`. The length of an
//! encoding follows from the item's size and the groups, so neither end frames it.
//!
//! The asker: [`crate::transfer::planner::Planner::next`] names groups, [`Assembler::request`] asks for them, its
//! [`Outbox`] is our stream, [`Assembler::push`] takes the holder's. The holder: [`Answers::push`] takes the asker's stream,
//! [`Answers::advance`] says how far its own goes, [`Answers::parts`] what it is, [`Answers::forget`] drops what is
//! acknowledged (and `advance` then goes on).
//!
//! ```text
//! ask        the asker's messages and their decoder
//! answers    the holder's end: asks in, a map of the stream out
//! assembler  the asker's end: stream bytes in, verified groups and parents out
//! incoming   one answer's encoding, checked as it comes
//! outbox     the asker's own stream until it is acknowledged
//! ```

use minicbor::bytes::ByteVec;

pub use answers::{Answers, Catalog, Here, Item, Part, PartSource, Violation};
pub use ask::{Ask, AskDecoder, BadAsk};
pub use assembler::{Assembler, Lie, Refusal, VerifiedSink, WantError, Wanted};
pub use outbox::Outbox;

use super::ranges::RangeSet;
use crate::limits::{FILE_SIZE_MAX, HAVE_RANGES_MAX};
use crate::wire::{decode, encode};

mod answers;
mod ask;
mod assembler;
mod incoming;
mod outbox;

/// Answer kinds.
const DATA: u8 = 0;
const NOT_HERE: u8 = 1;
const CHANGED: u8 = 2;
const HAVE: u8 = 3;

/// Which groups a holder of a part has, numbered as in [`super::space`].
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Have {
    // As RangeSet::encode makes it.
    #[n(0)]
    ranges: ByteVec,
}

/// The whole answer; of more than [`HAVE_RANGES_MAX`] ranges the longest are told.
fn encode_have(ranges: &RangeSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    ranges.longest(HAVE_RANGES_MAX).encode(&mut bytes);
    let body = encode(&Have { ranges: bytes.into() });
    let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&[HAVE], len.to_be_bytes().as_slice(), &body].concat()
}

/// Reads the CBOR of a `have`.
fn decode_have(body: &[u8]) -> Option<RangeSet> {
    let have: Have = decode(body, usize::from(u16::MAX)).ok()?;
    RangeSet::decode(&have.ranges, HAVE_RANGES_MAX, FILE_SIZE_MAX)
}

#[cfg(test)]
mod tests;
