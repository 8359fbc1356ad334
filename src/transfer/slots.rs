//! Upload slots: how many files leave at once, and to whom.

use std::collections::BTreeMap;

use crate::wire::id::TransferId;

/// Who holds the slots. A slot is taken when a request is let through and given back when that transfer is over. Beside the `limit` plain
/// ones there is one for something small, and any number that the user granted.
#[derive(Debug, Clone)]
pub struct Slots<P> {
    limit: u32,
    taken: BTreeMap<TransferId, (P, Slot)>,
}

/// By which right a transfer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// One of the plain slots.
    Plain,
    /// The slot for what is small.
    Small,
    /// The user's word.
    Granted,
}

impl<P: Ord> Slots<P> {
    /// `limit` slots, all free; 0 means that nothing is sent unless it is granted.
    pub const fn new(limit: u32) -> Self {
        Self { limit, taken: BTreeMap::new() }
    }

    /// The slot that something of this many bytes could have now.
    pub fn fitting(&self, size: u64) -> Option<Slot> {
        if self.free() > 0 {
            return Some(Slot::Plain);
        }
        let small = size <= SMALL && self.limit > 0 && !self.taken.values().any(|(_, slot)| *slot == Slot::Small);
        small.then_some(Slot::Small)
    }

    /// Takes a slot.
    pub fn take(&mut self, transfer: TransferId, peer: P, slot: Slot) {
        self.taken.insert(transfer, (peer, slot));
    }

    /// Gives a slot back; returns whether there was one.
    pub fn release(&mut self, transfer: TransferId) -> bool {
        self.taken.remove(&transfer).is_some()
    }

    /// Plain slots that can be taken now.
    pub fn free(&self) -> u32 {
        let plain = self.taken.values().filter(|(_, slot)| *slot == Slot::Plain).count();
        self.limit.saturating_sub(u32::try_from(plain).unwrap_or(u32::MAX))
    }

    /// Whether the peer has a plain slot.
    pub fn has(&self, peer: &P) -> bool {
        self.taken.values().any(|(who, slot)| who == peer && *slot == Slot::Plain)
    }

    /// Who has this slot, and by which right.
    pub fn holder(&self, transfer: TransferId) -> Option<(&P, Slot)> {
        self.taken.get(&transfer).map(|(who, slot)| (who, *slot))
    }

    /// How many plain slots the peer has.
    pub fn count(&self, peer: &P) -> usize {
        self.taken.values().filter(|(who, slot)| who == peer && *slot == Slot::Plain).count()
    }

    /// Another limit. Running uploads go on; new ones wait until enough have ended.
    pub const fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Plain slots in all.
    pub const fn limit(&self) -> u32 {
        self.limit
    }
}

/// Slots unless the user says otherwise.
pub const DEFAULT_SLOTS: u32 = 2;
/// Up to this many bytes something is small.
pub const SMALL: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    #[test]
    fn past_the_limit_only_one_small_file_passes() {
        let mut slots = Slots::new(DEFAULT_SLOTS);
        for n in [1, 2] {
            assert_eq!(slots.fitting(u64::MAX), Some(Slot::Plain));
            slots.take(Id([n; 16]), "bob", Slot::Plain);
        }
        assert_eq!((slots.fitting(SMALL + 1), slots.fitting(SMALL)), (None, Some(Slot::Small)));
        slots.take(Id([3; 16]), "carol", Slot::Small);
        assert_eq!(slots.fitting(1), None);
        assert!(!slots.release(Id([9; 16])) && slots.free() == 0);
        assert!(slots.release(Id([1; 16])) && slots.has(&"bob") && !slots.has(&"carol"));
        assert_eq!(slots.fitting(1), Some(Slot::Plain));
    }

    #[test]
    fn a_lowered_limit_lets_running_uploads_end() {
        let mut slots = Slots::new(2);
        slots.take(Id([1; 16]), (), Slot::Plain);
        slots.take(Id([2; 16]), (), Slot::Plain);
        slots.set_limit(1);
        slots.release(Id([1; 16]));
        assert_eq!(slots.fitting(u64::MAX), None);
        slots.release(Id([2; 16]));
        assert_eq!(slots.free(), 1);
        slots.set_limit(0);
        assert_eq!(slots.fitting(1), None, "none at all");
    }
}
