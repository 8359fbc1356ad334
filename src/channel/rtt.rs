//! Round-trip time and retransmission timeout (RFC 9002 §5 and §6.2, which refine RFC 6298).
//!
//! Each transmission has its own packet number, so every sample says which transmission it measures and Karn's
//! ambiguity does not arise.

use std::time::Duration;

/// A smoothed estimate of one path's round trip.
#[derive(Debug, Clone, Default)]
pub(super) struct Rtt {
    estimate: Option<Estimate>,
}

#[derive(Debug, Clone, Copy)]
struct Estimate {
    latest: Duration,
    min: Duration,
    // The longest seen.
    max: Duration,
    smoothed: Duration,
    variation: Duration,
}

impl Rtt {
    /// Takes one sample; `ack_delay` is how long the peer says that it held the ack back.
    pub(super) fn update(&mut self, sample: Duration, ack_delay: Duration) {
        let Some(estimate) = &mut self.estimate else {
            self.estimate =
                Some(Estimate { latest: sample, min: sample, max: sample, smoothed: sample, variation: sample / 2 });
            return;
        };
        estimate.latest = sample;
        estimate.min = estimate.min.min(sample);
        estimate.max = estimate.max.max(sample);
        // A peer cannot talk the estimate below what was seen, nor claim to have waited longer than it may.
        let without_delay = sample.saturating_sub(ack_delay.min(MAX_ACK_DELAY));
        let adjusted = if without_delay >= estimate.min { without_delay } else { sample };
        estimate.variation = (estimate.variation * 3 + estimate.smoothed.abs_diff(adjusted)) / 4;
        estimate.smoothed = (estimate.smoothed * 7 + adjusted) / 8;
    }

    /// The smoothed round trip, once there is a sample.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.estimate.map(|estimate| estimate.smoothed)
    }

    /// The shortest round trip.
    pub(super) fn min(&self) -> Option<Duration> {
        self.estimate.map(|estimate| estimate.min)
    }

    /// How far the longest went beyond the shortest.
    pub(super) fn spread(&self) -> Duration {
        self.estimate.map_or(Duration::ZERO, |estimate| estimate.max.saturating_sub(estimate.min))
    }

    /// How long after a packet left it counts as lost, once a newer one was acknowledged (RFC 9002 §6.1.2).
    pub(super) fn loss_delay(&self) -> Duration {
        let round_trip = self.estimate.map_or(INITIAL_RTO / 3, |estimate| estimate.smoothed.max(estimate.latest));
        (round_trip * 9 / 8).max(GRANULARITY)
    }

    /// How long an ack may be held back: short beside the round trip, long beside a timer.
    pub(super) fn ack_delay(&self) -> Duration {
        self.smoothed().map_or(GRANULARITY, |smoothed| (smoothed / 32).clamp(GRANULARITY, MAX_ACK_DELAY))
    }

    /// How long to wait for an ack after `backoff` timeouts in a row: doubled each time, never above [`MAX_RTO`].
    pub(super) fn timeout(&self, backoff: u32) -> Duration {
        let base = match self.estimate {
            Some(estimate) => estimate.smoothed + (estimate.variation * 4).max(GRANULARITY) + MAX_ACK_DELAY,
            None => INITIAL_RTO,
        };
        base.max(MIN_RTO).saturating_mul(1 << backoff.min(16)).min(MAX_RTO)
    }
}

/// The longest that an ack is held back.
pub(super) const MAX_ACK_DELAY: Duration = Duration::from_millis(5);
/// Below this a busy machine's scheduler looks like loss.
const MIN_RTO: Duration = Duration::from_millis(15);
/// RFC 9002's 333 ms, with its variation of half a round trip four times.
const INITIAL_RTO: Duration = Duration::from_millis(999);
/// Kept short, so that a transfer goes on soon after an outage ends.
const MAX_RTO: Duration = Duration::from_secs(2);
const GRANULARITY: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_steady_path_is_learned() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(0), INITIAL_RTO);
        for _ in 0..100 {
            rtt.update(ms(80), Duration::ZERO);
        }
        assert_eq!(rtt.smoothed(), Some(ms(80)));
        let timeout = rtt.timeout(0);
        assert!(timeout > ms(80) && timeout < ms(95), "{timeout:?}");
    }

    #[test]
    fn timeouts_back_off_up_to_a_bound() {
        let mut rtt = Rtt::default();
        rtt.update(ms(100), Duration::ZERO);
        assert_eq!(rtt.timeout(1), rtt.timeout(0) * 2);
        assert_eq!(rtt.timeout(2), rtt.timeout(0) * 4);
        assert_eq!(rtt.timeout(u32::MAX), MAX_RTO);
        let mut fast = Rtt::default();
        fast.update(Duration::from_micros(30), Duration::ZERO);
        assert_eq!(fast.timeout(0), MIN_RTO);
    }

    #[test]
    fn a_claimed_delay_is_bounded() {
        let mut rtt = Rtt::default();
        rtt.update(ms(50), Duration::ZERO);
        rtt.update(ms(90), Duration::from_secs(3600));
        assert!(rtt.smoothed().unwrap() >= ms(50));
        let mut low = Rtt::default();
        low.update(ms(50), ms(5));
        low.update(ms(50), ms(5));
        assert_eq!(low.smoothed(), Some(ms(50)));
    }
}
