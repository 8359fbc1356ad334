//! Which packets of the peer to acknowledge, and when.

use std::time::Duration;

/// Decides when the peer's packets are acknowledged.
#[derive(Debug, Default)]
pub(super) struct AckState {
    // Number and arrival of the largest packet received.
    largest: Option<(u64, Duration)>,
    // Segments and bytes of them since the last ack left, and when the first came.
    segments: u32,
    bytes: usize,
    since: Option<Duration>,
    // Something came that the peer should hear of now.
    urgent: bool,
    due: Option<Duration>,
    // Datagrams that met congestion.
    ce: u32,
}

impl AckState {
    /// An authentic packet arrived.
    pub(super) fn on_packet(&mut self, now: Duration, packet: u64, ecn_ce: bool) {
        if self.largest.is_none_or(|(largest, _)| packet > largest) {
            self.largest = Some((packet, now));
        }
        if ecn_ce {
            self.ce = self.ce.wrapping_add(1);
            self.urgent = true;
        }
    }

    /// It carried a segment of `bytes` bytes that came in order.
    pub(super) fn on_segment(&mut self, now: Duration, bytes: usize) {
        self.segments = self.segments.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.since.get_or_insert(now);
    }

    /// The peer should hear at the end of this batch.
    pub(super) fn request(&mut self) {
        self.urgent = true;
    }

    /// The datagrams that came together are through: one ack for all of them, at once or after `delay`.
    pub(super) fn end_of_batch(&mut self, now: Duration, delay: Duration) {
        let many = self.segments >= ACK_SEGMENTS || (self.segments > 1 && self.bytes >= ACK_BYTES);
        if self.urgent || many {
            self.due = Some(now);
        } else if let Some(since) = self.since {
            self.due.get_or_insert(since + delay);
        }
    }

    /// When an ack must leave.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The largest packet received and the microseconds since. The ack that says so settles every request.
    pub(super) fn take(&mut self, now: Duration) -> Option<(u64, u32)> {
        let (largest, arrived) = self.largest?;
        *self = Self { largest: self.largest, ce: self.ce, ..Self::default() };
        let held = now.saturating_sub(arrived).as_micros();
        Some((largest, u32::try_from(held).unwrap_or(u32::MAX)))
    }

    /// Datagrams that met congestion so far.
    pub(super) fn ce(&self) -> u32 {
        self.ce
    }
}

/// An ack at least for every so many segments, if they make a good part of a receive batch ...
const ACK_SEGMENTS: u32 = 32;
/// ... or for so many bytes.
const ACK_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = ms(1);

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn an_ack_waits_for_many_segments_or_a_little_while() {
        let mut acks = AckState::default();
        assert_eq!(acks.take(ms(0)), None);
        acks.on_packet(ms(1), 7, false);
        acks.on_segment(ms(1), 1_400);
        acks.end_of_batch(ms(1), DELAY);
        assert_eq!(acks.due(), Some(ms(2)));
        for packet in 8..8 + u64::from(ACK_SEGMENTS) {
            acks.on_packet(ms(2), packet, false);
            acks.on_segment(ms(2), 1_400);
        }
        acks.on_packet(ms(3), 5, false);
        assert_eq!(acks.due(), Some(ms(2)), "a batch that is not through decides nothing");
        acks.end_of_batch(ms(2), DELAY);
        assert_eq!(acks.due(), Some(ms(2)));
        assert_eq!(acks.take(ms(4)), Some((7 + u64::from(ACK_SEGMENTS), 2000)));
        assert_eq!(acks.due(), None);
        acks.end_of_batch(ms(5), DELAY);
        assert_eq!(acks.due(), None, "nothing is owed");
        acks.request();
        acks.end_of_batch(ms(5), DELAY);
        assert_eq!(acks.due(), Some(ms(5)));
    }

    #[test]
    fn a_few_large_segments_are_many_bytes() {
        let mut acks = AckState::default();
        for packet in 0..2 {
            acks.on_packet(ms(1), packet, packet == 1);
            acks.on_segment(ms(1), 65_000);
        }
        acks.on_segment(ms(1), 65_000);
        acks.end_of_batch(ms(1), DELAY);
        assert_eq!((acks.due(), acks.ce()), (Some(ms(1)), 1));
    }
}
