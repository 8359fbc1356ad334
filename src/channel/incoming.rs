//! The peer's stream: what has arrived of it, in order or kept until the gap before it is filled.

use std::collections::VecDeque;

use super::config::MAX_WINDOW;
use super::data::StreamSink;
use super::event::Violation;
use super::outgoing::INITIAL_LIMIT;
use super::ranges::Ranges;
use crate::wire::datagram::{Segment, SegmentRange};
use crate::wire::packet::BASE_DATAGRAM;

/// How a segment arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The one that was waited for.
    InOrder,
    /// The same, and it filled a gap or ended the stream.
    Filled,
    /// Beyond a gap, a repeat, or more than we take: the sender should hear at once.
    OutOfOrder,
}

#[derive(Debug)]
pub(super) struct Incoming {
    // Every segment below was delivered, `offset` bytes in all.
    expected: u64,
    offset: u64,
    // One above the stream's last segment, once that has come.
    end: Option<u64>,
    // Whether what comes out of order is kept.
    keeps: bool,
    // Segments from `expected` on; the first is missing. Empty when nothing is kept.
    ring: VecDeque<Option<Vec<u8>>>,
    ranges: Ranges,
    // Buffers not in use. `reserved`: the capacity of these and of those in the ring, at most `capacity`.
    spare: Vec<Vec<u8>>,
    reserved: usize,
    capacity: usize,
    // The longest segment so far.
    longest: usize,
    // Segments that the driver takes beyond those delivered.
    window: u32,
    // What we offer now, and the most that we ever offered: ends, exclusive.
    offered: u64,
    most_offered: u64,
}

impl Incoming {
    pub(super) fn new(keeps: bool, capacity: u64) -> Self {
        Self {
            expected: 0,
            offset: 0,
            end: None,
            keeps,
            ring: VecDeque::new(),
            ranges: Ranges::default(),
            spare: Vec::new(),
            reserved: 0,
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            longest: BASE_DATAGRAM,
            window: MAX_WINDOW,
            offered: INITIAL_LIMIT.into(),
            most_offered: INITIAL_LIMIT.into(),
        }
    }

    /// Takes a segment; what can be delivered now goes to `sink`.
    pub(super) fn on_segment(
        &mut self,
        segment: &Segment<'_>,
        sink: &mut dyn StreamSink,
    ) -> Result<Arrival, Violation> {
        self.check(segment)?;
        let number = segment.number;
        if number < self.expected || number >= self.offered {
            return Ok(Arrival::OutOfOrder);
        }
        if segment.fin {
            self.end = Some(number + 1);
        }
        self.longest = self.longest.max(segment.bytes.len());
        if number > self.expected {
            self.keep(number, segment.bytes);
            return Ok(Arrival::OutOfOrder);
        }
        self.deliver(segment.bytes, sink);
        if self.ring.is_empty() {
            return Ok(if segment.fin { Arrival::Filled } else { Arrival::InOrder });
        }
        self.ring.pop_front();
        while let Some(Some(bytes)) = self.ring.front_mut().map(Option::take) {
            self.ring.pop_front();
            self.deliver(&bytes, sink);
            self.spare.push(bytes);
        }
        self.ranges.remove_below(self.expected);
        if self.ranges.is_empty() {
            self.ring.clear();
        }
        Ok(Arrival::Filled)
    }

    /// What no honest sender does: beyond what we ever offered, empty, or contrary to the end that it told.
    fn check(&self, segment: &Segment<'_>) -> Result<(), Violation> {
        let number = segment.number;
        let last = number.checked_add(1);
        let beyond = number >= self.most_offered || self.end.is_some_and(|end| number >= end);
        let ends_wrongly = segment.fin
            && (self.end.is_some_and(|end| last != Some(end))
                || self.ranges.newest().is_some_and(|newest| number < newest)
                || (self.end.is_none() && number < self.expected));
        let unending = !segment.fin && self.end.is_some_and(|end| last == Some(end));
        if beyond || ends_wrongly || unending || (segment.bytes.is_empty() && !segment.fin) {
            return Err(Violation::WrongSegment);
        }
        Ok(())
    }

    fn deliver(&mut self, bytes: &[u8], sink: &mut dyn StreamSink) {
        if !bytes.is_empty() {
            sink.deliver(self.offset, bytes);
        }
        self.expected += 1;
        self.offset += bytes.len() as u64;
    }

    /// Keeps a segment beyond a gap, if there is room.
    fn keep(&mut self, number: u64, bytes: &[u8]) {
        let Ok(index) = usize::try_from(number - self.expected) else { return };
        if !self.keeps || index >= MAX_WINDOW as usize || matches!(self.ring.get(index), Some(Some(_))) {
            return;
        }
        let Some(mut buffer) = self.buffer(bytes.len()) else { return };
        buffer.extend_from_slice(bytes);
        if self.ring.len() <= index {
            self.ring.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.ring.get_mut(index) {
            *slot = Some(buffer);
            self.ranges.insert(number);
        }
    }

    /// An empty buffer for `len` bytes.
    fn buffer(&mut self, len: usize) -> Option<Vec<u8>> {
        while let Some(mut buffer) = self.spare.pop() {
            if buffer.capacity() >= len {
                buffer.clear();
                return Some(buffer);
            }
            self.reserved = self.reserved.saturating_sub(buffer.capacity());
        }
        if self.reserved.saturating_add(len) > self.capacity {
            return None;
        }
        // Of the size that most will have, so that it serves again.
        let buffer = Vec::with_capacity(self.longest.min(self.capacity - self.reserved).max(len));
        self.reserved += buffer.capacity();
        Some(buffer)
    }

    pub(super) fn set_window(&mut self, segments: u32) {
        self.window = segments;
    }

    /// The window to put beside an ack: what the driver takes and the ring has room for.
    pub(super) fn offer(&mut self) -> u32 {
        let fits = u32::try_from(self.capacity / self.longest).unwrap_or(u32::MAX).max(1);
        let segments = self.window.min(MAX_WINDOW).min(fits);
        let end = self.expected.saturating_add(segments.into());
        // A smaller window may cross segments under way: what was offered once stays accepted, unless nothing is.
        self.offered = if segments == 0 { end } else { end.max(self.offered) };
        self.most_offered = self.most_offered.max(self.offered);
        segments
    }

    /// Every segment below this one has arrived.
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// Bytes delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.offset
    }

    /// Segments beyond the first gap that are kept, as many as an ack takes.
    pub(super) fn ranges(&mut self) -> Vec<SegmentRange> {
        self.ranges.report()
    }

    /// Whether everything was delivered, the end too.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.expected >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(incoming: &mut Incoming, number: u64, fin: bool, got: &mut Vec<u8>) -> Result<Arrival, Violation> {
        let bytes = vec![number as u8; 10 + number as usize % 3];
        incoming.on_segment(&Segment { number, fin, ask: false, bytes: &bytes }, got)
    }

    fn all(numbers: std::ops::Range<u64>) -> Vec<u8> {
        numbers.flat_map(|number| vec![number as u8; 10 + number as usize % 3]).collect()
    }

    #[test]
    fn what_comes_early_is_kept_and_delivered_in_order() {
        let (mut incoming, mut got) = (Incoming::new(true, 1 << 20), Vec::new());
        for number in [1, 3, 3, 4] {
            assert_eq!(take(&mut incoming, number, false, &mut got), Ok(Arrival::OutOfOrder));
        }
        let ranges = [SegmentRange { start: 1, end: 2 }, SegmentRange { start: 3, end: 5 }];
        assert_eq!(incoming.ranges(), ranges);
        assert_eq!(take(&mut incoming, 0, false, &mut got), Ok(Arrival::Filled));
        assert_eq!((got.clone(), incoming.ranges()), (all(0..2), ranges[1..].to_vec()));
        assert_eq!(take(&mut incoming, 5, true, &mut got), Ok(Arrival::OutOfOrder));
        assert!(!incoming.is_complete());
        assert_eq!(take(&mut incoming, 2, false, &mut got), Ok(Arrival::Filled));
        assert!(incoming.is_complete());
        assert_eq!((got, incoming.delivered()), (all(0..6), all(0..6).len() as u64));
        assert!(incoming.ranges().is_empty() && incoming.ring.is_empty());
    }

    #[test]
    fn go_back_n_keeps_only_what_it_waits_for() {
        let (mut incoming, mut got) = (Incoming::new(false, 1 << 20), Vec::new());
        for number in [1, 0, 0, 2, 1, 2] {
            take(&mut incoming, number, false, &mut got).unwrap();
        }
        assert_eq!((got, incoming.expected()), (all(0..3), 3));
        assert!(incoming.ranges().is_empty());
    }

    #[test]
    fn a_full_buffer_drops_what_is_early_and_goes_on() {
        let (mut incoming, mut got) = (Incoming::new(true, 3_000), Vec::new());
        for _ in 0..3 {
            let next = incoming.expected();
            for number in next + 1..next + 500 {
                take(&mut incoming, number, false, &mut got).unwrap();
            }
            assert!(incoming.reserved <= 3_000);
            assert_eq!(take(&mut incoming, next, false, &mut got), Ok(Arrival::Filled));
            assert!(incoming.expected() > next + 1);
        }
        assert_eq!(got, all(0..incoming.expected()));
    }

    #[test]
    fn nothing_beyond_the_offered_window_is_taken() {
        let (mut incoming, mut got) = (Incoming::new(true, 1 << 20), Vec::new());
        incoming.set_window(2);
        assert_eq!(
            take(&mut incoming, 0, false, &mut got),
            Ok(Arrival::InOrder),
            "the smaller window is not offered yet"
        );
        incoming.set_window(0);
        assert_eq!(incoming.offer(), 0);
        assert_eq!(take(&mut incoming, 1, false, &mut got), Ok(Arrival::OutOfOrder));
        assert_eq!(incoming.expected(), 1);
        incoming.set_window(1);
        assert_eq!(incoming.offer(), 1);
        assert_eq!(take(&mut incoming, 1, false, &mut got), Ok(Arrival::InOrder));
        assert_eq!(take(&mut incoming, 2, false, &mut got), Ok(Arrival::OutOfOrder));
        assert_eq!(got, all(0..2));
    }

    #[test]
    fn a_stream_that_contradicts_itself_is_refused() {
        let wrong = Err(Violation::WrongSegment);
        let (mut incoming, mut got) = (Incoming::new(true, 1 << 20), Vec::new());
        assert_eq!(take(&mut incoming, u64::from(INITIAL_LIMIT), false, &mut got), wrong);
        assert_eq!(take(&mut incoming, u64::MAX, true, &mut got), wrong);
        let empty = Segment { number: 0, fin: false, ask: false, bytes: &[] };
        assert_eq!(incoming.on_segment(&empty, &mut got), wrong);
        take(&mut incoming, 0, false, &mut got).unwrap();
        take(&mut incoming, 9, false, &mut got).unwrap();
        assert_eq!(take(&mut incoming, 8, true, &mut got), wrong, "it ends before what came");
        assert_eq!(take(&mut incoming, 0, true, &mut got), wrong);
        take(&mut incoming, 20, true, &mut got).unwrap();
        assert_eq!(take(&mut incoming, 21, false, &mut got), wrong);
        assert_eq!(take(&mut incoming, 19, true, &mut got), wrong);
        assert_eq!(take(&mut incoming, 20, false, &mut got), wrong);
        assert_eq!(take(&mut incoming, 20, true, &mut got), Ok(Arrival::OutOfOrder));
    }
}
