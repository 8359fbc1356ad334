//! How much may leave now: the controller's window and rate, the pacer, the fixed window in their place.

use std::time::Duration;

use super::config::Config;
use super::congestion::CongestionKind;
use super::congestion::{AckSample, Controller, LossSample, Pacer, RateSampler, SentState, controller};
use super::flight::Sent;
use crate::wire::packet::BASE_DATAGRAM;

#[derive(Debug)]
pub(super) struct Pace {
    sampler: RateSampler,
    // None with a fixed window.
    controller: Option<Box<dyn Controller>>,
    pacer: Pacer,
    rate_limit: Option<u64>,
    // When the pacer lets out what waits.
    held_until: Option<Duration>,
}

impl Pace {
    pub(super) fn new(config: &Config, now: Duration) -> Self {
        let controlled = config.window.is_none() && config.congestion != CongestionKind::None;
        let mut pace = Self {
            sampler: RateSampler::default(),
            controller: controlled.then(|| controller(config.congestion, BASE_DATAGRAM as u64, now)),
            pacer: Pacer::default(),
            rate_limit: config.rate_limit,
            held_until: None,
        };
        pace.set_rate();
        pace
    }

    pub(super) fn set_rate_limit(&mut self, rate: Option<u64>) {
        self.rate_limit = rate;
        self.set_rate();
    }

    pub(super) fn on_datagram_size(&mut self, bytes: usize) {
        if let Some(controller) = &mut self.controller {
            controller.on_datagram_size(bytes as u64);
        }
        self.set_rate();
    }

    /// Bytes that may be in flight. `None` without a limit.
    pub(super) fn window(&self) -> Option<u64> {
        self.controller.as_ref().map(|controller| controller.window())
    }

    /// Bytes a second. `None` is unpaced.
    pub(super) fn rate(&self) -> Option<u64> {
        let paced = self.controller.as_ref().and_then(|controller| controller.pacing_rate());
        [paced, self.rate_limit].into_iter().flatten().min()
    }

    /// Bytes that may leave now, for who would send up to `wanted`; `None` if it has to wait until [`Self::held_until`].
    pub(super) fn budget(&mut self, now: Duration, wanted: u64) -> Option<u64> {
        self.held_until = self.pacer.next_at(now, wanted);
        if self.held_until.is_some() {
            return None;
        }
        Some(self.pacer.budget(now))
    }

    pub(super) fn held_until(&self) -> Option<Duration> {
        self.held_until
    }

    /// Nothing waits for the pacer.
    pub(super) fn release(&mut self) {
        self.held_until = None;
    }

    /// A datagram with a segment leaves; `in_flight` does not count it.
    pub(super) fn on_sent(&mut self, now: Duration, bytes: u64, in_flight: u64) -> SentState {
        self.pacer.on_sent(bytes);
        if let Some(controller) = &mut self.controller {
            controller.on_sent(now, bytes, in_flight + bytes);
        }
        self.sampler.on_sent(now, bytes, in_flight)
    }

    pub(super) fn on_acked(&mut self, now: Duration, sent: &Sent) {
        if let Some(state) = &sent.state {
            self.sampler.on_acked(now, sent.bytes.into(), state, sent.at);
        }
    }

    /// The ack is through.
    pub(super) fn on_ack(&mut self, now: Duration, ack: Acked) {
        let rate = self.sampler.sample(now, ack.rtt);
        let Some(controller) = &mut self.controller else { return };
        if ack.bytes > 0 || ack.ce {
            controller.on_ack(&AckSample {
                now,
                acked: ack.bytes,
                in_flight: ack.in_flight,
                rtt: ack.rtt,
                smoothed_rtt: ack.smoothed_rtt,
                rate,
                ce: ack.ce,
            });
        }
        self.set_rate();
    }

    pub(super) fn on_lost(&mut self, now: Duration, sent: &Sent, in_flight: u64) {
        if let Some(controller) = &mut self.controller {
            controller.on_lost(&LossSample {
                now,
                lost: sent.bytes.into(),
                in_flight,
                sent_at_loss: sent.at,
                prior_in_flight: sent.in_flight,
            });
        }
    }

    /// Nothing was heard for long, everything in flight is given up.
    pub(super) fn on_timeout(&mut self, now: Duration) {
        if let Some(controller) = &mut self.controller {
            controller.on_timeout(now);
        }
        self.set_rate();
    }

    /// There is nothing to send although it would be allowed.
    pub(super) fn on_nothing_to_send(&mut self, in_flight: u64) {
        self.sampler.set_app_limited(in_flight);
    }

    fn set_rate(&mut self) {
        let rate = self.rate();
        self.pacer.set_rate(rate);
    }
}

/// What one ack brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acked {
    pub(super) bytes: u64,
    pub(super) in_flight: u64,
    pub(super) rtt: Option<Duration>,
    pub(super) smoothed_rtt: Duration,
    pub(super) ce: bool,
}
