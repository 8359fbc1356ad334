//! Spreads what may leave over time: a bucket that fills at the pacing rate.

use std::time::Duration;

use super::{over, time_for};

/// Says how many bytes may leave now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pacer {
    // Bytes a second; `None` is unpaced.
    rate: Option<u64>,
    // The time up to which everything sent is paid for: in the past there is credit, in the future a debt.
    paid_until: Duration,
}

impl Pacer {
    /// Takes a new rate, in bytes a second, for what leaves from now on.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate.map(|rate| rate.max(MIN_RATE));
    }

    /// Bytes that may leave now. The first datagram of a burst may overdraw it, if [`next_at`](Self::next_at) is `None`.
    pub(crate) fn budget(&mut self, now: Duration) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        self.paid_until = self.paid_until.max(now.saturating_sub(credit(rate)));
        over(rate, now.saturating_sub(self.paid_until))
    }

    /// `bytes` leave.
    pub(crate) fn on_sent(&mut self, bytes: u64) {
        if let Some(rate) = self.rate {
            self.paid_until += time_for(bytes, rate);
        }
    }

    /// When to send, for who has `bytes` to send: when there is budget for them, or for a burst (a millisecond's worth, at
    /// most one batch of the kernel's) if that is less. `None` is now.
    pub(crate) fn next_at(&self, now: Duration, bytes: u64) -> Option<Duration> {
        let rate = self.rate?;
        let at = self.paid_until + time_for(bytes.min(burst(rate)), rate);
        (at > now).then_some(at)
    }
}

/// What leaves at once when all goes to plan, in bytes.
pub(super) fn burst(rate: u64) -> u64 {
    over(rate, Duration::from_millis(1)).min(BATCH)
}

/// How much lateness is made up for: a driver's timer comes late by a millisecond or more, and the link idles meanwhile,
/// so the burst that follows finds the queue shorter by as much. At least one batch, or a fast path would pay for each.
fn credit(rate: u64) -> Duration {
    LATENESS.max(time_for(BATCH, rate).min(MAX_LATENESS))
}

const BATCH: u64 = 64 * 1024;
/// Timers of a millisecond, and a busy machine.
const LATENESS: Duration = Duration::from_millis(4);
/// On a slow path not even a batch leaves at once.
const MAX_LATENESS: Duration = Duration::from_millis(5);
/// A datagram every few seconds: slower is as good as stopped.
const MIN_RATE: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends whatever may leave, waking `late` after the time asked for. Returns bytes sent in a second and the largest
    /// burst.
    fn run(rate: u64, late: Duration) -> (u64, u64) {
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(rate));
        let (mut now, mut sent, mut largest) = (Duration::from_secs(5), 0, 0);
        let end = now + Duration::from_secs(1);
        while now < end {
            let mut burst = 0;
            let datagrams = (pacer.budget(now) / 1_200).max(1);
            for _ in 0..datagrams {
                pacer.on_sent(1_200);
                burst += 1_200;
            }
            sent += burst;
            largest = largest.max(burst);
            while let Some(at) = pacer.next_at(now, BATCH) {
                now = at + late;
            }
        }
        (sent, largest)
    }

    #[test]
    fn the_rate_is_kept_also_by_late_timers() {
        for rate in [1_000_000, 25_000_000, 1_250_000_000] {
            for late in [0, 50, 1_000, 2_500] {
                let (sent, _) = run(rate, Duration::from_micros(late));
                assert!(sent.abs_diff(rate) < rate / 50, "{rate} late {late} us: {sent}");
            }
        }
    }

    #[test]
    fn bursts_last_a_few_milliseconds_at_most() {
        let (_, largest) = run(25_000_000, Duration::ZERO);
        assert!(largest <= 25_000_000 / 200, "{largest}");
        let mut idle = Pacer::default();
        idle.set_rate(Some(25_000_000));
        assert!(idle.budget(Duration::from_secs(3600)) <= 25_000_000 / 200);
    }

    #[test]
    fn without_a_rate_nothing_is_held_back() {
        let mut pacer = Pacer::default();
        pacer.on_sent(1 << 40);
        assert_eq!(pacer.budget(Duration::ZERO), u64::MAX);
        assert_eq!(pacer.next_at(Duration::ZERO, 1 << 40), None);
    }
}
