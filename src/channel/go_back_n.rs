//! Go-Back-N: the receiver keeps only the segment that it waits for; the sender goes back to the first unacknowledged
//! one and repeats everything from there.

use crate::wire::datagram::{Ack, SegmentRange};

use super::event::Violation;
use super::policy::{Arrival, PACKET_THRESHOLD, ReceivePolicy, SendPolicy};

/// The sending half, with a fixed window.
#[derive(Debug)]
pub(super) struct GoBackNSender {
    // base <= next <= highest <= base + window, once on_ack has returned.
    base: u64,
    next: u64,
    highest: u64,
    // Slot s % window holds the packet that carried segment s last, for base <= s < highest. Its length is the window.
    packets: Vec<u64>,
    // After a timeout only a few segments go out until an ack shows that the path lives.
    probing: bool,
}

impl GoBackNSender {
    /// `window` is at least 1.
    pub(super) fn new(window: u32) -> Self {
        let slots = usize::try_from(window.max(1)).unwrap_or(1);
        Self { base: 0, next: 0, highest: 0, packets: vec![0; slots], probing: false }
    }

    fn window(&self) -> u64 {
        let window = self.packets.len() as u64;
        if self.probing { window.min(PROBE_WINDOW) } else { window }
    }

    fn slot(&mut self, segment: u64) -> Option<&mut u64> {
        let slots = self.packets.len() as u64;
        usize::try_from(segment % slots).ok().and_then(|slot| self.packets.get_mut(slot))
    }

    /// The base's last transmission is lost once enough newer packets are acknowledged. Going back sends it again
    /// under a newer number, so this happens once in a round trip at most.
    fn base_is_lost(&mut self, largest_acked: u64) -> bool {
        let (base, next) = (self.base, self.next);
        base < next && self.slot(base).is_some_and(|packet| largest_acked >= packet.saturating_add(PACKET_THRESHOLD))
    }
}

impl SendPolicy for GoBackNSender {
    fn next(&self, limit: u64) -> Option<u64> {
        let end = self.base.saturating_add(self.window()).min(limit);
        (self.next < end).then_some(self.next)
    }

    fn on_sent(&mut self, segment: u64, packet: u64) -> bool {
        if let Some(slot) = self.slot(segment) {
            *slot = packet;
        }
        let again = segment < self.highest;
        self.next = segment + 1;
        self.highest = self.highest.max(self.next);
        again
    }

    fn on_ack(&mut self, ack: &Ack, largest_acked: u64) -> Result<u64, Violation> {
        let claimed = ack.ranges.last().map_or(ack.cumulative, |range| range.end);
        if claimed > self.highest {
            return Err(Violation::AckOfUnsentSegment);
        }
        self.probing = false;
        let moved = ack.cumulative.saturating_sub(self.base);
        self.base += moved;
        self.next = self.next.max(self.base);
        if self.base_is_lost(largest_acked) {
            self.next = self.base;
        }
        Ok(moved)
    }

    fn on_timeout(&mut self) {
        self.next = self.base;
        self.probing = true;
    }

    fn cumulative(&self) -> u64 {
        self.base
    }

    fn in_flight(&self) -> bool {
        self.base < self.highest
    }
}

/// The receiving half: no buffer at all.
#[derive(Debug, Default)]
pub(super) struct GoBackNReceiver {
    expected: u64,
}

impl ReceivePolicy for GoBackNReceiver {
    fn on_segment(&mut self, number: u64, bytes: &[u8], deliver: &mut dyn FnMut(u64, &[u8])) -> Arrival {
        if number != self.expected {
            return Arrival::OutOfOrder;
        }
        self.expected += 1;
        deliver(number, bytes);
        Arrival::InOrder
    }

    fn cumulative(&self) -> u64 {
        self.expected
    }

    fn ranges(&self) -> Vec<SegmentRange> {
        Vec::new()
    }
}

/// Segments that a timeout lets out until the next ack, whatever the window.
const PROBE_WINDOW: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMIT: u64 = u64::MAX;

    fn ack(cumulative: u64) -> Ack {
        Ack { largest: 0, delay_micros: 0, cumulative, ranges: Vec::new() }
    }

    /// Sends all that the window lets out, from packet `first` on; returns the segments.
    fn send_all(sender: &mut GoBackNSender, first: u64, limit: u64) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(segment) = sender.next(limit) {
            sender.on_sent(segment, first + sent.len() as u64);
            sent.push(segment);
        }
        sent
    }

    #[test]
    fn the_window_and_the_limit_hold() {
        let mut sender = GoBackNSender::new(4);
        assert_eq!(send_all(&mut sender, 0, NO_LIMIT), [0, 1, 2, 3]);
        assert_eq!(sender.on_ack(&ack(2), 1), Ok(2));
        assert_eq!(send_all(&mut sender, 4, 5), [4]);
        assert_eq!(send_all(&mut sender, 5, NO_LIMIT), [5]);
    }

    #[test]
    fn three_newer_packets_send_it_back_once() {
        let mut sender = GoBackNSender::new(8);
        send_all(&mut sender, 0, NO_LIMIT);
        sender.on_ack(&ack(1), 0).unwrap();
        assert_eq!(send_all(&mut sender, 8, NO_LIMIT), [8]);
        sender.on_ack(&ack(1), 3).unwrap();
        assert_eq!(sender.next(NO_LIMIT), None, "packet 1 is two behind packet 3 only");
        sender.on_ack(&ack(1), 4).unwrap();
        assert_eq!(send_all(&mut sender, 9, NO_LIMIT), [1, 2, 3, 4, 5, 6, 7, 8]);
        for newer in 5..=8 {
            sender.on_ack(&ack(1), newer).unwrap();
            assert_eq!(sender.next(NO_LIMIT), None, "the same loss does not send it back twice");
        }
    }

    #[test]
    fn a_timeout_sends_it_back_and_an_ack_of_repeats_moves_it_on() {
        let mut sender = GoBackNSender::new(64);
        send_all(&mut sender, 0, 40);
        sender.on_timeout();
        assert_eq!(send_all(&mut sender, 40, 40).len() as u64, PROBE_WINDOW);
        assert_eq!(sender.on_ack(&ack(30), 30), Ok(30));
        assert_eq!(send_all(&mut sender, 60, 40), (30..40).collect::<Vec<_>>());
        assert!(sender.in_flight());
        assert_eq!(sender.on_ack(&ack(40), 69), Ok(10));
        assert!(!sender.in_flight());
    }

    #[test]
    fn acks_of_segments_never_sent_are_a_violation() {
        let mut sender = GoBackNSender::new(4);
        send_all(&mut sender, 0, NO_LIMIT);
        assert_eq!(sender.on_ack(&ack(5), 3), Err(Violation::AckOfUnsentSegment));
        let mut ranged = ack(1);
        ranged.ranges.push(SegmentRange { start: 3, end: 5 });
        assert_eq!(sender.on_ack(&ranged, 3), Err(Violation::AckOfUnsentSegment));
        assert_eq!(sender.cumulative(), 0);
    }

    #[test]
    fn the_receiver_keeps_only_what_it_waits_for() {
        let mut receiver = GoBackNReceiver::default();
        let mut got = Vec::new();
        for number in [1, 0, 0, 2, 1, 2] {
            receiver.on_segment(number, &[], &mut |n, _| got.push(n));
        }
        assert_eq!(got, [0, 1, 2]);
        assert_eq!(receiver.cumulative(), 3);
        assert!(receiver.ranges().is_empty());
    }
}
