//! The rate over the last second, at most ten times a second.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Meter {
    // Times and bytes of the last second's samples, oldest first.
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Bytes a second lately, if it is time to say so and something has moved.
    pub(super) fn sample(&mut self, now: Duration, bytes: u64) -> Option<u64> {
        if let Some((last, before)) = self.samples.back()
            && (*before == bytes || now.saturating_sub(*last) < PROGRESS_INTERVAL)
        {
            return None;
        }
        while self.samples.len() > 1 && self.samples.front().is_some_and(|(at, _)| *at + RATE_WINDOW < now) {
            self.samples.pop_front();
        }
        let first = self.samples.front().copied();
        self.samples.push_back((now, bytes));
        let (at, before) = first?;
        let micros = now.saturating_sub(at).as_micros().max(1);
        let rate = u128::from(bytes.saturating_sub(before)) * 1_000_000 / micros;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
const RATE_WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_ten_times_a_second_with_the_rate_of_the_last_one() {
        let mut meter = Meter::default();
        let told: Vec<u64> =
            (0..3_000).filter_map(|ms| meter.sample(Duration::from_millis(ms), (ms + 1) * 1_000)).collect();
        assert!((25..=30).contains(&told.len()), "{}", told.len());
        assert!(told.iter().all(|rate| rate.abs_diff(1_000_000) < 20_000), "{told:?}");
        assert!(meter.sample(Duration::from_secs(9), 3_000_001).is_some());
        assert_eq!(meter.sample(Duration::from_secs(10), 3_000_001), None, "nothing moved");
        assert!(meter.samples.len() <= 12);
    }
}
