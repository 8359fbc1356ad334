//! Datagrams between a client and the server that passes its file datagrams on. Integers are big endian.
//!
//! ```text
//! 0x09 relayed  leg 8 | a whole datagram for the peer, or from it
//! 0x0a bind     leg 8 | counter u64 | tag 16: from here on this leg is where this came from
//! 0x0b bound    leg 8 | counter u64 | tag 16: the answer, no longer than the question
//! 0x0c prove    leg 8 | counter u64 | tag 16: the answer to a bind from a new address: bind under this higher counter from there
//! ```
//!
//! A tag is the first 16 bytes of BLAKE3 keyed with the leg's key, over all that stands before it. What is relayed bears none:
//! the server goes by the address, and the peers seal what they say.

use super::name::Name;
use crate::limits::RELAY_LINK_DATAGRAMS;
use minicbor::bytes::{ByteArray, ByteVec};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// First byte of a relayed datagram. STUN begins with 0 to 3, a file datagram with 8.
pub const RELAYED: u8 = 0x09;
/// First byte of the answer to a bind.
pub const BOUND: u8 = 0x0b;
/// First byte of what a bind from an address is answered that is not proven yet.
pub const PROVE: u8 = 0x0c;
/// Bytes before what is relayed.
pub const RELAYED_HEAD: usize = 9;
/// Bytes of a bind, and of its answer.
pub const BIND_LEN: usize = 33;

/// One side's end of a relay, as the server names it. Each side knows its own only.
pub type LegId = [u8; 8];

/// Proves who binds; known to the server and to who registered. Wiped on drop, never printed.
#[derive(Clone, Default)]
pub struct LegKey(Zeroizing<[u8; 32]>);

impl LegKey {
    /// From random bytes, or from a ticket.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// For the ticket.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LegKey(..)")
    }
}

/// By what the server finds the two sides of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct RelayTokens {
    /// This side's.
    #[n(0)]
    pub own: ByteArray<32>,
    /// The other side's.
    #[n(1)]
    pub peer: ByteArray<32>,
}

impl fmt::Debug for RelayTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayTokens(..)")
    }
}

/// A leg at the server's UDP port.
#[derive(Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct RelayTicket {
    /// Names it on datagrams.
    #[n(0)]
    pub leg: ByteArray<8>,
    /// Proves binds; secret.
    #[n(1)]
    pub key: ByteArray<32>,
    /// The UDP port on the server's host.
    #[n(2)]
    pub port: u16,
}

impl fmt::Debug for RelayTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayTicket").field("leg", &self.leg).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Datagrams in a frame of the server link.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct LinkData {
    /// The leg of who is at the other end of the link.
    #[n(0)]
    pub leg: ByteArray<8>,
    /// Each with its length before it, 2 bytes; none keeps the leg alive.
    #[n(1)]
    pub datagrams: ByteVec,
    /// The server of the mesh that has the leg, if not the one at this end of the link. Earlier builds do not look at it, and have no such
    /// leg.
    #[n(2)]
    pub server: Option<Name>,
}

impl LinkData {
    /// Packs datagrams of at most 65,535 bytes; longer ones are left out.
    pub fn new<'d>(leg: LegId, datagrams: impl Iterator<Item = &'d [u8]>) -> Self {
        let mut bytes = Vec::new();
        for datagram in datagrams {
            let Ok(len) = u16::try_from(datagram.len()) else { continue };
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(datagram);
        }
        Self { leg: leg.into(), datagrams: bytes.into(), server: None }
    }

    /// What carrying them costs, bytes: short ones cost as well, so each counts with its head.
    pub fn cost(&self) -> usize {
        self.datagrams().map(|datagram| datagram.len() + RELAYED_HEAD).sum()
    }

    /// The datagrams, as far as the lengths make sense: none that is empty, and at most [`RELAY_LINK_DATAGRAMS`], for each costs who
    /// passes it on a call, however short it is.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.all().filter(|datagram| !datagram.is_empty()).take(RELAY_LINK_DATAGRAMS)
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.datagrams;
        std::iter::from_fn(move || {
            let (len, others) = rest.split_first_chunk::<2>()?;
            let (datagram, others) = others.split_at_checked(u16::from_be_bytes(*len).into())?;
            rest = others;
            Some(datagram)
        })
    }
}

/// A datagram of one of the kinds above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegDatagram {
    /// What follows the head is the peer's.
    Relayed(LegId),
    /// To be checked with [`is_genuine`].
    Bind(LegId, u64),
    /// To be checked with [`is_genuine`].
    Bound(LegId, u64),
    /// To be checked with [`is_genuine`].
    Prove(LegId, u64),
}

impl LegDatagram {
    /// The kind and its fields; `None` for all else, and for a bind of another length.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (first, rest) = datagram.split_first()?;
        let (leg, rest) = rest.split_first_chunk::<8>()?;
        match *first {
            RELAYED => (!rest.is_empty()).then_some(Self::Relayed(*leg)),
            kind @ (BIND | BOUND | PROVE) if datagram.len() == BIND_LEN => {
                let (counter, _) = rest.split_first_chunk::<8>()?;
                let counter = u64::from_be_bytes(*counter);
                Some(match kind {
                    BIND => Self::Bind(*leg, counter),
                    BOUND => Self::Bound(*leg, counter),
                    _ => Self::Prove(*leg, counter),
                })
            }
            _ => None,
        }
    }
}

/// What stands before a relayed datagram.
pub fn relayed_head(leg: LegId) -> [u8; RELAYED_HEAD] {
    let mut head = [RELAYED; RELAYED_HEAD];
    head[1..].copy_from_slice(&leg);
    head
}

/// Asks that `leg` be where this comes from. Counters of a leg rise.
pub fn bind(leg: LegId, counter: u64, key: &LegKey) -> [u8; BIND_LEN] {
    sealed(BIND, leg, counter, key)
}

/// The server's answer.
pub fn bound(leg: LegId, counter: u64, key: &LegKey) -> [u8; BIND_LEN] {
    sealed(BOUND, leg, counter, key)
}

/// The server's answer where the bind came from an address at which nobody has proved to be: only who reads it there knows `counter`.
pub fn prove(leg: LegId, counter: u64, key: &LegKey) -> [u8; BIND_LEN] {
    sealed(PROVE, leg, counter, key)
}

/// Whether the tag of a bind, or of its answer, was made with this key.
pub fn is_genuine(datagram: &[u8], key: &LegKey) -> bool {
    let Some((said, tag)) = datagram.split_at_checked(BIND_LEN - TAG_LEN) else { return false };
    tag_of(said, key).ct_eq(tag).into()
}

fn sealed(first: u8, leg: LegId, counter: u64, key: &LegKey) -> [u8; BIND_LEN] {
    let mut out = [first; BIND_LEN];
    out[1..9].copy_from_slice(&leg);
    out[9..17].copy_from_slice(&counter.to_be_bytes());
    let tag = tag_of(&out[..BIND_LEN - TAG_LEN], key);
    out[BIND_LEN - TAG_LEN..].copy_from_slice(&tag);
    out
}

fn tag_of(said: &[u8], key: &LegKey) -> [u8; TAG_LEN] {
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&blake3::keyed_hash(key.as_bytes(), said).as_bytes()[..TAG_LEN]);
    tag
}

const BIND: u8 = 0x0a;
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> LegKey {
        LegKey::new([byte; 32])
    }

    #[test]
    fn every_damaged_or_cut_bind_is_refused() {
        let good = bind([7; 8], 9, &key(1));
        assert_eq!(LegDatagram::decode(&good), Some(LegDatagram::Bind([7; 8], 9)));
        assert!(is_genuine(&good, &key(1)) && !is_genuine(&good, &key(2)));
        for at in 0..good.len() {
            let mut bad = good;
            bad[at] ^= 1;
            assert!(!is_genuine(&bad, &key(1)), "{at}");
            assert_eq!(LegDatagram::decode(&good[..at]), None, "{at}");
            assert!(!is_genuine(&good[..at], &key(1)), "{at}");
        }
        assert_eq!(LegDatagram::decode(&[&good[..], &[0]].concat()), None);
    }

    #[test]
    fn an_answer_is_no_question() {
        let (asked, answered) = (bind([7; 8], 9, &key(1)), bound([7; 8], 9, &key(1)));
        assert_eq!(LegDatagram::decode(&answered), Some(LegDatagram::Bound([7; 8], 9)));
        assert_ne!(asked[17..], answered[17..], "one cannot be made of the other");
        assert!(answered.len() <= asked.len());
        let other = prove([7; 8], 9, &key(1));
        assert_eq!(LegDatagram::decode(&other), Some(LegDatagram::Prove([7; 8], 9)));
        assert!(other.len() <= asked.len() && other[17..] != answered[17..] && other[17..] != asked[17..]);
    }

    #[test]
    fn what_is_relayed_has_something_in_it() {
        assert_eq!(LegDatagram::decode(&relayed_head([3; 8])), None);
        assert_eq!(LegDatagram::decode(b"\x0900000000x"), Some(LegDatagram::Relayed([b'0'; 8])));
    }

    #[test]
    fn datagrams_of_a_frame_come_out_as_they_went_in_and_cut_ones_not_at_all() {
        let all: [&[u8]; 3] = [b"one", b"2", &[7; 3000]];
        let data = LinkData::new([7; 8], all.into_iter());
        assert!(data.datagrams().eq(all));
        for len in 0..data.datagrams.len() {
            let cut = LinkData { datagrams: data.datagrams[..len].to_vec().into(), ..data.clone() };
            assert!(cut.datagrams().count() < 3);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = LegDatagram::decode(&bytes);
            let _ = is_genuine(&bytes, &key(0));
        }
    }

    #[test]
    fn a_batch_costs_no_more_calls_than_its_bytes_are_worth() {
        let raw = |bytes: Vec<u8>| LinkData { leg: [7; 8].into(), datagrams: bytes.into(), server: None };
        assert_eq!(raw(vec![0; 1 << 20]).datagrams().count(), 0, "half a million of nothing");
        let short: Vec<u8> = std::iter::repeat_n([0, 1, 9], 100_000).flatten().collect();
        assert_eq!(raw(short).datagrams().count(), RELAY_LINK_DATAGRAMS);
    }
}
