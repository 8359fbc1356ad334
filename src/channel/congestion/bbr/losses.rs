//! Which loss is congestion. A path that loses packets by itself (radio, a bad cable) does so also while we send slower
//! than it delivers; loss that is congestion's goes away then. So what is lost of the packets sent in slow phases is the
//! path's own share, and only loss well above it counts.

use std::time::Duration;

#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    datagram: u64,
    // The path's own: of earlier slow phases, older ones counting less, and of the latest.
    floor: Tally,
    slow: Span,
    // Packets of the phase that probes for more.
    probe: Span,
    round: Tally,
}

/// Bytes lost, and bytes of which the fate is known.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    lost: u64,
    total: u64,
}

/// The packets that were sent between two times.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    from: Option<Duration>,
    to: Option<Duration>,
    tally: Tally,
}

impl Losses {
    pub(super) fn new(datagram: u64) -> Self {
        Self { datagram, ..Self::default() }
    }

    pub(super) fn set_datagram(&mut self, datagram: u64) {
        self.datagram = datagram;
    }

    pub(super) fn on_lost(&mut self, sent_at: Duration, bytes: u64) {
        self.count(sent_at, Tally { lost: bytes, total: bytes });
    }

    pub(super) fn on_acked(&mut self, sent_at: Duration, bytes: u64) {
        self.count(sent_at, Tally { lost: 0, total: bytes });
    }

    fn count(&mut self, sent_at: Duration, tally: Tally) {
        self.round.add(tally);
        self.slow.count(sent_at, tally);
        self.probe.count(sent_at, tally);
    }

    /// From here on we send slower than the path delivers.
    pub(super) fn slow_from(&mut self, now: Duration) {
        self.floor = Tally { lost: self.floor.lost / 2, total: self.floor.total / 2 };
        self.floor.add(self.slow.tally);
        self.slow = Span::from(now);
    }

    pub(super) fn slow_until(&mut self, now: Duration) {
        self.slow.to.get_or_insert(now);
    }

    pub(super) fn probe_from(&mut self, now: Duration) {
        self.probe = Span::from(now);
    }

    pub(super) fn probe_until(&mut self, now: Duration) {
        self.probe.to.get_or_insert(now);
    }

    /// Whether more of the packets that probed are lost than the path explains.
    pub(super) fn probe_is_congested(&self) -> bool {
        self.is_excess(self.probe.tally)
    }

    /// Ends a round; returns whether more of it was lost than the path explains.
    pub(super) fn end_round(&mut self) -> bool {
        let round = std::mem::take(&mut self.round);
        self.is_excess(round)
    }

    /// The path's own loss, in parts of 10,000.
    pub(super) fn floor(&self) -> u64 {
        let mut floor = self.floor;
        floor.add(self.slow.tally);
        // The share is of no use before there are enough packets to tell.
        if floor.total < self.datagram.saturating_mul(20) {
            return 0;
        }
        floor.lost.saturating_mul(10_000) / floor.total.max(1)
    }

    fn is_excess(&self, tally: Tally) -> bool {
        let share = self.floor() * 3 / 2 + TOLERATED;
        let tolerated = tally.total.saturating_mul(share) / 10_000 + self.datagram * STRAY_PACKETS;
        tally.lost > tolerated
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.lost = self.lost.saturating_add(other.lost);
        self.total = self.total.saturating_add(other.total);
    }
}

impl Span {
    fn from(now: Duration) -> Self {
        Self { from: Some(now), to: None, tally: Tally::default() }
    }

    fn count(&mut self, sent_at: Duration, tally: Tally) {
        if self.from.is_some_and(|from| sent_at >= from) && self.to.is_none_or(|to| sent_at < to) {
            self.tally.add(tally);
        }
    }
}

/// Loss above the path's own that is no reason to slow down, in parts of 10,000 (draft-ietf-ccwg-bbr's BBR.LossThresh).
const TOLERATED: u64 = 200;
/// As many packets may be lost in any round, however short.
const STRAY_PACKETS: u64 = 3;
