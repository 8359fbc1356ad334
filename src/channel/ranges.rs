//! The segments kept beyond the first gap, as ranges for acks.

use std::collections::VecDeque;

use crate::wire::datagram::{MAX_ACK_RANGES, SegmentRange};

/// A set of segment numbers.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    // Ascending, with gaps between.
    runs: VecDeque<SegmentRange>,
    // The number inserted last: its range is always reported.
    newest: u64,
    // Where among the later ranges the next report begins.
    turn: usize,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The largest number.
    pub(super) fn newest(&self) -> Option<u64> {
        self.runs.back().map(|run| run.end - 1)
    }

    /// Adds a number that is not in the set. Mostly it comes behind the last.
    pub(super) fn insert(&mut self, number: u64) {
        self.newest = number;
        let after = match self.runs.back() {
            Some(last) if last.end <= number => self.runs.len(),
            _ => self.runs.partition_point(|run| run.start <= number),
        };
        let joins_next = self.runs.get(after).is_some_and(|next| next.start == number + 1);
        let before = after.checked_sub(1).and_then(|index| self.runs.get_mut(index)).filter(|run| run.end == number);
        match (before, joins_next) {
            (Some(before), false) => before.end += 1,
            (Some(before), true) => {
                let start = before.start;
                self.runs.remove(after - 1);
                self.begin_earlier(after - 1, start);
            }
            (None, true) => self.begin_earlier(after, number),
            (None, false) => self.runs.insert(after, SegmentRange { start: number, end: number + 1 }),
        }
    }

    fn begin_earlier(&mut self, index: usize, start: u64) {
        if let Some(run) = self.runs.get_mut(index) {
            run.start = start;
        }
    }

    /// Forgets everything below `bound`, which is not inside a range.
    pub(super) fn remove_below(&mut self, bound: u64) {
        while self.runs.front().is_some_and(|run| run.end <= bound) {
            self.runs.pop_front();
        }
    }

    /// The ranges, or [`MAX_ACK_RANGES`] of them: those nearest the first gap, the newest, and of the others some in
    /// turn, so that a few acks tell all.
    pub(super) fn report(&mut self) -> Vec<SegmentRange> {
        if self.runs.len() <= MAX_ACK_RANGES {
            return self.runs.iter().copied().collect();
        }
        let mut chosen: Vec<usize> = (0..NEAREST).collect();
        let others = self.runs.len() - NEAREST;
        chosen.extend((0..MAX_ACK_RANGES - NEAREST - 1).map(|step| NEAREST + (self.turn + step) % others));
        self.turn = (self.turn + MAX_ACK_RANGES - NEAREST - 1) % others;
        let newest = self.runs.partition_point(|run| run.start <= self.newest);
        chosen.push(newest.saturating_sub(1));
        chosen.sort_unstable();
        chosen.dedup();
        chosen.into_iter().filter_map(|index| self.runs.get(index).copied()).collect()
    }
}

/// Ranges nearest the first gap that every ack tells: they decide what is sent again next.
const NEAREST: usize = 96;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn members(ranges: &[SegmentRange]) -> Vec<u64> {
        ranges.iter().flat_map(|range| range.start..range.end).collect()
    }

    proptest! {
        #[test]
        fn holds_what_a_set_holds(numbers in proptest::collection::vec(1..120u64, 0..200), bound in 0..120u64) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                if set.insert(number) {
                    ranges.insert(number);
                }
            }
            prop_assert_eq!(members(&ranges.report()), set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(ranges.newest(), set.last().copied());
            prop_assert!(ranges.runs.iter().zip(ranges.runs.iter().skip(1)).all(|(a, b)| a.end < b.start));
            let bound = (bound..).find(|n| !set.contains(n)).unwrap();
            ranges.remove_below(bound);
            prop_assert_eq!(members(&ranges.report()), set.range(bound..).copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_too_many_ranges_a_few_acks_tell_all() {
        let mut ranges = Ranges::default();
        for number in 0..1_000 {
            ranges.insert(1 + 2 * number);
        }
        ranges.insert(1_000);
        let mut told = BTreeSet::new();
        for _ in 0..40 {
            let report = ranges.report();
            assert!(report.len() <= MAX_ACK_RANGES && report.is_sorted_by_key(|range| range.start));
            assert_eq!(report[NEAREST - 1].start, 2 * NEAREST as u64 - 1);
            assert!(report.iter().any(|range| (range.start..range.end).contains(&1_000)));
            told.extend(members(&report));
        }
        assert_eq!(told.len(), 1_001);
    }
}
