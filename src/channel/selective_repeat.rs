//! Selective Repeat: after a loss only what is missing goes out again, in the order in which it was missed.

use std::collections::VecDeque;

/// Which segment is repeated next.
#[derive(Debug, Default)]
pub(super) struct SelectiveRepeat {
    // Each segment once at most; some may have arrived meanwhile.
    missing: VecDeque<u64>,
}

impl SelectiveRepeat {
    /// A transmission of `number` is lost, and it does not wait for another one yet.
    pub(super) fn on_lost(&mut self, number: u64) {
        self.missing.push_back(number);
    }

    /// The segment to repeat now, of those that are still `wanted`.
    pub(super) fn next(&mut self, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        while let Some(number) = self.missing.front().copied() {
            if wanted(number) {
                return Some(number);
            }
            self.missing.pop_front();
        }
        None
    }

    /// The next leaves.
    pub(super) fn take(&mut self) {
        self.missing.pop_front();
    }

    /// `number` did not leave after all.
    pub(super) fn put_back(&mut self, number: u64) {
        self.missing.push_front(number);
    }
}
