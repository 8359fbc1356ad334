//! Packet numbers. Now and then one is passed over: a peer that acknowledges it has not received what it acknowledges,
//! but guesses, to make us send faster (RFC 9000 §21.4).

use std::fmt;

use crate::crypto::seal::PacketNumbers;

/// Hands out packet numbers.
pub(super) struct Numbers {
    numbers: PacketNumbers,
    // The next number to pass over; unpredictable to the peer.
    gap: u64,
    key: [u8; 32],
}

impl Numbers {
    /// `seed` must be secret.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let key = blake3::derive_key("secchat 1 packet numbers passed over", &seed);
        let mut numbers = Self { numbers: PacketNumbers::new(), gap: 0, key };
        numbers.gap = numbers.next_gap();
        numbers
    }

    /// The number above all that were handed out or passed over.
    pub(super) fn upcoming(&self) -> u64 {
        self.numbers.upcoming()
    }

    /// A number to pass over now, before the next packet.
    pub(super) fn pass_over(&mut self) -> Option<u64> {
        if self.numbers.upcoming() != self.gap {
            return None;
        }
        let passed = self.numbers.next();
        self.gap = self.next_gap();
        passed
    }

    /// A new number, or `None` when none is left.
    pub(super) fn next(&mut self) -> Option<u64> {
        self.numbers.next()
    }

    fn next_gap(&self) -> u64 {
        let upcoming = self.numbers.upcoming();
        let hash = blake3::keyed_hash(&self.key, &upcoming.to_be_bytes());
        let [low, high, ..] = *hash.as_bytes();
        upcoming + MIN_STRETCH + u64::from(u16::from_be_bytes([high, low])) % STRETCHES
    }

    #[cfg(test)]
    pub(super) fn starting_at(first: u64) -> Self {
        Self { numbers: PacketNumbers::starting_at(first), ..Self::new([0; 32]) }
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbers({})", self.numbers.upcoming())
    }
}

/// Between two numbers that are passed over.
const MIN_STRETCH: u64 = 32;
const STRETCHES: u64 = 512;
