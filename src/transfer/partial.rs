//! What is kept beside an unfinished file or folder: what it will be, and which of its groups are here and verified.
//!
//! ```text
//! "secchat partial 1\n"   CBOR   first 16 bytes of BLAKE3 over both
//! ```

use std::ops::Range;

use minicbor::bytes::{ByteArray, ByteVec};
use thiserror::Error;

use super::ranges::RangeSet;
use super::tree::Root;
use crate::limits::{FILE_NAME_MAX, FILE_SIZE_MAX, MANIFEST_FILES, PARTIAL_MAX, PARTIAL_RANGES};
use crate::wire::{decode, encode};

/// An unfinished file or folder. Groups are numbered as in [`super::space`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    name: String,
    root: Root,
    size: u64,
    groups: u64,
    verified: RangeSet,
}

/// The bytes are not the state of an unfinished file: damaged, cut short, or of another version. The file starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the state of the unfinished file cannot be read")]
pub struct BadState;

#[derive(minicbor::Encode, minicbor::Decode)]
struct State {
    #[n(0)]
    name: String,
    #[n(1)]
    root: ByteArray<32>,
    #[n(2)]
    size: u64,
    #[n(3)]
    groups: u64,
    #[n(4)]
    verified: ByteVec,
}

impl Partial {
    /// Nothing yet of what will be called `name` (at most [`FILE_NAME_MAX`] bytes), has this root and these bytes and
    /// groups.
    pub fn new(name: &str, root: Root, size: u64, groups: u64) -> Self {
        Self { name: name.to_owned(), root, size, groups, verified: RangeSet::new() }
    }

    /// What it will be called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the file, or of the folder's manifest.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Groups of the whole.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Whether this is a part of that very file.
    pub fn is_of(&self, root: &Root, size: u64, groups: u64) -> bool {
        self.root == *root && self.size == size && self.groups == groups
    }

    /// Keeps that `groups` are on disk and verified; returns how many of them are new.
    pub fn mark(&mut self, groups: Range<u64>) -> u64 {
        self.verified.insert(groups.start..groups.end.min(self.groups))
    }

    /// What is here.
    pub fn verified(&self) -> &RangeSet {
        &self.verified
    }

    /// What is not.
    pub fn missing(&self) -> RangeSet {
        self.verified.gaps(0..self.groups)
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.verified.contains(&(0..self.groups))
    }

    /// The bytes to keep; of more than [`PARTIAL_RANGES`] ranges the longest.
    pub fn encode(&self) -> Vec<u8> {
        let mut verified = Vec::new();
        self.verified.longest(PARTIAL_RANGES).encode(&mut verified);
        let (name, root) = (self.name.clone(), self.root.into());
        let state = State { name, root, size: self.size, groups: self.groups, verified: verified.into() };
        let mut bytes = [MAGIC, &encode(&state)].concat();
        let check = blake3::hash(&bytes);
        bytes.extend(check.as_bytes().iter().take(CHECK));
        bytes
    }

    /// Reads what [`Partial::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadState> {
        let at = bytes.len().checked_sub(CHECK).filter(|_| bytes.len() <= PARTIAL_MAX).ok_or(BadState)?;
        let (content, check) = bytes.split_at_checked(at).ok_or(BadState)?;
        if !blake3::hash(content).as_bytes().starts_with(check) {
            return Err(BadState);
        }
        let body = content.strip_prefix(MAGIC).ok_or(BadState)?;
        let state: State = decode(body, PARTIAL_MAX).map_err(|_| BadState)?;
        let sound = state.name.len() <= FILE_NAME_MAX && state.size <= FILE_SIZE_MAX && state.groups <= GROUPS_MAX;
        if !sound {
            return Err(BadState);
        }
        let verified = RangeSet::decode(&state.verified, PARTIAL_RANGES, state.groups).ok_or(BadState)?;
        let State { name, root, size, groups, .. } = state;
        Ok(Self { name, root: root.into(), size, groups, verified })
    }
}

const MAGIC: &[u8] = b"secchat partial 1\n";
/// Bytes of the checksum: against accidents only.
const CHECK: usize = 16;
/// Of the largest folder.
const GROUPS_MAX: u64 = FILE_SIZE_MAX / super::tree::GROUP + MANIFEST_FILES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn partial() -> Partial {
        let mut partial = Partial::new("report.pdf", [7; 32], 100 << 16, 100);
        assert_eq!((partial.mark(3..9), partial.mark(5..12), partial.mark(98..200)), (6, 3, 2));
        partial
    }

    #[test]
    fn what_was_marked_is_there_after_a_restart() {
        let mut again = Partial::decode(&partial().encode()).unwrap();
        assert_eq!(again, partial());
        assert!(partial().encode().len() < 100);
        assert_eq!(again.missing().iter().collect::<Vec<_>>(), [0..3, 12..98]);
        assert!(again.is_of(&[7; 32], 100 << 16, 100) && !again.is_of(&[8; 32], 100 << 16, 100));
        again.mark(0..3);
        again.mark(12..97);
        assert!(!again.is_complete());
        again.mark(97..100);
        assert!(again.is_complete() && again.missing().is_empty());
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = partial().encode();
        for at in 0..bytes.len() {
            assert_eq!(Partial::decode(&bytes[..at]), Err(BadState));
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Partial::decode(&damaged), Err(BadState));
        }
        assert_eq!(Partial::decode(&[]), Err(BadState));
    }

    #[test]
    fn a_state_that_claims_what_cannot_be_is_refused() {
        for bad in [
            Partial { groups: GROUPS_MAX + 1, ..partial() },
            Partial { size: FILE_SIZE_MAX + 1, ..partial() },
            Partial { name: "a".repeat(256), ..partial() },
            Partial { groups: 99, ..partial() },
        ] {
            assert_eq!(Partial::decode(&bad.encode()), Err(BadState));
        }
    }

    #[test]
    fn a_file_in_crumbs_keeps_its_largest() {
        let mut crumbs = Partial::new("a", [0; 32], 1 << 40, 1 << 24);
        (0..PARTIAL_RANGES as u64 + 100).for_each(|n| {
            crumbs.mark(n * 5..n * 5 + 1 + n % 3);
        });
        let again = Partial::decode(&crumbs.encode()).unwrap();
        assert_eq!(again.verified().pieces(), PARTIAL_RANGES);
        assert!(again.verified().difference(crumbs.verified()).is_empty());
    }
}
