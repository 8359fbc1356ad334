//! The rate that the user allows in one direction, over all transfers together: a token bucket.

use std::time::Duration;

/// Bytes may leave while the level is above zero; each that leaves lowers it, and it rises at the rate allowed.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    // Bytes a second; without one everything may leave.
    rate: Option<u64>,
    // Nanobytes would be exact; bytes times 2^16 are exact enough for a byte a second and do not overflow.
    level: i128,
    filled: Duration,
}

impl Bucket {
    pub(super) fn new(rate: Option<u64>, now: Duration) -> Self {
        Self { rate: rate.map(sensible), level: 0, filled: now }
    }

    /// Another rate from now on.
    pub(super) fn set_rate(&mut self, rate: Option<u64>, now: Duration) {
        self.fill(now);
        self.rate = rate.map(sensible);
        self.level = self.level.min(self.most());
    }

    /// Whether something may leave now.
    pub(super) fn is_open(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.rate.is_none() || self.level > 0
    }

    /// Bytes that may leave now; `u64::MAX` without a limit.
    pub(super) fn room(&mut self, now: Duration) -> u64 {
        self.fill(now);
        if self.rate.is_none() {
            return u64::MAX;
        }
        u64::try_from(self.level >> SCALE).unwrap_or(0)
    }

    /// These bytes have left.
    pub(super) fn take(&mut self, bytes: u64) {
        if self.rate.is_some() {
            self.level -= i128::from(bytes) << SCALE;
        }
    }

    /// When [`Self::room`] is `bytes` or as much as there ever is; `None` when that is now, or there is no limit.
    pub(super) fn opens_at(&self, now: Duration, bytes: u64) -> Option<Duration> {
        let rate = self.rate?;
        let missing = (i128::from(bytes) << SCALE).min(self.most()) - self.level;
        let nanos = (missing * NANOS).div_euclid(i128::from(rate) << SCALE) + 1;
        let at = self.filled + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        (missing > 0 && at > now).then_some(at)
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        let Some(rate) = self.rate else { return };
        // An hour makes good whatever one batch took too much at any rate worth setting.
        let nanos = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX).min(LONGEST);
        let more = ((i128::from(rate) << SCALE) * nanos) / NANOS;
        self.level = self.level.saturating_add(more).min(self.most());
    }

    /// What a pause gathers: [`BURST`], and never less than a group of a file.
    fn most(&self) -> i128 {
        let burst = u128::from(self.rate.unwrap_or(0)) * BURST.as_millis() / 1_000;
        i128::try_from(burst).unwrap_or(i128::MAX).clamp(LEAST, i128::from(u64::MAX)) << SCALE
    }
}

/// At least a byte a second, and at most a terabyte, which no line has.
fn sensible(rate: u64) -> u64 {
    rate.clamp(1, 1 << 40)
}

const SCALE: u32 = 16;
const NANOS: i128 = 1_000_000_000;
/// Time that is made up for at once, nanoseconds.
const LONGEST: i128 = 3_600 * NANOS;
/// Time's worth of bytes that may leave at once after a pause.
const BURST: Duration = Duration::from_millis(20);
/// Bytes that may leave at once however low the rate is: one group of a file.
const LEAST: i128 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in(rate: u64, batch: u64, millis: u64) -> u64 {
        let mut bucket = Bucket::new(Some(rate), Duration::ZERO);
        let mut sent = 0;
        for now in (0..millis * 10).map(|tenths| Duration::from_micros(tenths * 100)) {
            while bucket.is_open(now) {
                bucket.take(batch);
                sent += batch;
            }
        }
        sent
    }

    #[test]
    fn over_ten_seconds_it_is_the_rate_whatever_leaves_at_once() {
        for rate in [20_000, 1_000_000, 100_000_000] {
            for batch in [100, 1_200, 65_000] {
                let sent = sent_in(rate, batch, 10_000);
                assert!(
                    sent >= rate * 9_999 / 1_000 - batch && sent <= rate * 10 + LEAST as u64 + batch,
                    "{rate} {batch}: {sent}"
                );
            }
        }
    }

    #[test]
    fn it_tells_when_there_is_room_again() {
        let mut bucket = Bucket::new(Some(1_000_000), Duration::ZERO);
        let now = Duration::from_secs(1);
        assert!(bucket.is_open(now));
        bucket.take(200_000);
        let at = bucket.opens_at(now, 1).unwrap();
        assert!(!bucket.is_open(at - Duration::from_micros(10)));
        assert!(bucket.is_open(at));
        let at = bucket.opens_at(at, 50_000).unwrap();
        assert!(bucket.room(at) >= 50_000);
        assert_eq!(bucket.opens_at(at, 50_000), None);
    }

    #[test]
    fn without_a_limit_and_after_a_long_time_nothing_overflows() {
        let mut bucket = Bucket::new(None, Duration::ZERO);
        bucket.take(u64::MAX);
        assert_eq!((bucket.room(Duration::MAX), bucket.opens_at(Duration::MAX, 1)), (u64::MAX, None));
        let mut bucket = Bucket::new(Some(u64::MAX), Duration::ZERO);
        assert!(bucket.is_open(Duration::MAX));
        bucket.set_rate(Some(0), Duration::MAX);
        bucket.take(u64::MAX);
        assert!(!bucket.is_open(Duration::MAX));
    }
}
