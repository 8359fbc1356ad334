//! A parcel: bytes for one other server that may be lost on the way. Nothing acknowledges or repeats it, and it waits behind all else.
//!
//! ```text
//! parcel   4, links left u8, origin id, origin instance u64, target id, target instance u64, number u64, tag; then the bytes
//! ```
//! The tag is over all of it but the links left, by the key of origin and target: whoever is on the way can drop a parcel and send it
//! again, and neither make one up nor change it. One that comes again is known by its number.

use super::bytes::{Malformed, Reader};
use crate::crypto::pair::{TAG_LEN, TagKey};
use crate::limits::MESH_PARCEL_MAX;
use crate::wire::vouch::NodeId;

/// First byte of a parcel.
pub(super) const PARCEL: u8 = 4;

/// A parcel as it came.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// Links that it may still cross.
    pub hops: u8,
    /// Who sent it first.
    pub origin: NodeId,
    /// The origin's process.
    pub instance: u64,
    /// Where it goes.
    pub target: NodeId,
    /// Which process of it.
    pub target_instance: u64,
    /// Rises with each parcel of the origin's process, wherever it goes.
    pub number: u64,
    /// What is in it.
    pub body: &'a [u8],
    tag: [u8; TAG_LEN],
    // What the tag is over, before the body.
    head: &'a [u8],
}

impl<'a> Parcel<'a> {
    /// What follows the first byte, to the end.
    pub(super) fn read(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let hops = reader.u8()?;
        let head = reader.0.get(..HEAD).ok_or(Malformed)?;
        let (origin, instance) = (NodeId(reader.id()?), reader.u64()?);
        let (target, target_instance) = (NodeId(reader.id()?), reader.u64()?);
        let number = reader.u64()?;
        let tag = *reader.array()?;
        if reader.0.len() > MESH_PARCEL_MAX {
            return Err(Malformed);
        }
        Ok(Self { hops, origin, instance, target, target_instance, number, body: reader.0, tag, head })
    }

    /// Whether the tag is what the key of origin and target makes.
    pub(super) fn is_genuine(&self, key: &TagKey) -> bool {
        key.holds(&[&[PARCEL], self.head, self.body], &self.tag)
    }
}

/// Where a parcel of ours goes, and the how-manieth it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    pub(super) origin: NodeId,
    pub(super) instance: u64,
    pub(super) target: NodeId,
    pub(super) target_instance: u64,
    pub(super) number: u64,
}

/// A whole parcel.
pub(super) fn write(hops: u8, label: Label, key: &TagKey, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + HEAD + TAG_LEN + body.len());
    out.extend_from_slice(&[PARCEL, hops]);
    out.extend_from_slice(&label.origin.0);
    out.extend_from_slice(&label.instance.to_le_bytes());
    out.extend_from_slice(&label.target.0);
    out.extend_from_slice(&label.target_instance.to_le_bytes());
    out.extend_from_slice(&label.number.to_le_bytes());
    let tag = key.tag(&[&[PARCEL], out.get(2..).unwrap_or_default(), body]);
    out.extend_from_slice(&tag);
    out.extend_from_slice(body);
    out
}

/// Which numbers of one server's parcels have come.
#[derive(Debug, Default)]
pub(super) struct Seen {
    // All up to here have come, or are too old.
    newest: u64,
    // Bit n of it: the number that is n below the newest has come.
    lately: [u64; WORDS],
}

impl Seen {
    /// Takes a number once. One that is far behind the newest is not taken: parcels hardly overtake each other.
    pub(super) fn take(&mut self, number: u64) -> bool {
        if number > self.newest {
            self.shift(number - self.newest);
            self.newest = number;
        }
        let behind = self.newest - number;
        let Some((word, bit)) =
            usize::try_from(behind / 64).ok().and_then(|at| Some((self.lately.get_mut(at)?, behind % 64)))
        else {
            return false;
        };
        let fresh = *word & 1 << bit == 0;
        *word |= 1 << bit;
        fresh
    }

    fn shift(&mut self, by: u64) {
        let words = usize::try_from(by / 64).unwrap_or(WORDS).min(WORDS);
        let bits = by % 64;
        self.lately.copy_within(..WORDS - words, words);
        self.lately.iter_mut().take(words).for_each(|word| *word = 0);
        if bits > 0 {
            let mut carried = 0;
            for word in &mut self.lately {
                (*word, carried) = (*word << bits | carried, *word >> (64 - bits));
            }
        }
    }
}

/// Two ids, two instances, a number.
const HEAD: usize = 2 * 32 + 3 * 8;
/// 1,024 parcels: some 60 MB of them.
const WORDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;
    use crate::crypto::pair::{Pair, Standing};
    use crate::mesh::packet::Frame;
    use proptest::prelude::*;

    /// The same pair of keys as each end has it.
    fn keys() -> (Pair, Pair) {
        let [a, b] = [1, 2].map(|n| Standing::of(&Identity::from_seed(&[n; 32])));
        let (x, y) = (&[1; 32], &[2; 32]);
        (a.pair(&b.public(), x, y).unwrap(), b.pair(&a.public(), y, x).unwrap())
    }

    fn label(number: u64) -> Label {
        Label { origin: NodeId([1; 32]), instance: 5, target: NodeId([2; 32]), target_instance: 6, number }
    }

    fn read(bytes: &[u8]) -> Parcel<'_> {
        match Frame::read(bytes) {
            Ok(Frame::Parcel(parcel)) => parcel,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_but_the_links_left_is_held_by_the_tag() {
        let (ours, theirs) = keys();
        let bytes = write(7, label(9), &ours.ours, b"sealed");
        let parcel = read(&bytes);
        assert_eq!((parcel.hops, parcel.number, parcel.body), (7, 9, &b"sealed"[..]));
        assert!(parcel.is_genuine(&theirs.theirs) && !parcel.is_genuine(&theirs.ours), "each direction has its key");
        for at in 2..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(!read(&bad).is_genuine(&theirs.theirs), "{at}");
        }
        let mut later = bytes.clone();
        later[1] -= 1;
        assert!(read(&later).is_genuine(&theirs.theirs));
        for len in 0..2 + HEAD + TAG_LEN {
            assert!(Frame::read(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn what_is_too_long_is_no_parcel() {
        let (ours, _) = keys();
        assert!(Frame::read(&write(7, label(9), &ours.ours, &vec![0; MESH_PARCEL_MAX])).is_ok());
        assert!(Frame::read(&write(7, label(9), &ours.ours, &vec![0; MESH_PARCEL_MAX + 1])).is_err());
    }

    proptest! {
        #[test]
        fn no_number_is_taken_twice_and_new_ones_always(steps in proptest::collection::vec(1..300u64, 1..200), back in 0..2000u64) {
            let (mut seen, mut number) = (Seen::default(), 0);
            let mut all = Vec::new();
            for step in steps {
                number += step;
                prop_assert!(seen.take(number));
                all.push(number);
                prop_assert!(all.iter().all(|number| !seen.take(*number)));
            }
            // One that was left out comes late, once.
            let late = number.saturating_sub(back).max(1);
            let fits = number - late < 64 * WORDS as u64 && !all.contains(&late);
            prop_assert_eq!(seen.take(late), fits);
            prop_assert!(!seen.take(late));
        }
    }
}
