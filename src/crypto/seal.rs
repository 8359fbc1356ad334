//! The datagram AEAD: ChaCha20-Poly1305 (RFC 8439) under one key for one direction of one connection.

use std::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes that sealing adds to a payload.
pub const TAG_LEN: usize = 16;

/// Highest packet number, exclusive. A connection ends rather than send a packet numbered 2^48; at a million packets
/// a second that is nine years away, and far below the point where a 64-bit nonce could wrap.
pub const PACKET_NUMBER_LIMIT: u64 = 1 << 48;

/// Why a datagram was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The datagram was not sealed by the holder of this key, or was changed on its way.
    #[error("the datagram is not authentic")]
    NotAuthentic,
    /// We asked to seal something that the cipher cannot take, or that has no room for its header.
    #[error("the payload cannot be sealed")]
    Unsealable,
}

/// Seals or opens the datagrams of one direction. The nonce is iv XOR (4 zero bytes || packet number, big endian), so
/// a packet number must never be used twice with one key: draw it from [`PacketNumbers`].
pub struct SealKey {
    // The library wipes its copy of the key when it frees the context.
    key: LessSafeKey,
    iv: [u8; 12],
}

impl SealKey {
    /// A key of 32 bytes and an iv of 12, both fresh from a key derivation. The arguments' copies here are wiped.
    pub fn new(key: [u8; 32], iv: [u8; 12]) -> Self {
        let key = Zeroizing::new(key);
        // ChaCha20 takes every 32-byte string as a key: this is the one length that the algorithm has.
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &*key).expect("32 bytes are a ChaCha20 key");
        Self { key: LessSafeKey::new(unbound), iv }
    }

    /// Seals `buf` in place and appends [`TAG_LEN`] bytes; `header_aad` is authenticated and stays readable.
    pub fn seal_in_place(&self, packet_number: u64, header_aad: &[u8], buf: &mut Vec<u8>) -> Result<(), SealError> {
        self.key
            .seal_in_place_append_tag(self.nonce(packet_number), Aad::from(header_aad), buf)
            .map_err(|_| SealError::Unsealable)
    }

    /// Seals everything in `datagram` after its first `header_len` bytes, which are the associated data, and appends
    /// the tag: one buffer, no copy.
    pub fn seal_datagram(
        &self,
        packet_number: u64,
        header_len: usize,
        datagram: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let (header, body) = datagram.split_at_mut_checked(header_len).ok_or(SealError::Unsealable)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(packet_number), Aad::from(&*header), body)
            .map_err(|_| SealError::Unsealable)?;
        datagram.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Seals the datagram whose header is the first `header_len` bytes of `datagram`; the last [`TAG_LEN`] bytes are
    /// room for the tag.
    pub fn seal_slot(&self, packet_number: u64, header_len: usize, datagram: &mut [u8]) -> Result<(), SealError> {
        let (header, body) = datagram.split_at_mut_checked(header_len).ok_or(SealError::Unsealable)?;
        let (body, room) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SealError::Unsealable)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(packet_number), Aad::from(&*header), body)
            .map_err(|_| SealError::Unsealable)?;
        room.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    /// Opens `buf` (sealed bytes and tag) in place and returns the plain bytes. After an error the contents of `buf`
    /// mean nothing.
    pub fn open_in_place<'b>(
        &self,
        packet_number: u64,
        header_aad: &[u8],
        buf: &'b mut [u8],
    ) -> Result<&'b mut [u8], SealError> {
        self.key
            .open_in_place(self.nonce(packet_number), Aad::from(header_aad), buf)
            .map_err(|_| SealError::NotAuthentic)
    }

    fn nonce(&self, packet_number: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().skip(4).zip(packet_number.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(redacted)")
    }
}

impl Drop for SealKey {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

impl ZeroizeOnDrop for SealKey {}

/// Hands out each packet number once, from 0 up to [`PACKET_NUMBER_LIMIT`] (exclusive). It never wraps.
#[derive(Debug, Default)]
pub struct PacketNumbers {
    // Also the count of numbers handed out, when it began at 0; never above PACKET_NUMBER_LIMIT.
    upcoming: u64,
}

impl PacketNumbers {
    /// Starts at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts at `first`, for a counter that goes on where another stopped.
    pub fn starting_at(first: u64) -> Self {
        Self { upcoming: first.min(PACKET_NUMBER_LIMIT) }
    }

    /// The number that [`Self::next`] would give. Every number below it may have been used.
    pub fn upcoming(&self) -> u64 {
        self.upcoming
    }

    /// Whether no number is left.
    pub fn is_exhausted(&self) -> bool {
        self.upcoming >= PACKET_NUMBER_LIMIT
    }

    /// A number never handed out before, or `None` for ever once the limit is reached.
    #[allow(clippy::should_implement_trait)] // not an iterator: nobody should be able to collect it
    pub fn next(&mut self) -> Option<u64> {
        if self.is_exhausted() {
            return None;
        }
        let number = self.upcoming;
        self.upcoming += 1;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use proptest::prelude::*;

    use super::*;

    fn reference_nonce(iv: [u8; 12], number: u64) -> [u8; 12] {
        let mut padded = [0; 12];
        padded[4..].copy_from_slice(&number.to_be_bytes());
        std::array::from_fn(|i| iv[i] ^ padded[i])
    }

    proptest! {
        #[test]
        fn seals_as_the_other_implementation_does(
            key: [u8; 32], iv: [u8; 12], number: u64,
            aad in proptest::collection::vec(any::<u8>(), 0..40),
            plain in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let ours = SealKey::new(key, iv);
            let other = chacha20poly1305::ChaCha20Poly1305::new(&key.into());
            let nonce = reference_nonce(iv, number);
            let expected = other.encrypt(&nonce.into(), Payload { msg: &plain, aad: &aad }).unwrap();

            let mut sealed = plain.clone();
            ours.seal_in_place(number, &aad, &mut sealed).unwrap();
            prop_assert_eq!(&sealed, &expected);

            let mut datagram = aad.clone();
            datagram.extend_from_slice(&plain);
            ours.seal_datagram(number, aad.len(), &mut datagram).unwrap();
            prop_assert_eq!(&datagram[..aad.len()], &aad[..]);
            prop_assert_eq!(&datagram[aad.len()..], &expected[..]);

            let mut slot = [&aad[..], &plain[..], &[0xee; TAG_LEN]].concat();
            ours.seal_slot(number, aad.len(), &mut slot).unwrap();
            prop_assert_eq!(&slot, &datagram);

            prop_assert_eq!(&*ours.open_in_place(number, &aad, &mut sealed).unwrap(), &plain[..]);
        }

        #[test]
        fn one_changed_bit_anywhere_is_refused(
            key: [u8; 32], iv: [u8; 12], number in 0..u64::MAX,
            plain in proptest::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, bit in 0..8u32,
        ) {
            let ours = SealKey::new(key, iv);
            let mut sealed = plain;
            ours.seal_in_place(number, b"header", &mut sealed).unwrap();
            let mut changed = sealed.clone();
            let index = at.index(changed.len());
            changed[index] ^= 1 << bit;
            prop_assert_eq!(ours.open_in_place(number, b"header", &mut changed), Err(SealError::NotAuthentic));
            let mut other_header = sealed.clone();
            prop_assert!(ours.open_in_place(number, b"Header", &mut other_header).is_err());
            prop_assert!(ours.open_in_place(number + 1, b"header", &mut sealed).is_err());
        }
    }

    #[test]
    fn too_short_to_hold_a_tag_is_refused() {
        let key = SealKey::new([1; 32], [2; 12]);
        for len in 0..TAG_LEN {
            assert_eq!(key.open_in_place(0, b"", &mut vec![0; len]), Err(SealError::NotAuthentic));
        }
        assert_eq!(key.seal_datagram(0, 5, &mut vec![0; 4]), Err(SealError::Unsealable));
        assert_eq!(key.seal_slot(0, 5, &mut [0; 5 + TAG_LEN - 1]), Err(SealError::Unsealable));
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", SealKey::new([7; 32], [9; 12])), "SealKey(redacted)");
    }

    #[test]
    fn packet_numbers_stop_at_the_limit_and_never_wrap() {
        let mut numbers = PacketNumbers::starting_at(PACKET_NUMBER_LIMIT - 2);
        assert_eq!(numbers.next(), Some(PACKET_NUMBER_LIMIT - 2));
        assert_eq!(numbers.next(), Some(PACKET_NUMBER_LIMIT - 1));
        assert_eq!(numbers.next(), None);
        assert_eq!(numbers.next(), None);
        assert_eq!(PacketNumbers::starting_at(u64::MAX).next(), None);
        assert_eq!(PacketNumbers::new().next(), Some(0));
    }
}
