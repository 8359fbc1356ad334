//! When nothing is heard: probes, and in the end the retransmission timeout (RFC 9002 §6.2).

use std::time::Duration;

use super::flight::Flight;
use super::rtt::Rtt;

#[derive(Debug, Default)]
pub(super) struct Recovery {
    // Timeouts since the last sign of life, and when the last of them was.
    backoff: u32,
    fired_at: Duration,
    // Segments to send although no window allows them.
    probes: u32,
}

/// What a timeout asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timeout {
    /// A probe will leave.
    Probe,
    /// Everything in flight is to be given up.
    GiveUp,
}

impl Recovery {
    /// When [`Self::on_timeout`] will have something to do.
    pub(super) fn due(&self, flight: &Flight, rtt: &Rtt) -> Option<Duration> {
        let since = flight.sent_at().max(self.fired_at);
        (flight.segments() > 0).then(|| since + rtt.timeout(self.backoff))
    }

    pub(super) fn on_timeout(&mut self, now: Duration, flight: &Flight, rtt: &Rtt) -> Option<Timeout> {
        if self.due(flight, rtt).is_none_or(|due| due > now) {
            return None;
        }
        self.backoff = self.backoff.saturating_add(1);
        self.fired_at = now;
        if self.backoff > PROBES {
            self.probes = 0;
            return Some(Timeout::GiveUp);
        }
        self.probes = 1;
        Some(Timeout::Probe)
    }

    /// Something of ours was acknowledged.
    pub(super) fn on_alive(&mut self) {
        self.backoff = 0;
        self.probes = 0;
    }

    /// The peer was heard, though of nothing of ours: who backed off far tries again soon.
    pub(super) fn on_heard(&mut self) {
        self.backoff = self.backoff.min(PROBES);
    }

    /// Whether a segment leaves although no window allows it.
    pub(super) fn wants_probe(&self) -> bool {
        self.probes > 0
    }

    pub(super) fn on_probe(&mut self) {
        self.probes = self.probes.saturating_sub(1);
    }

    /// Segments that may be in flight, whatever the window: few while the path seems dead.
    pub(super) fn limit(&self) -> u64 {
        if self.backoff > PROBES { WHILE_SILENT } else { u64::MAX }
    }
}

/// Probes before everything in flight is given up.
const PROBES: u32 = 2;
const WHILE_SILENT: u64 = 2;
