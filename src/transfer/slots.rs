//! Upload slots: how many files leave at once.

use std::collections::HashSet;

use thiserror::Error;

use crate::wire::id::TransferId;

/// Who holds the slots. A slot is taken when a request is accepted and given back when that transfer is over.
#[derive(Debug, Clone)]
pub struct Slots {
    limit: u32,
    // At most `limit`, unless the limit was lowered since.
    taken: HashSet<TransferId>,
}

/// Why no slot was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SlotRefusal {
    /// All are taken.
    #[error("every upload slot is taken")]
    Busy,
    /// This transfer has one already.
    #[error("this transfer has a slot already")]
    Repeated,
}

impl Slots {
    /// `limit` slots, all free; 0 means that nothing is sent.
    pub fn new(limit: u32) -> Self {
        Self { limit, taken: HashSet::new() }
    }

    /// Takes a slot.
    pub fn take(&mut self, transfer: TransferId) -> Result<(), SlotRefusal> {
        if self.taken.contains(&transfer) {
            return Err(SlotRefusal::Repeated);
        }
        if self.free() == 0 {
            return Err(SlotRefusal::Busy);
        }
        self.taken.insert(transfer);
        Ok(())
    }

    /// Gives a slot back; without one nothing happens.
    pub fn release(&mut self, transfer: TransferId) {
        self.taken.remove(&transfer);
    }

    /// Slots that can be taken now.
    pub fn free(&self) -> u32 {
        self.limit.saturating_sub(u32::try_from(self.taken.len()).unwrap_or(u32::MAX))
    }

    /// Another limit. Running uploads go on; new ones wait until enough have ended.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }
}

/// Slots unless the user says otherwise.
pub const DEFAULT_SLOTS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    #[test]
    fn past_the_limit_it_is_busy_until_one_ends() {
        let mut slots = Slots::new(DEFAULT_SLOTS);
        assert_eq!(slots.take(Id([1; 16])), Ok(()));
        assert_eq!(slots.take(Id([1; 16])), Err(SlotRefusal::Repeated));
        assert_eq!(slots.take(Id([2; 16])), Ok(()));
        assert_eq!(slots.take(Id([3; 16])), Err(SlotRefusal::Busy));
        slots.release(Id([9; 16]));
        assert_eq!(slots.free(), 0);
        slots.release(Id([1; 16]));
        assert_eq!(slots.take(Id([3; 16])), Ok(()));
    }

    #[test]
    fn a_lowered_limit_lets_running_uploads_end() {
        let mut slots = Slots::new(2);
        slots.take(Id([1; 16])).unwrap();
        slots.take(Id([2; 16])).unwrap();
        slots.set_limit(1);
        slots.release(Id([1; 16]));
        assert_eq!(slots.take(Id([3; 16])), Err(SlotRefusal::Busy));
        slots.release(Id([2; 16]));
        assert_eq!(slots.free(), 1);
    }
}
