//! Packet-number book-keeping: what to acknowledge, and which of our own packets were.

use std::collections::VecDeque;
use std::time::Duration;

use super::rtt::MAX_ACK_DELAY;

/// Decides when the peer's packets are acknowledged.
#[derive(Debug, Default)]
pub(super) struct AckState {
    // Number and arrival of the largest packet received.
    largest: Option<(u64, Duration)>,
    // Packets that asked for an ack since the last one left.
    waiting: u32,
    due: Option<Duration>,
}

impl AckState {
    /// An authentic packet arrived.
    pub(super) fn on_packet(&mut self, now: Duration, packet: u64) {
        if self.largest.is_none_or(|(largest, _)| packet > largest) {
            self.largest = Some((packet, now));
        }
    }

    /// The packet that just arrived wants an ack: at once, or with the next few.
    pub(super) fn request(&mut self, now: Duration, at_once: bool) {
        self.waiting += 1;
        let delayed = if at_once || self.waiting >= ACK_EVERY { now } else { now + MAX_ACK_DELAY };
        self.due = Some(self.due.map_or(delayed, |due| due.min(delayed)));
    }

    /// When an ack must leave.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The largest packet received and the microseconds since. The ack that says so settles every request.
    pub(super) fn take(&mut self, now: Duration) -> Option<(u64, u32)> {
        let (largest, arrived) = self.largest?;
        self.waiting = 0;
        self.due = None;
        let held = now.saturating_sub(arrived).as_micros();
        Some((largest, u32::try_from(held).unwrap_or(u32::MAX)))
    }
}

/// When our own ack-eliciting packets left. Bounded by [`MAX_TRACKED`]; the oldest are forgotten first and then give no
/// sample.
#[derive(Debug, Default)]
pub(super) struct SentPackets {
    // Ascending packet numbers.
    unacked: VecDeque<(u64, Duration)>,
    largest_acked: u64,
}

impl SentPackets {
    pub(super) fn on_sent(&mut self, now: Duration, packet: u64) {
        if self.unacked.len() >= MAX_TRACKED {
            self.unacked.pop_front();
        }
        self.unacked.push_back((packet, now));
    }

    /// Packet `largest` was acknowledged. Returns when it left if this ack is the first to say so; each packet is
    /// looked at once, so the work is bounded by what is in flight.
    pub(super) fn on_ack(&mut self, largest: u64) -> Option<Duration> {
        self.largest_acked = self.largest_acked.max(largest);
        let mut left = None;
        while let Some((packet, at)) = self.unacked.front().copied().filter(|(packet, _)| *packet <= largest) {
            self.unacked.pop_front();
            left = (packet == largest).then_some(at);
        }
        left
    }

    pub(super) fn largest_acked(&self) -> u64 {
        self.largest_acked
    }
}

/// An ack at least for every so many segments; the sender asks at once for one when its window is full.
const ACK_EVERY: u32 = 4;
const MAX_TRACKED: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn an_ack_waits_for_a_few_packets_or_a_little_while() {
        let mut acks = AckState::default();
        assert_eq!(acks.take(ms(0)), None);
        acks.on_packet(ms(1), 7);
        acks.request(ms(1), false);
        assert_eq!(acks.due(), Some(ms(1) + MAX_ACK_DELAY));
        for packet in 8..11 {
            acks.on_packet(ms(2), packet);
            acks.request(ms(2), false);
        }
        assert_eq!(acks.due(), Some(ms(2)));
        acks.on_packet(ms(3), 5);
        assert_eq!(acks.take(ms(4)), Some((10, 2000)));
        assert_eq!(acks.due(), None);
        acks.request(ms(5), true);
        assert_eq!(acks.due(), Some(ms(5)));
    }

    #[test]
    fn only_the_first_ack_of_a_packet_gives_its_time() {
        let mut sent = SentPackets::default();
        for packet in 0..5 {
            sent.on_sent(ms(packet), packet * 2);
        }
        assert_eq!(sent.on_ack(4), Some(ms(2)));
        assert_eq!(sent.on_ack(4), None);
        assert_eq!(sent.on_ack(2), None);
        assert_eq!(sent.on_ack(7), None);
        assert_eq!(sent.on_ack(8), Some(ms(4)));
        assert_eq!(sent.largest_acked(), 8);
    }

    #[test]
    fn memory_is_bounded_when_nothing_is_acknowledged() {
        let mut sent = SentPackets::default();
        for packet in 0..3 * MAX_TRACKED as u64 {
            sent.on_sent(ms(0), packet);
        }
        assert_eq!(sent.unacked.len(), MAX_TRACKED);
    }
}
