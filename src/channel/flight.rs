//! The packets that we sent and have not settled: which arrived, which are lost (RFC 9002 §6).
//!
//! An ack names the largest packet that arrived, and segments; what else arrived follows from the segments, of which
//! each remembers the packet that carried it last.

use std::collections::VecDeque;
use std::time::Duration;

use super::congestion::SentState;
use super::rtt::Rtt;

/// What a packet carried, as far as it matters when it is acknowledged or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cargo {
    /// Nothing that asks for an ack, or it is settled.
    Settled,
    /// A number that was passed over: whoever acknowledges it guesses.
    Skipped,
    /// Something that asks for an ack and is repeated, if at all, by its own timer.
    Ping,
    /// A segment.
    Segment(u64),
}

/// One packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Duration,
    pub(super) cargo: Cargo,
    /// Bytes of the datagram; 0 once another path is in use.
    pub(super) bytes: u32,
    /// Bytes in flight after it left.
    pub(super) in_flight: u64,
    /// Of a segment, for the delivery rate.
    pub(super) state: Option<SentState>,
}

impl Sent {
    /// Whether it left for the path that is in use.
    pub(super) fn is_of_path(&self) -> bool {
        self.bytes > 0
    }
}

/// The packets from the oldest that matters up to the newest.
#[derive(Debug)]
pub(super) struct Flight {
    // Packet number of the front.
    first: u64,
    // Consecutive numbers; at most MAX_TRACKED.
    packets: VecDeque<Sent>,
    // Bytes and number of packets with segments that are neither acknowledged nor lost.
    in_flight: u64,
    segments: u64,
    largest_acked: Option<u64>,
    // When the newest packet with a segment left.
    sent_at: Duration,
    // A packet counts as lost when one numbered so much higher was acknowledged. Grows on a path that reorders.
    threshold: u64,
    // When the oldest packet will count as lost by time.
    loss_at: Option<Duration>,
    // How long packets of the path before may be under way.
    patience: Duration,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            first: 0,
            packets: VecDeque::new(),
            in_flight: 0,
            segments: 0,
            largest_acked: None,
            sent_at: Duration::ZERO,
            threshold: PACKET_THRESHOLD,
            loss_at: None,
            patience: Duration::ZERO,
        }
    }

    /// Another path is in use: what is under way still counts when it arrives, but fills no window and measures nothing, and is lost
    /// `patience` after it left, however many packets overtake it on the new path.
    pub(super) fn leave_path(&mut self, patience: Duration) {
        self.packets.iter_mut().for_each(|packet| (packet.bytes, packet.state) = (0, None));
        self.in_flight = 0;
        self.patience = patience;
    }

    /// Bytes in flight.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Segments in flight.
    pub(super) fn segments(&self) -> u64 {
        self.segments
    }

    /// When the newest packet with a segment left.
    pub(super) fn sent_at(&self) -> Duration {
        self.sent_at
    }

    /// When [`Self::next_lost`] will find something without another ack.
    pub(super) fn loss_at(&self) -> Option<Duration> {
        self.loss_at
    }

    /// Packet `number`, one above the one before, leaves.
    pub(super) fn on_sent(&mut self, number: u64, mut sent: Sent) {
        self.forget_settled();
        if self.packets.is_empty() {
            self.first = number;
        } else if self.packets.len() >= MAX_TRACKED {
            // Only pings and acks can come to so many: segments in flight are fewer.
            self.settle(self.first);
            self.packets.pop_front();
            self.first += 1;
        }
        if let Cargo::Segment(_) = sent.cargo {
            self.in_flight += u64::from(sent.bytes);
            self.segments += 1;
            self.sent_at = sent.at;
        }
        sent.in_flight = self.in_flight;
        self.packets.push_back(sent);
    }

    /// The peer names `number` as its largest packet. Returns the packet if it is the first time and asked for an ack.
    pub(super) fn on_largest(&mut self, number: u64) -> Option<Sent> {
        if self.largest_acked.is_some_and(|largest| largest >= number) {
            return None;
        }
        self.largest_acked = Some(number);
        let packet = self.get_mut(number)?;
        let sent = *packet;
        if packet.cargo == Cargo::Ping {
            packet.cargo = Cargo::Settled;
        }
        (sent.cargo != Cargo::Settled).then_some(sent)
    }

    /// Takes the packet out of the flight: acknowledged, or of no interest any more. Returns it if it carried a segment
    /// and was in flight until now.
    pub(super) fn settle(&mut self, number: u64) -> Option<Sent> {
        let packet = self.get_mut(number)?;
        let sent = *packet;
        packet.cargo = Cargo::Settled;
        if !matches!(sent.cargo, Cargo::Segment(_)) {
            return None;
        }
        self.in_flight = self.in_flight.saturating_sub(u64::from(sent.bytes));
        self.segments = self.segments.saturating_sub(1);
        Some(sent)
    }

    /// Takes out the next packet with a segment that is lost by now, oldest first: enough newer ones have arrived, or
    /// one has and 9/8 of a round trip have passed. Call it until there is none; each packet is looked at once.
    pub(super) fn next_lost(&mut self, now: Duration, rtt: &Rtt) -> Option<(u64, Sent)> {
        self.loss_at = None;
        let delay = rtt.loss_delay();
        loop {
            let packet = *self.packets.front()?;
            let number = self.first;
            let (due, overtaken) = if packet.is_of_path() {
                let largest = self.largest_acked.filter(|largest| number < *largest)?;
                (packet.at + delay, number.saturating_add(self.threshold) <= largest)
            } else {
                (packet.at + self.patience, false)
            };
            let lost = overtaken || due <= now;
            if !lost && matches!(packet.cargo, Cargo::Segment(_)) {
                self.loss_at = Some(due);
                return None;
            }
            let segment = self.settle(number);
            self.packets.pop_front();
            self.first += 1;
            if let Some(sent) = segment {
                return Some((number, sent));
            }
        }
    }

    /// Takes out the oldest packet with a segment, whatever is known of it: nothing was heard for too long.
    pub(super) fn next_given_up(&mut self) -> Option<(u64, Sent)> {
        self.loss_at = None;
        while !self.packets.is_empty() && self.segments > 0 {
            let (number, segment) = (self.first, self.settle(self.first));
            self.packets.pop_front();
            self.first += 1;
            if let Some(sent) = segment {
                return Some((number, sent));
            }
        }
        None
    }

    /// A packet taken for lost has arrived, when the largest acknowledged one was `distance` ahead.
    pub(super) fn on_spurious(&mut self, distance: u64) {
        self.threshold = self.threshold.max(distance.saturating_add(1)).min(MAX_THRESHOLD);
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Sent> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.packets.get_mut(index)
    }

    fn forget_settled(&mut self) {
        while self.packets.front().is_some_and(|packet| packet.cargo == Cargo::Settled) {
            self.packets.pop_front();
            self.first += 1;
        }
    }
}

/// RFC 9002 §6.1.1.
const PACKET_THRESHOLD: u64 = 3;
/// Beyond it a reordering path is left to the time threshold.
const MAX_THRESHOLD: u64 = 512;
const MAX_TRACKED: usize = 2 * super::config::MAX_WINDOW as usize;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn packet(at: Duration, cargo: Cargo) -> Sent {
        Sent { at, cargo, bytes: 100, in_flight: 0, state: None }
    }

    fn with_segments(count: u64) -> (Flight, Rtt) {
        let (mut flight, mut rtt) = (Flight::new(), Rtt::default());
        rtt.update(ms(80), Duration::ZERO);
        for number in 0..count {
            flight.on_sent(number, packet(ms(number), Cargo::Segment(number)));
        }
        (flight, rtt)
    }

    fn lost(flight: &mut Flight, now: Duration, rtt: &Rtt) -> Vec<u64> {
        std::iter::from_fn(|| flight.next_lost(now, rtt)).map(|(number, _)| number).collect()
    }

    #[test]
    fn three_newer_packets_or_time_tell_a_loss() {
        let (mut flight, rtt) = with_segments(10);
        assert!(lost(&mut flight, ms(1_000), &rtt).is_empty(), "nothing newer has arrived");
        assert!(flight.on_largest(5).is_some() && flight.on_largest(5).is_none() && flight.on_largest(4).is_none());
        flight.settle(5);
        assert_eq!(lost(&mut flight, ms(80), &rtt), [0, 1, 2]);
        assert_eq!(flight.loss_at(), Some(ms(3) + ms(90)));
        assert_eq!(lost(&mut flight, ms(93), &rtt), [3]);
        assert_eq!((flight.segments(), flight.in_flight()), (5, 500));
        assert_eq!(lost(&mut flight, ms(94), &rtt), [4]);
        assert_eq!((flight.loss_at(), flight.segments()), (None, 4));
        let given_up: Vec<u64> = std::iter::from_fn(|| flight.next_given_up()).map(|(number, _)| number).collect();
        assert_eq!((given_up, flight.in_flight()), (vec![6, 7, 8, 9], 0));
    }

    #[test]
    fn a_path_that_reorders_gets_more_patience() {
        let (mut flight, rtt) = with_segments(20);
        flight.on_spurious(6);
        flight.on_largest(9);
        assert_eq!(lost(&mut flight, ms(9), &rtt), [0, 1, 2]);
    }

    #[test]
    fn memory_is_bounded_when_nothing_is_acknowledged() {
        let (mut flight, _) = with_segments(1);
        for number in 1..3 * MAX_TRACKED as u64 {
            flight.on_sent(number, packet(ms(0), Cargo::Ping));
        }
        assert!(flight.packets.len() <= MAX_TRACKED && flight.segments() == 0);
    }
}
