//! What one user, or all together, may have relayed: so much a second, so much a day.

use crate::limits::RELAY_DAY;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Budget {
    // Bytes a second.
    rate: u64,
    // Bytes that may leave now; below zero after a batch that was too large.
    level: i128,
    filled: Duration,
    // Bytes a day.
    daily: u64,
    day: Duration,
    used: u64,
}

impl Budget {
    pub(super) fn new(rate: u64, daily: u64, now: Duration) -> Self {
        let burst = i128::from(rate) / BURST_PARTS;
        Self { rate, level: burst, filled: now, daily, day: now, used: 0 }
    }

    /// Other limits, with what was used of the day.
    pub(super) fn set(&mut self, rate: u64, daily: u64, now: Duration) {
        self.has(now);
        (self.rate, self.daily) = (rate, daily);
        self.level = self.level.min(i128::from(rate) / BURST_PARTS);
    }

    /// Whether something may leave now.
    pub(super) fn has(&mut self, now: Duration) -> bool {
        if now >= self.day + RELAY_DAY {
            (self.day, self.used) = (now, 0);
        }
        let passed = now.saturating_sub(self.filled).min(Duration::from_secs(1));
        let more = i128::from(self.rate) * i128::try_from(passed.as_micros()).unwrap_or(0) / 1_000_000;
        if more > 0 {
            self.filled = now;
            self.level = (self.level + more).min(i128::from(self.rate) / BURST_PARTS);
        }
        self.level > 0 && self.used < self.daily
    }

    /// The day's bytes have left.
    pub(super) fn is_spent(&self, now: Duration) -> bool {
        self.used >= self.daily && now < self.day + RELAY_DAY
    }

    /// So many bytes leave.
    pub(super) fn take(&mut self, bytes: u64) {
        self.level -= i128::from(bytes);
        self.used = self.used.saturating_add(bytes);
    }

    /// Nothing of it has been used in this day.
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        self.used == 0 || now >= self.day + RELAY_DAY
    }
}

/// What a pause gathers is this part of a second's worth.
const BURST_PARTS: i128 = 10;
