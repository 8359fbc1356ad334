//! What is believed of the path: bandwidth, shortest round trip, how bursty its acks are (draft-ietf-ccwg-bbr, "Path
//! Model").

use std::time::Duration;

use super::super::{AckSample, over, percent};

#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    // Highest delivery rates of this probing cycle and the one before, bytes a second.
    rates: [u64; 2],
    min_rtt: Option<Duration>,
    // When a round trip about as short as `min_rtt` was seen last.
    min_rtt_at: Duration,
    pub(super) round: Round,
    bursts: Bursts,
    jitter: Jitter,
}

/// How much round trips differ on the path by themselves: as much as in the steadiest of the last rounds.
#[derive(Debug, Clone, Default)]
struct Jitter {
    // Two halves of a window of twenty rounds.
    least: [Option<Duration>; 2],
    turned_at: u64,
}

/// Packet-timed rounds: one ends when something is acknowledged that was sent after it began.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    pub(super) count: u64,
    ends_at: u64,
    // The ack at hand is the first of a round.
    pub(super) started: bool,
    /// Of the round that runs, or has just ended when `started`: highest rate, shortest round trip, bytes delivered.
    pub(super) seen: Seen,
    // What the running round gathers.
    gathers: Seen,
    began_at: u64,
    // The shortest round trip of the round before.
    min_rtt_before: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) rate: u64,
    pub(super) min_rtt: Option<Duration>,
    max_rtt: Duration,
    rtts: u32,
    pub(super) delivered: u64,
    pub(super) app_limited: bool,
}

/// How many more bytes arrive at once than the rate explains.
#[derive(Debug, Clone, Default)]
struct Bursts {
    since: Duration,
    acked: u64,
    // Two halves of a window of ten rounds.
    extra: [u64; 2],
    turned_at: u64,
}

impl Path {
    /// Takes one ack; `window` bounds what is believed of bursts.
    pub(super) fn on_ack(&mut self, ack: &AckSample, window: u64) {
        if let Some(rtt) = ack.rtt {
            self.on_rtt(ack.now, rtt);
        }
        self.round.started = false;
        let Some(sample) = ack.rate else { return };
        self.round.on_sample(sample.prior_delivered, sample.delivered);
        if self.round.started {
            self.jitter.on_round(&self.round);
        }
        self.round.gathers.rate = self.round.gathers.rate.max(sample.rate);
        self.round.gathers.app_limited |= sample.app_limited;
        if !sample.app_limited || sample.rate >= self.max_rate() {
            self.rates[0] = self.rates[0].max(sample.rate);
        }
        let rate = self.max_rate();
        self.bursts.on_ack(ack.now, ack.acked, rate, window, self.round.count);
    }

    fn on_rtt(&mut self, now: Duration, rtt: Duration) {
        let rtt = rtt.max(Duration::from_micros(1));
        let seen = self.round.gathers.min_rtt;
        self.round.gathers.min_rtt = Some(seen.map_or(rtt, |min| min.min(rtt)));
        self.round.gathers.max_rtt = self.round.gathers.max_rtt.max(rtt);
        self.round.gathers.rtts += 1;
        match self.min_rtt {
            Some(min) if rtt > min + (min / 20).max(TIMER_NOISE) => {}
            Some(min) => {
                self.min_rtt = Some(min.min(rtt));
                self.min_rtt_at = now;
            }
            None => {
                self.min_rtt = Some(rtt);
                self.min_rtt_at = now;
            }
        }
    }

    /// A probing cycle ends: what was seen two cycles ago is forgotten.
    pub(super) fn next_cycle(&mut self) {
        if self.rates[0] > 0 {
            self.rates = [0, self.rates[0]];
        }
    }

    /// Replaces the rate by the share that was settled on with others.
    pub(super) fn set_max_rate(&mut self, rate: u64) {
        self.rates = [rate, 0];
    }

    /// Highest delivery rate lately, bytes a second; 0 before the first sample.
    pub(super) fn max_rate(&self) -> u64 {
        self.rates[0].max(self.rates[1])
    }

    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// Whether the shortest round trip was not seen again for `time`.
    pub(super) fn min_rtt_older_than(&self, now: Duration, time: Duration) -> bool {
        self.min_rtt.is_some() && now > self.min_rtt_at + time
    }

    /// Replaces the shortest round trip by what a drained path showed.
    pub(super) fn set_min_rtt(&mut self, now: Duration, rtt: Option<Duration>) {
        if rtt.is_some() {
            self.min_rtt = rtt;
        }
        self.min_rtt_at = now;
    }

    /// Bytes that fill the path without a queue at `rate`.
    pub(super) fn bdp(&self, rate: u64) -> u64 {
        over(rate, self.min_rtt.unwrap_or_default())
    }

    /// Room for acks that come in bursts.
    pub(super) fn burst_allowance(&self) -> u64 {
        self.bursts.extra[0].max(self.bursts.extra[1])
    }

    /// Whether the round that ended met a queue all along: its shortest round trip is compared.
    pub(super) fn round_was_queued(&self) -> bool {
        self.round.seen.min_rtt.is_some_and(|rtt| self.is_longer(rtt, 20))
    }

    /// Whether the queue of the round that ended will be gone within three more if it goes on shrinking as it did.
    pub(super) fn queue_vanishes(&self) -> bool {
        let (Some(min), Some(before), Some(now)) = (self.min_rtt, self.round.min_rtt_before, self.round.seen.min_rtt)
        else {
            return false;
        };
        before.saturating_sub(now) * 3 >= now.saturating_sub(min)
    }

    /// Whether a single round trip of `rtt` shows a queue beyond what jitter explains.
    pub(super) fn is_queued(&self, rtt: Duration) -> bool {
        self.is_longer(rtt, 8)
    }

    fn is_longer(&self, rtt: Duration, part: u32) -> bool {
        let longer = |min: Duration| min + (min / part).clamp(QUEUE_LEAST, QUEUE_MOST).max(self.jitter.get());
        self.min_rtt.is_some_and(|min| rtt > longer(min))
    }
}

impl Round {
    fn on_sample(&mut self, prior_delivered: u64, delivered: u64) {
        if prior_delivered < self.ends_at {
            return;
        }
        self.started = true;
        self.count += 1;
        self.ends_at = delivered;
        self.gathers.delivered = delivered.saturating_sub(self.began_at);
        self.began_at = delivered;
        self.min_rtt_before = self.seen.min_rtt;
        self.seen = std::mem::take(&mut self.gathers);
    }
}

impl Jitter {
    fn on_round(&mut self, round: &Round) {
        // A few say nothing of how much they differ.
        let Some(min) = round.seen.min_rtt.filter(|_| round.seen.rtts >= 4) else { return };
        if round.count >= self.turned_at + 10 {
            self.least = [None, self.least[0]];
            self.turned_at = round.count;
        }
        let spread = round.seen.max_rtt.saturating_sub(min);
        self.least[0] = Some(self.least[0].map_or(spread, |least| least.min(spread)));
    }

    fn get(&self) -> Duration {
        self.least.into_iter().flatten().min().unwrap_or_default()
    }
}

impl Bursts {
    fn on_ack(&mut self, now: Duration, acked: u64, rate: u64, window: u64, round: u64) {
        let mut expected = over(rate, now.saturating_sub(self.since));
        if self.acked <= expected {
            (self.since, self.acked, expected) = (now, 0, 0);
        }
        self.acked = self.acked.saturating_add(acked);
        if round >= self.turned_at + 5 {
            self.extra = [0, self.extra[0]];
            self.turned_at = round;
        }
        let extra = self.acked.saturating_sub(expected).min(window);
        self.extra[0] = self.extra[0].max(extra.min(percent(over(rate, LONGEST_BURST), 100)));
    }
}

/// Round trips that differ by less are the same.
const TIMER_NOISE: Duration = Duration::from_micros(300);
/// What counts as a queue: a part of the round trip, within these.
const QUEUE_LEAST: Duration = Duration::from_millis(2);
const QUEUE_MOST: Duration = Duration::from_millis(10);
/// Acks held back for longer are a stall, not a habit of the path.
const LONGEST_BURST: Duration = Duration::from_millis(100);
