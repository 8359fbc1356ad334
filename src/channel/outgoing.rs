//! Our stream: how it was cut into segments, which of them arrived, which goes next.

use std::collections::VecDeque;

use super::config::{Arq, MAX_WINDOW};
use super::event::Violation;
use super::go_back_n::GoBackN;
use super::selective_repeat::SelectiveRepeat;
use crate::wire::datagram::Ack;

/// A segment as it was first sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Where it begins in the stream.
    pub(super) offset: u64,
    pub(super) len: u16,
    pub(super) fin: bool,
    /// It was taken for lost, or is to be sent again although nobody knows (Go-Back-N).
    pub(super) repeat: bool,
    /// It was taken for lost at least once.
    pub(super) lost: bool,
    /// The packets that carried it first and last.
    pub(super) first_packet: u64,
    pub(super) packet: u64,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    // Bytes [0, end) of the stream exist; `finished`: and no more will come.
    end: u64,
    finished: bool,
    // Number and offset of the next new segment; `fin_sent`: there is none.
    next: u64,
    next_offset: u64,
    fin_sent: bool,
    // Every segment below is acknowledged. base <= next <= base + MAX_WINDOW.
    base: u64,
    // Segments from base up to next.
    segments: VecDeque<Segment>,
    // Bit n % MAX_WINDOW stands for segment n of these and says that it is acknowledged.
    acked: Box<[u64; WORDS]>,
    // Bytes below which everything is acknowledged.
    acked_bytes: u64,
    repeats: Repeats,
    // What `repeats` said last.
    next_repeat: Option<u64>,
    // What the receiver takes: one above the last segment, and the packet that said so.
    limit: u64,
    limit_packet: Option<u64>,
}

/// What goes out again after a loss.
#[derive(Debug)]
enum Repeats {
    GoBackN(GoBackN),
    Selective(SelectiveRepeat),
}

impl Outgoing {
    pub(super) fn new(arq: Arq) -> Self {
        let repeats = match arq {
            Arq::GoBackN => Repeats::GoBackN(GoBackN::default()),
            Arq::Auto | Arq::SelectiveRepeat => Repeats::Selective(SelectiveRepeat::default()),
        };
        Self {
            end: 0,
            finished: false,
            next: 0,
            next_offset: 0,
            fin_sent: false,
            base: 0,
            segments: VecDeque::new(),
            acked: Box::new([0; WORDS]),
            acked_bytes: 0,
            repeats,
            next_repeat: None,
            limit: u64::from(INITIAL_LIMIT),
            limit_packet: None,
        }
    }

    /// Bytes up to `end` exist. Never less than before, nothing after the stream's end.
    pub(super) fn set_end(&mut self, end: u64) {
        if !self.finished {
            self.end = self.end.max(end);
        }
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    pub(super) fn acked_bytes(&self) -> u64 {
        self.acked_bytes
    }

    /// The first segment that is not acknowledged.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether everything was sent and acknowledged, the end too.
    pub(super) fn is_complete(&self) -> bool {
        self.fin_sent && self.base == self.next
    }

    /// Whether all that exists so far was sent and acknowledged.
    pub(super) fn is_taken(&self) -> bool {
        self.base == self.next && !self.has_new()
    }

    /// Whether everything was sent once, the end too.
    pub(super) fn is_all_sent(&self) -> bool {
        self.fin_sent
    }

    /// Whether bytes, or the end, were never sent.
    pub(super) fn has_new(&self) -> bool {
        !self.fin_sent && (self.next_offset < self.end || self.finished)
    }

    /// How many new segments the receiver and a window of `window` segments take.
    pub(super) fn room(&self, window: u32) -> u64 {
        let window = u64::from(window.min(MAX_WINDOW));
        self.limit.min(self.base.saturating_add(window)).saturating_sub(self.next)
    }

    pub(super) fn get(&self, number: u64) -> Option<Segment> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.segments.get(index).copied()
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Segment> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.segments.get_mut(index)
    }

    /// Whether segment `number` has arrived, as far as we know.
    pub(super) fn is_acked(&self, number: u64) -> bool {
        number < self.base || (number < self.next && self.word(number) & bit(number) != 0)
    }

    /// Whether some segment waits to be sent again.
    pub(super) fn has_repeat(&mut self) -> bool {
        let (base, next) = (self.base, self.next);
        let (segments, acked) = (&self.segments, &self.acked);
        let next_repeat = match &mut self.repeats {
            Repeats::GoBackN(scheme) => scheme.next(base, next),
            Repeats::Selective(scheme) => scheme.next(|number| {
                let index = number.checked_sub(base).and_then(|index| usize::try_from(index).ok());
                let waits = index.and_then(|index| segments.get(index)).is_some_and(|segment| segment.repeat);
                waits && acked[slot(number)] & bit(number) == 0
            }),
        };
        self.next_repeat = next_repeat;
        next_repeat.is_some()
    }

    /// The segment to send again now, if any; it does not wait any more.
    pub(super) fn take_repeat(&mut self) -> Option<(u64, Segment)> {
        if !self.has_repeat() {
            return None;
        }
        let number = self.next_repeat?;
        match &mut self.repeats {
            Repeats::GoBackN(scheme) => scheme.take(number),
            Repeats::Selective(scheme) => scheme.take(),
        }
        let segment = self.get_mut(number)?;
        segment.repeat = false;
        Some((number, *segment))
    }

    /// What [`Self::take_repeat`] gave could not be read yet. Of several the last comes first.
    pub(super) fn put_back(&mut self, number: u64) {
        if let Some(segment) = self.get_mut(number) {
            segment.repeat = true;
        }
        match &mut self.repeats {
            Repeats::GoBackN(scheme) => scheme.put_back(number),
            Repeats::Selective(scheme) => scheme.put_back(number),
        }
    }

    /// Segment `number` leaves again, in `packet`.
    pub(super) fn on_repeated(&mut self, number: u64, packet: u64) {
        if let Some(segment) = self.get_mut(number) {
            segment.packet = packet;
            segment.repeat = false;
        }
    }

    /// The new segment of up to `size` bytes that begins at `offset`. `None` if nothing is left.
    pub(super) fn new_segment(&self, offset: u64, size: usize) -> Option<Segment> {
        let left = self.end.checked_sub(offset)?;
        if self.fin_sent || (left == 0 && !self.finished) {
            return None;
        }
        let len = u16::try_from(left.min(size as u64)).unwrap_or(u16::MAX);
        let fin = self.finished && left == u64::from(len);
        Some(Segment { offset, len, fin, repeat: false, lost: false, first_packet: 0, packet: 0 })
    }

    /// A new segment leaves in `packet`, numbered [`Self::next`].
    pub(super) fn push_new(&mut self, segment: Segment, packet: u64) {
        let number = self.next;
        self.acked[slot(number)] &= !bit(number);
        self.segments.push_back(Segment { first_packet: packet, packet, ..segment });
        self.next += 1;
        self.next_offset = segment.offset + u64::from(segment.len);
        self.fin_sent = segment.fin;
    }

    /// Where the next new segment begins.
    pub(super) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Bytes that were never sent.
    pub(super) fn backlog(&self) -> u64 {
        self.end.saturating_sub(self.next_offset)
    }

    /// A transmission of `number` is lost. For Go-Back-N everything behind it is to be sent again too: `dropped` is told
    /// the packets that carried it.
    pub(super) fn on_lost(&mut self, number: u64, dropped: &mut dyn FnMut(u64)) {
        if self.is_acked(number) {
            return;
        }
        let Some(segment) = self.get_mut(number) else { return };
        segment.lost = true;
        if std::mem::replace(&mut segment.repeat, true) {
            return;
        }
        match &mut self.repeats {
            Repeats::Selective(scheme) => scheme.on_lost(number),
            Repeats::GoBackN(scheme) => {
                scheme.on_lost(self.base);
                for segment in self.segments.iter_mut().filter(|segment| !segment.repeat) {
                    segment.repeat = true;
                    dropped(segment.packet);
                }
            }
        }
    }

    /// Checks an ack before it changes anything: what it names was sent, in packets that it may have got.
    pub(super) fn check(&self, ack: &Ack) -> Result<(), Violation> {
        let end = ack.ranges.last().map_or(ack.cumulative, |range| range.end);
        if end > self.next {
            return Err(Violation::AckOfUnsentSegment);
        }
        let newest = end.checked_sub(1).and_then(|newest| self.get(newest));
        // Segments are first sent in order: if the newest may have arrived, so may the others.
        if newest.is_some_and(|segment| segment.first_packet > ack.largest) {
            return Err(Violation::AckOfUnsentSegment);
        }
        Ok(())
    }

    /// Takes a checked ack; `arrived` is told each segment that it acknowledges for the first time. Apart from these
    /// the work is one step for each 64 segments of its ranges.
    pub(super) fn on_ack(&mut self, ack: &Ack, arrived: &mut dyn FnMut(u64, Segment)) {
        self.acknowledge(self.base, ack.cumulative, arrived);
        for range in &ack.ranges {
            self.acknowledge(range.start.max(self.base), range.end, arrived);
        }
        while self.base < self.next && self.word(self.base) & bit(self.base) != 0 {
            let Some(segment) = self.segments.pop_front() else { break };
            self.base += 1;
            self.acked_bytes = segment.offset + u64::from(segment.len);
        }
    }

    fn acknowledge(&mut self, start: u64, end: u64, arrived: &mut dyn FnMut(u64, Segment)) {
        let mut at = start;
        while at < end {
            let stop = end.min((at / 64 + 1) * 64);
            let mask = ones(stop - at) << (at % 64);
            let mut fresh = mask & !self.word(at);
            self.acked[slot(at)] |= mask;
            while fresh != 0 {
                let number = at - at % 64 + u64::from(fresh.trailing_zeros());
                fresh &= fresh - 1;
                if let Some(segment) = self.get(number) {
                    arrived(number, segment);
                }
            }
            at = stop;
        }
    }

    /// The receiver takes segments up to `limit`, exclusive; the newest packet's word counts.
    pub(super) fn on_window(&mut self, packet: u64, limit: u64) {
        if self.limit_packet.is_none_or(|newest| packet > newest) {
            self.limit_packet = Some(packet);
            self.limit = limit;
        }
    }

    fn word(&self, number: u64) -> u64 {
        self.acked[slot(number)]
    }
}

fn slot(number: u64) -> usize {
    // The remainder is below WORDS, so the conversion is exact.
    ((number / 64) % WORDS as u64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

/// The lowest `count` bits, 1 to 64.
fn ones(count: u64) -> u64 {
    u64::MAX >> (64 - count.clamp(1, 64))
}

/// Segments that a receiver takes before it has offered a window.
pub(super) const INITIAL_LIMIT: u32 = 1_024;
const WORDS: usize = MAX_WINDOW as usize / 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::datagram::SegmentRange;

    /// Sends new segments of `size` bytes while the window of `window` lets it, in packets from `packet` on.
    fn send_new(outgoing: &mut Outgoing, window: u32, size: usize, mut packet: u64) -> Vec<u64> {
        let mut sent = Vec::new();
        while outgoing.room(window) > 0
            && let Some(segment) = outgoing.new_segment(outgoing.next_offset(), size)
        {
            sent.push(outgoing.next());
            outgoing.push_new(segment, packet);
            packet += 1;
        }
        sent
    }

    fn send_repeats(outgoing: &mut Outgoing, mut packet: u64) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some((number, _)) = outgoing.take_repeat() {
            outgoing.on_repeated(number, packet);
            sent.push(number);
            packet += 1;
        }
        sent
    }

    fn ack(largest: u64, cumulative: u64, ranges: &[(u64, u64)]) -> Ack {
        let ranges = ranges.iter().map(|&(start, end)| SegmentRange { start, end }).collect();
        Ack { largest, delay_micros: 0, ce: 0, cumulative, ranges }
    }

    fn take(outgoing: &mut Outgoing, ack: &Ack) -> Vec<u64> {
        outgoing.check(ack).unwrap();
        let mut arrived = Vec::new();
        outgoing.on_ack(ack, &mut |number, _| arrived.push(number));
        arrived
    }

    #[test]
    fn a_stream_is_cut_where_it_pauses_and_ends_where_it_was_finished() {
        let mut outgoing = Outgoing::new(Arq::Auto);
        assert!(!outgoing.has_new());
        outgoing.set_end(2_500);
        assert_eq!(send_new(&mut outgoing, 100, 1_000, 0), [0, 1, 2]);
        outgoing.set_end(2_400);
        assert!(!outgoing.has_new() && !outgoing.is_all_sent());
        outgoing.finish();
        outgoing.set_end(9_000);
        assert_eq!(send_new(&mut outgoing, 100, 1_000, 3), [3], "the end alone");
        assert!(outgoing.is_all_sent() && !outgoing.is_complete());
        assert_eq!(take(&mut outgoing, &ack(3, 4, &[])), [0, 1, 2, 3]);
        assert!(outgoing.is_complete());
        assert_eq!(outgoing.acked_bytes(), 2_500);
    }

    #[test]
    fn the_windows_hold() {
        let mut outgoing = Outgoing::new(Arq::Auto);
        outgoing.set_end(1_000_000);
        assert_eq!(send_new(&mut outgoing, 4, 10, 0), [0, 1, 2, 3]);
        assert_eq!(take(&mut outgoing, &ack(3, 2, &[])), [0, 1]);
        outgoing.on_window(7, 5);
        outgoing.on_window(6, 50);
        assert_eq!(send_new(&mut outgoing, 4, 10, 4), [4], "the newest packet's word counts");
        outgoing.on_window(8, 0);
        assert_eq!(outgoing.room(4), 0);
        outgoing.on_window(9, u64::MAX);
        send_new(&mut outgoing, u32::MAX, 10, 5);
        assert_eq!(outgoing.next(), 2 + u64::from(MAX_WINDOW));
    }

    #[test]
    fn go_back_n_repeats_all_from_the_first_missing_one_and_once_for_each_loss() {
        let mut outgoing = Outgoing::new(Arq::GoBackN);
        outgoing.set_end(80);
        send_new(&mut outgoing, 8, 10, 0);
        take(&mut outgoing, &ack(0, 1, &[]));
        let mut dropped = Vec::new();
        outgoing.on_lost(1, &mut |packet| dropped.push(packet));
        assert_eq!(dropped, [2, 3, 4, 5, 6, 7]);
        outgoing.on_lost(2, &mut |_| panic!("it is to be repeated already"));
        assert_eq!(send_repeats(&mut outgoing, 8), [1, 2, 3, 4, 5, 6, 7]);
        assert!(!outgoing.has_repeat());
        outgoing.on_lost(1, &mut |_| ());
        take(&mut outgoing, &ack(9, 5, &[]));
        assert_eq!(outgoing.take_repeat().map(|(number, _)| number), Some(5), "what arrived meanwhile is left out");
        outgoing.put_back(5);
        assert_eq!(send_repeats(&mut outgoing, 20), [5, 6, 7]);
    }

    #[test]
    fn selective_repeat_repeats_what_is_missing() {
        let mut outgoing = Outgoing::new(Arq::SelectiveRepeat);
        outgoing.set_end(80);
        send_new(&mut outgoing, 8, 10, 0);
        assert_eq!(take(&mut outgoing, &ack(7, 1, &[(2, 4), (6, 8)])), [0, 2, 3, 6, 7]);
        assert_eq!(take(&mut outgoing, &ack(7, 1, &[(2, 4), (6, 8)])), [] as [u64; 0]);
        for lost in [1, 4, 5, 6] {
            outgoing.on_lost(lost, &mut |_| panic!("nothing else is dropped"));
        }
        outgoing.on_lost(4, &mut |_| ());
        take(&mut outgoing, &ack(7, 2, &[]));
        assert_eq!(outgoing.base(), 4);
        assert_eq!(send_repeats(&mut outgoing, 8), [4, 5]);
        assert_eq!(take(&mut outgoing, &ack(9, 8, &[])), [4, 5]);
        assert!(!outgoing.has_repeat());
    }

    #[test]
    fn acks_of_what_cannot_have_arrived_are_a_violation() {
        let mut outgoing = Outgoing::new(Arq::Auto);
        outgoing.set_end(80);
        send_new(&mut outgoing, 4, 10, 100);
        for claim in [ack(103, 5, &[]), ack(103, 1, &[(3, 5)]), ack(102, 4, &[]), ack(102, 0, &[(3, 4)])] {
            assert_eq!(outgoing.check(&claim), Err(Violation::AckOfUnsentSegment), "{claim:?}");
        }
        assert_eq!(outgoing.check(&ack(102, 3, &[])), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

        /// Over several laps of the ring each segment arrives once, whatever the acks repeat.
        #[test]
        fn each_segment_is_acknowledged_once(
            steps in proptest::collection::vec((0..9_000u64, 0..6_000u64, 1..200u64, 1..5_000u64), 1..12),
        ) {
            let mut outgoing = Outgoing::new(Arq::Auto);
            outgoing.set_end(u64::MAX);
            outgoing.on_window(0, u64::MAX);
            let (mut arrived, mut expected) = (Vec::<bool>::new(), 0);
            for (more, forward, gap, len) in steps {
                let window = u32::try_from(more + outgoing.next() - outgoing.base()).unwrap_or(u32::MAX);
                let next = outgoing.next();
                send_new(&mut outgoing, window, 1, next);
                let (base, next) = (outgoing.base(), outgoing.next());
                let cumulative = (base + forward).min(next);
                let start = cumulative + gap;
                let ranges = if start < next { vec![(start, (start + len).min(next))] } else { Vec::new() };
                let told = ack(next.max(1) - 1, cumulative, &ranges);
                for number in take(&mut outgoing, &told) {
                    let at = usize::try_from(number).unwrap();
                    arrived.resize(arrived.len().max(at + 1), false);
                    prop_assert!(!std::mem::replace(&mut arrived[at], true), "{number} twice");
                }
                let has = |number: u64| arrived.get(usize::try_from(number).unwrap()) == Some(&true);
                expected = (expected..).find(|number| !has(*number)).unwrap();
                prop_assert_eq!(outgoing.base(), expected);
                let in_ranges = (base..next).all(|n| outgoing.is_acked(n) == has(n));
                prop_assert!(in_ranges);
            }
        }
    }
}
