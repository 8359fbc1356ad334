//! When nothing is heard: probes, and in the end the retransmission timeout (RFC 9002 §6.2).

use std::time::Duration;

use super::flight::Flight;
use super::rtt::Rtt;

#[derive(Debug, Default)]
pub(super) struct Recovery {
    // Timeouts since the last sign of life, and when the last of them was.
    backoff: u32,
    fired_at: Duration,
    // When the packet left whose ack was waited for first.
    silent_since: Duration,
    // Everything in flight was given up since then.
    given_up: bool,
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
        if self.backoff == 0 {
            self.silent_since = flight.sent_at();
        }
        self.backoff = self.backoff.saturating_add(1);
        self.fired_at = now;
        if self.backoff > PROBES && now.saturating_sub(self.silent_since) >= PATIENCE {
            self.probes = 0;
            self.given_up = true;
            return Some(Timeout::GiveUp);
        }
        self.probes = 1;
        Some(Timeout::Probe)
    }

    /// Something of ours was acknowledged.
    pub(super) fn on_alive(&mut self) {
        self.backoff = 0;
        self.probes = 0;
        self.given_up = false;
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
        if self.given_up { WHILE_SILENT } else { u64::MAX }
    }
}

/// Probes before everything in flight is given up ...
const PROBES: u32 = 2;
/// ... and the least time: a peer that waits for its processor or disk is not gone.
const PATIENCE: Duration = Duration::from_millis(600);
const WHILE_SILENT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::flight::{Cargo, Sent};

    #[test]
    fn probes_come_first_and_give_up_comes_late_and_pauses_grow() {
        let (mut recovery, mut flight, mut rtt) = (Recovery::default(), Flight::new(), Rtt::default());
        rtt.update(Duration::from_micros(100), Duration::ZERO);
        assert_eq!(recovery.due(&flight, &rtt), None, "nothing is in flight");
        let start = Duration::from_secs(1);
        flight.on_sent(0, Sent { at: start, cargo: Cargo::Segment(0), bytes: 100, in_flight: 0, state: None });
        let (mut pauses, mut last) = (Vec::new(), start);
        loop {
            let due = recovery.due(&flight, &rtt).unwrap();
            pauses.push(due - last);
            last = due;
            assert_eq!(recovery.on_timeout(due - Duration::from_nanos(1), &flight, &rtt), None);
            match recovery.on_timeout(due, &flight, &rtt) {
                Some(Timeout::Probe) => assert!(recovery.wants_probe() && recovery.limit() == u64::MAX),
                _ => break,
            }
        }
        assert!(pauses.len() > 2 && pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
        assert!(last >= start + PATIENCE && recovery.limit() == WHILE_SILENT);
        recovery.on_alive();
        assert_eq!((recovery.limit(), recovery.wants_probe()), (u64::MAX, false));
    }
}
