//! The receiving half: delivery in order, the window offered to the sender, and signs of life in silence.

use std::time::Duration;

use crate::wire::datagram::{Segment, SegmentRange};

use super::data::SegmentSink;
use super::event::Violation;
use super::go_back_n::GoBackNReceiver;
use super::policy::{Arrival, ReceivePolicy};
use super::rtt::Rtt;
use super::sender::FileShape;

#[derive(Debug)]
pub(super) struct Receiver {
    file: FileShape,
    policy: Box<dyn ReceivePolicy>,
    // Segments offered beyond the cumulative ack, and the highest end (exclusive) that we ever offered.
    window: u32,
    offered: u64,
    // In silence the last ack is repeated with a ping: it nominates the path, reopens a window, confirms the end.
    nudge_at: Option<Duration>,
    // Nudges since the peer was heard last.
    nudges: u32,
}

impl Receiver {
    pub(super) fn new(file: FileShape) -> Self {
        Self {
            file,
            policy: Box::new(GoBackNReceiver::default()),
            window: u32::MAX,
            offered: u64::from(u32::MAX),
            nudge_at: None,
            nudges: 0,
        }
    }

    /// Takes a segment. What lies beyond the offered window is dropped.
    pub(super) fn on_segment(
        &mut self,
        segment: &Segment<'_>,
        sink: &mut dyn SegmentSink,
    ) -> Result<Arrival, Violation> {
        let (file, number) = (self.file, segment.number);
        let fits =
            number < file.segments() && segment.bytes.len() == file.len(number) && segment.fin == file.is_last(number);
        if !fits {
            return Err(Violation::WrongSegment);
        }
        if number >= self.offered {
            return Ok(Arrival::OutOfOrder);
        }
        let arrival = self.policy.on_segment(number, segment.bytes, &mut |number, bytes| {
            sink.deliver(file.offset(number), bytes);
        });
        // Without a limit of its own the offer moves along with what has arrived.
        if self.window == u32::MAX {
            self.offered = self.cumulative().saturating_add(u64::from(u32::MAX));
        }
        Ok(arrival)
    }

    pub(super) fn set_window(&mut self, segments: u32) {
        self.window = segments;
    }

    /// The window to put beside an ack.
    pub(super) fn offer(&mut self) -> u32 {
        self.offered = self.offered_end(self.window);
        self.window
    }

    // A smaller window may cross segments under way: what was offered once stays accepted, unless nothing is.
    fn offered_end(&self, window: u32) -> u64 {
        let end = self.cumulative().saturating_add(u64::from(window));
        if window == 0 { end } else { end.max(self.offered) }
    }

    pub(super) fn cumulative(&self) -> u64 {
        self.policy.cumulative()
    }

    pub(super) fn ranges(&self) -> Vec<SegmentRange> {
        self.policy.ranges()
    }

    /// Bytes delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.file.offset(self.cumulative())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.cumulative() >= self.file.segments()
    }

    /// The peer was heard, or a path was found (`at_once`: it should hear of us now).
    pub(super) fn postpone_nudge(&mut self, now: Duration, at_once: bool, rtt: &Rtt) {
        self.nudges = 0;
        self.nudge_at = Some(if at_once { now } else { now + nudge_interval(rtt, 0) });
    }

    pub(super) fn nudge_at(&self) -> Option<Duration> {
        self.nudge_at
    }

    /// Whether the silence has lasted; if so the next nudge is set, further off.
    pub(super) fn take_nudge(&mut self, now: Duration, rtt: &Rtt) -> bool {
        if self.nudge_at.is_none_or(|at| at > now) {
            return false;
        }
        self.nudge_at = Some(now + nudge_interval(rtt, self.nudges));
        self.nudges = self.nudges.saturating_add(1);
        true
    }
}

fn nudge_interval(rtt: &Rtt, nudges: u32) -> Duration {
    rtt.timeout(nudges).clamp(MIN_NUDGE, MAX_NUDGE)
}

/// Longer than the sender's shortest timeout, which should be the first to act.
const MIN_NUDGE: Duration = Duration::from_millis(50);
const MAX_NUDGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn take(receiver: &mut Receiver, number: u64, got: &mut Vec<u8>) -> Result<Arrival, Violation> {
        receiver.on_segment(&Segment { number, fin: number == 9, bytes: &[number as u8; 10] }, got)
    }

    #[test]
    fn nothing_beyond_the_offered_window_is_taken() {
        let (mut receiver, mut got) = (Receiver::new(FileShape::new(100, 10)), Vec::new());
        assert_eq!(take(&mut receiver, 0, &mut got), Ok(Arrival::InOrder));
        receiver.set_window(2);
        assert_eq!(take(&mut receiver, 1, &mut got), Ok(Arrival::InOrder), "the smaller window is not offered yet");
        receiver.set_window(0);
        assert_eq!(receiver.offer(), 0);
        assert_eq!(take(&mut receiver, 2, &mut got), Ok(Arrival::OutOfOrder));
        receiver.set_window(1);
        assert_eq!(receiver.offer(), 1);
        assert_eq!(take(&mut receiver, 2, &mut got), Ok(Arrival::InOrder));
        assert_eq!(take(&mut receiver, 3, &mut got), Ok(Arrival::OutOfOrder));
        assert_eq!((got.len(), receiver.delivered()), (30, 30));
    }

    #[test]
    fn nudges_grow_apart_while_the_peer_is_silent() {
        let (mut receiver, rtt) = (Receiver::new(FileShape::new(100, 10)), Rtt::default());
        let mut now = Duration::from_secs(1);
        assert!(!receiver.take_nudge(now, &rtt), "there is no path yet");
        receiver.postpone_nudge(now, true, &rtt);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let due = receiver.nudge_at().unwrap();
            pauses.push(due - now);
            now = due;
            assert!(receiver.take_nudge(now, &rtt));
            assert!(!receiver.take_nudge(now, &rtt));
        }
        assert!(pauses.is_sorted() && *pauses.last().unwrap() <= MAX_NUDGE);
    }
}
