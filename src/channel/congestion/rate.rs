//! Delivery rate samples (draft-ietf-ccwg-bbr, "Delivery Rate Samples"): how fast the path delivered between the sending
//! of a packet and its ack. The slower of sending and acknowledging counts, so neither a burst of ours nor a burst of
//! acks looks like bandwidth.

use std::time::Duration;

use super::per_second;

/// Counts what is delivered on one path.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateSampler {
    // Bytes acknowledged so far, and when the last of them were.
    delivered: u64,
    delivered_at: Duration,
    // When the packet left that starts the sending side of the next sample.
    first_sent_at: Duration,
    // The sender had nothing to send until `delivered` reaches this.
    app_limited_until: Option<u64>,
    min_rtt: Option<Duration>,
    // The newest packet acknowledged since the last sample, and when it was sent.
    newest: Option<(SentState, Duration)>,
}

/// What is remembered with each packet sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentState {
    delivered: u64,
    delivered_at: Duration,
    first_sent_at: Duration,
    app_limited: bool,
}

/// One delivery rate sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateSample {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// The sender had nothing to send during the sample: the path may carry more.
    pub(crate) app_limited: bool,
    /// Bytes delivered on the path so far.
    pub(crate) delivered: u64,
    /// The same when the newest acknowledged packet was sent.
    pub(crate) prior_delivered: u64,
    /// When that packet was sent.
    pub(crate) sent_at: Duration,
}

impl RateSampler {
    /// A packet leaves; `in_flight_before` does not count it. The result is kept with the packet.
    pub(crate) fn on_sent(&mut self, now: Duration, _bytes: u64, in_flight_before: u64) -> SentState {
        if in_flight_before == 0 {
            // The path was idle: the idle time belongs to no sample.
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        SentState {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited_until.is_some(),
        }
    }

    /// A packet of `bytes` that left at `sent_at` is acknowledged for the first time.
    pub(crate) fn on_acked(&mut self, now: Duration, bytes: u64, state: &SentState, sent_at: Duration) {
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_at = now;
        let newer = |(newest, at): &(SentState, Duration)| (state.delivered, sent_at) >= (newest.delivered, *at);
        if self.newest.as_ref().is_none_or(newer) {
            self.newest = Some((*state, sent_at));
            self.first_sent_at = self.first_sent_at.max(sent_at);
        }
        if self.app_limited_until.is_some_and(|until| self.delivered > until) {
            self.app_limited_until = None;
        }
    }

    /// The sample of the packets acknowledged since the last call; `rtt` is the round trip that this ack measured.
    /// `None` when there were none, or when they tell nothing.
    pub(crate) fn sample(&mut self, now: Duration, rtt: Option<Duration>) -> Option<RateSample> {
        if let Some(rtt) = rtt {
            self.min_rtt = Some(self.min_rtt.map_or(rtt, |min| min.min(rtt)));
        }
        let (state, sent_at) = self.newest.take()?;
        let sending = sent_at.saturating_sub(state.first_sent_at);
        let acknowledging = now.saturating_sub(state.delivered_at);
        let interval = sending.max(acknowledging);
        // Nothing is sent and acknowledged in less than a round trip; what claims so was acknowledged out of turn.
        if interval.is_zero() || self.min_rtt.is_some_and(|min| interval < min) {
            return None;
        }
        Some(RateSample {
            rate: per_second(self.delivered.saturating_sub(state.delivered), interval),
            app_limited: state.app_limited,
            delivered: self.delivered,
            prior_delivered: state.delivered,
            sent_at,
        })
    }

    /// The sender has nothing to send although window and pacing would allow it, with `in_flight` bytes under way:
    /// samples until these are delivered say nothing about the path's limit.
    pub(crate) fn set_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = Some(self.delivered.saturating_add(in_flight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Sends ten packets of 1,000 bytes a millisecond apart, each acknowledged 50 ms later, `stretch` of them at once.
    fn run(stretch: u64) -> Vec<RateSample> {
        let mut sampler = RateSampler::default();
        let mut states = Vec::new();
        let mut samples = Vec::new();
        for t in 0..200 {
            let now = ms(1_000 + t);
            if t >= 50 && (t - 49) % stretch == 0 {
                for packet in t - 49 - stretch..t - 49 {
                    let (state, sent_at) = states[usize::try_from(packet).unwrap()];
                    sampler.on_acked(now, 1_000, &state, sent_at);
                }
                samples.extend(sampler.sample(now, Some(ms(50))));
            }
            states.push((sampler.on_sent(now, 1_000, t.min(50) * 1_000), now));
        }
        samples
    }

    #[test]
    fn a_steady_path_is_measured_within_a_few_percent_whatever_the_acks_do() {
        for stretch in [1, 5, 10, 25] {
            let samples = run(stretch);
            let best = samples.iter().map(|sample| sample.rate).max().unwrap();
            assert!((950_000..=1_050_000).contains(&best), "acks of {stretch}: {best}");
        }
    }

    #[test]
    fn a_burst_of_acks_is_no_bandwidth() {
        let mut sampler = RateSampler::default();
        let states: Vec<_> = (0..20).map(|t| (sampler.on_sent(ms(t), 1_000, t * 1_000), ms(t))).collect();
        for (state, sent_at) in &states {
            sampler.on_acked(ms(69), 1_000, state, *sent_at);
        }
        let sample = sampler.sample(ms(69), Some(ms(50))).unwrap();
        assert!(sample.rate <= 300_000, "{sample:?}");
        assert!(sampler.sample(ms(70), None).is_none());
    }

    #[test]
    fn what_the_application_held_back_is_marked_until_it_is_delivered() {
        let mut sampler = RateSampler::default();
        let first = sampler.on_sent(ms(0), 1_000, 0);
        sampler.set_app_limited(1_000);
        let second = sampler.on_sent(ms(10), 1_000, 1_000);
        sampler.on_acked(ms(50), 1_000, &first, ms(0));
        assert!(!sampler.sample(ms(50), Some(ms(50))).unwrap().app_limited);
        sampler.on_acked(ms(60), 1_000, &second, ms(10));
        assert!(sampler.sample(ms(60), Some(ms(50))).unwrap().app_limited);
        let third = sampler.on_sent(ms(70), 1_000, 0);
        sampler.on_acked(ms(120), 1_000, &third, ms(70));
        assert!(!sampler.sample(ms(120), Some(ms(50))).unwrap().app_limited);
    }
}
