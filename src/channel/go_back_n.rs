//! Go-Back-N: after a loss everything goes out again, from the first segment that is not acknowledged.

/// Which segment is repeated next.
#[derive(Debug, Default)]
pub(super) struct GoBackN {
    // Segments from here up to the newest are to be sent again.
    again: Option<u64>,
}

impl GoBackN {
    /// Something is lost while everything below `base` has arrived.
    pub(super) fn on_lost(&mut self, base: u64) {
        self.again = Some(base);
    }

    /// The segment to repeat now, of those from `base` up to `next`.
    pub(super) fn next(&mut self, base: u64, next: u64) -> Option<u64> {
        self.again = self.again.map(|again| again.max(base)).filter(|again| *again < next);
        self.again
    }

    /// `number`, which is the next, leaves.
    pub(super) fn take(&mut self, number: u64) {
        self.again = Some(number + 1);
    }

    /// `number` did not leave after all.
    pub(super) fn put_back(&mut self, number: u64) {
        self.again = Some(self.again.map_or(number, |again| again.min(number)));
    }
}
