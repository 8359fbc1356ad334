//! The sending half: which piece of the file goes next, when to repeat, how much the receiver takes.

use std::time::Duration;

use crate::wire::datagram::Ack;

use super::config::Config;
use super::event::Violation;
use super::go_back_n::GoBackNSender;
use super::policy::SendPolicy;
use super::rtt::Rtt;

#[derive(Debug)]
pub(super) struct Sender {
    pub(super) file: FileShape,
    policy: Box<dyn SendPolicy>,
    // One above the last segment that the receiver takes, and the packet that said so.
    peer_limit: u64,
    limit_packet: Option<u64>,
    // Runs while a segment is in flight.
    retransmit_at: Option<Duration>,
    // Timeouts since the last sign of life.
    backoff: u32,
}

impl Sender {
    pub(super) fn new(config: &Config, file: FileShape) -> Self {
        Self {
            file,
            policy: Box::new(GoBackNSender::new(config.window)),
            peer_limit: u64::MAX,
            limit_packet: None,
            retransmit_at: None,
            backoff: 0,
        }
    }

    /// The segment to send now, if any may be.
    pub(super) fn next_segment(&self) -> Option<u64> {
        self.policy.next(self.peer_limit.min(self.file.segments()))
    }

    /// `segment` leaves in `packet`. Returns whether it is a repeat.
    pub(super) fn on_sent(&mut self, now: Duration, segment: u64, packet: u64, rtt: &Rtt) -> bool {
        if self.retransmit_at.is_none() {
            self.retransmit_at = Some(now + rtt.timeout(self.backoff));
        }
        self.policy.on_sent(segment, packet)
    }

    /// Takes an ack; `alive` says whether it acknowledges a packet for the first time. Returns how many segments the
    /// cumulative ack moved.
    pub(super) fn on_ack(
        &mut self,
        now: Duration,
        ack: &Ack,
        alive: bool,
        largest_acked: u64,
        rtt: &Rtt,
    ) -> Result<u64, Violation> {
        let moved = self.policy.on_ack(ack, largest_acked)?;
        if alive || moved > 0 {
            self.backoff = 0;
        }
        if !self.policy.in_flight() {
            self.retransmit_at = None;
        } else if moved > 0 {
            self.retransmit_at = Some(now + rtt.timeout(0));
        }
        Ok(moved)
    }

    /// The receiver takes segments up to `limit`, exclusive; the newest packet's word counts.
    pub(super) fn on_window(&mut self, packet: u64, limit: u64) {
        if self.limit_packet.is_none_or(|newest| packet > newest) {
            self.limit_packet = Some(packet);
            self.peer_limit = limit;
        }
    }

    pub(super) fn retransmit_at(&self) -> Option<Duration> {
        self.retransmit_at
    }

    /// Goes back if the timer has run out; the next segment starts it again. Returns whether it had.
    pub(super) fn on_timeout(&mut self, now: Duration) -> bool {
        if self.retransmit_at.is_none_or(|at| at > now) {
            return false;
        }
        self.retransmit_at = None;
        self.backoff = self.backoff.saturating_add(1);
        self.policy.on_timeout();
        true
    }

    /// Every segment below this one is acknowledged.
    pub(super) fn cumulative(&self) -> u64 {
        self.policy.cumulative()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.policy.cumulative() >= self.file.segments()
    }
}

/// How a file is cut into segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileShape {
    bytes: u64,
    // At least 1.
    segment_size: u64,
}

impl FileShape {
    pub(super) fn new(bytes: u64, segment_size: usize) -> Self {
        Self { bytes, segment_size: u64::try_from(segment_size).unwrap_or(u64::MAX).max(1) }
    }

    pub(super) fn segments(&self) -> u64 {
        self.bytes.div_ceil(self.segment_size)
    }

    /// Byte offset of a segment within the file, or of its end.
    pub(super) fn offset(&self, segment: u64) -> u64 {
        segment.saturating_mul(self.segment_size).min(self.bytes)
    }

    /// Bytes in a segment; 0 beyond the end.
    pub(super) fn len(&self, segment: u64) -> usize {
        let len = self.offset(segment.saturating_add(1)) - self.offset(segment);
        usize::try_from(len).unwrap_or(0)
    }

    pub(super) fn is_last(&self, segment: u64) -> bool {
        segment.checked_add(1) == Some(self.segments())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_every_size_are_cut_without_loss() {
        for (bytes, segments, last) in [(0, 0, 0), (1, 1, 1), (999, 1, 999), (1000, 1, 1000), (1001, 2, 1)] {
            let file = FileShape::new(bytes, 1000);
            assert_eq!(file.segments(), segments);
            assert_eq!((0..segments).map(|s| file.len(s) as u64).sum::<u64>(), bytes);
            if segments > 0 {
                assert_eq!(file.len(segments - 1), last);
                assert!(file.is_last(segments - 1));
            }
            assert_eq!(file.len(segments), 0);
            assert_eq!(file.len(u64::MAX), 0);
            assert!(!file.is_last(u64::MAX));
        }
        let huge = FileShape::new(5 << 40, 1_153);
        assert_eq!(huge.offset(huge.segments()), 5 << 40);
        assert!(huge.offset(huge.segments() - 1) > u64::from(u32::MAX));
    }
}
