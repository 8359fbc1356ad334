//! Sets of group numbers, kept as ranges: what is here, what is missing, what a holder has.

use std::ops::Range;

/// A set of numbers. The ranges ascend, are never empty and never touch each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeSet {
    ranges: Vec<Range<u64>>,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The numbers of one range.
    pub fn of(range: Range<u64>) -> Self {
        let mut set = Self::new();
        set.insert(range);
        set
    }

    /// Adds a range; returns how many of its numbers are new.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        // Ranges that touch the new one melt into it.
        let from = self.ranges.partition_point(|r| r.end < range.start);
        let to = from + self.ranges.iter().skip(from).take_while(|r| r.start <= range.end).count();
        let (mut whole, mut known) = (range.clone(), 0);
        for old in self.ranges.get(from..to).unwrap_or_default() {
            known += overlap(old, &range);
            whole = whole.start.min(old.start)..whole.end.max(old.end);
        }
        self.ranges.splice(from..to, [whole]);
        range.end - range.start - known
    }

    /// Takes a range away; returns how many of its numbers were there.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let from = self.ranges.partition_point(|r| r.end <= range.start);
        let to = from + self.ranges.iter().skip(from).take_while(|r| r.start < range.end).count();
        let (mut left, mut gone) = (Vec::with_capacity(2), 0);
        for old in self.ranges.get(from..to).unwrap_or_default() {
            gone += overlap(old, &range);
            let sides = [old.start..old.end.min(range.start), old.start.max(range.end)..old.end];
            left.extend(sides.into_iter().filter(|side| !side.is_empty()));
        }
        self.ranges.splice(from..to, left);
        gone
    }

    /// Adds another set.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|range| {
            self.insert(range);
        });
    }

    /// Whether every number of `range` is in the set.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.at_or_after(range.start).is_some_and(|r| r.start <= range.start && range.end <= r.end)
    }

    /// The range that holds `number`, or else the first that begins after it.
    pub fn at_or_after(&self, number: u64) -> Option<Range<u64>> {
        self.ranges.get(self.ranges.partition_point(|r| r.end <= number)).cloned()
    }

    /// The parts of `range` that are in the set, ascending.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.ranges.partition_point(|r| r.end <= range.start);
        let inside = self.ranges.iter().skip(from).take_while({
            let end = range.end;
            move |r| r.start < end
        });
        inside.map(move |r| r.start.max(range.start)..r.end.min(range.end)).filter(|r| !r.is_empty())
    }

    /// The parts of `range` that are not in the set, ascending.
    pub fn gaps(&self, range: Range<u64>) -> Self {
        let mut gaps = Self::of(range.clone());
        self.within(range).for_each(|known| {
            gaps.remove(known);
        });
        gaps
    }

    /// What both sets have.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::new();
        self.iter().flat_map(|range| other.within(range)).for_each(|range| both.ranges.push(range));
        both
    }

    /// What this set has and `other` has not.
    pub fn difference(&self, other: &Self) -> Self {
        let ranges = self.iter().flat_map(|range| other.gaps(range).ranges).collect();
        Self { ranges }
    }

    /// At most `pieces` of the ranges, the longest.
    pub fn longest(&self, pieces: usize) -> Self {
        let mut ranges = self.ranges.clone();
        if ranges.len() > pieces {
            ranges.sort_by_key(|range| std::cmp::Reverse(range.end - range.start));
            ranges.truncate(pieces);
            ranges.sort_unstable_by_key(|range| range.start);
        }
        Self { ranges }
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// How many ranges the set takes.
    pub fn pieces(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().cloned()
    }

    /// Appends the set to `out`: for each range the gap before it and its length, as LEB128.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut at = 0;
        for range in &self.ranges {
            put_number(out, range.start - at);
            put_number(out, range.end - range.start);
            at = range.end;
        }
    }

    /// Reads what [`RangeSet::encode`] wrote: all of `bytes`, at most `pieces` ranges, every number below `limit`.
    pub(super) fn decode(mut bytes: &[u8], pieces: usize, limit: u64) -> Option<Self> {
        let (mut ranges, mut at) = (Vec::new(), 0u64);
        while !bytes.is_empty() {
            let gap = take_number(&mut bytes)?;
            let len = take_number(&mut bytes).filter(|len| *len > 0)?;
            let start = at.checked_add(gap).filter(|_| gap > 0 || ranges.is_empty())?;
            at = start.checked_add(len).filter(|end| *end <= limit && ranges.len() < pieces)?;
            ranges.push(start..at);
        }
        Some(Self { ranges })
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(first & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if first & 0x80 == 0 {
            // One spelling for each number.
            return (*first != 0 || shift == 0).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(set: &RangeSet, model: &BTreeSet<u64>) {
        assert_eq!(set.iter().flatten().collect::<BTreeSet<_>>(), *model);
        assert!(set.ranges.windows(2).all(|w| w[0].end < w[1].start) && set.ranges.iter().all(|r| !r.is_empty()));
        assert_eq!(set.count(), model.len() as u64);
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_of_numbers(steps in proptest::collection::vec((any::<bool>(), 0..60u64, 0..20u64), 0..40)) {
            let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
            for (add, start, len) in steps {
                let before = model.len();
                if add {
                    let new = set.insert(start..start + len);
                    model.extend(start..start + len);
                    prop_assert_eq!(new, (model.len() - before) as u64);
                } else {
                    let gone = set.remove(start..start + len);
                    model.retain(|n| !(start..start + len).contains(n));
                    prop_assert_eq!(gone, (before - model.len()) as u64);
                }
                check(&set, &model);
                prop_assert_eq!(set.contains(&(start..start + len)), (start..start + len).all(|n| model.contains(&n)));
                let gaps = set.gaps(start..start + len);
                check(&gaps, &(start..start + len).filter(|n| !model.contains(n)).collect());
            }
            let other = RangeSet::of(20..40);
            check(&set.intersection(&other), &model.iter().copied().filter(|n| (20..40).contains(n)).collect());
            check(&set.difference(&other), &model.iter().copied().filter(|n| !(20..40).contains(n)).collect());
            let mut bytes = Vec::new();
            set.encode(&mut bytes);
            prop_assert_eq!(RangeSet::decode(&bytes, 100, 100), Some(set));
        }

        #[test]
        fn what_is_read_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            if let Some(set) = RangeSet::decode(&bytes, 5, u64::MAX) {
                let mut again = Vec::new();
                set.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
