//! One encoding on its way in: each parent and each group is checked when its last byte has come.

use std::ops::Range;

use super::assembler::{Lie, VerifiedSink, Wanted};
use crate::transfer::tree::{Layout, PAIR, Root, Step, merge, split, subtree};

/// An encoding on its way in.
#[derive(Debug)]
pub(super) struct Data {
    item: u32,
    whole: Range<u64>,
    layout: Layout,
    step: Option<Step>,
    // Values of the subtrees to come, the next one last.
    expected: Vec<Root>,
    // A parent so far.
    pair: [u8; PAIR],
    filled: usize,
}

impl Data {
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self {
            item: wanted.item,
            whole: 0..wanted.geometry.groups(),
            layout: wanted.geometry.layout(wanted.groups.clone()),
            step: None,
            expected: vec![wanted.root],
            pair: [0; PAIR],
            filled: 0,
        }
    }

    /// Takes bytes of the step that is under way; true when the encoding is complete. `buffer` has what has come of a
    /// group whose bytes did not come at once; it is empty before the first.
    pub(super) fn take(
        &mut self,
        buffer: &mut Vec<u8>,
        bytes: &mut &[u8],
        out: &mut impl VerifiedSink,
    ) -> Result<bool, Lie> {
        match self.step.take() {
            Some(Step::Parent { slot, groups, left, right }) => {
                let missing = self.pair.get_mut(self.filled..).unwrap_or_default();
                let (now, rest) = bytes.split_at_checked(missing.len()).unwrap_or((bytes, &[]));
                missing.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                *bytes = rest;
                self.filled += now.len();
                if self.filled < PAIR {
                    self.step = Some(Step::Parent { slot, groups, left, right });
                    return Ok(false);
                }
                self.parent(slot, &groups, (left, right), out)?;
            }
            Some(Step::Group { group, len }) => {
                let Some((now, rest)) = bytes.split_at_checked(len.saturating_sub(buffer.len())) else {
                    buffer.extend_from_slice(bytes);
                    *bytes = &[];
                    self.step = Some(Step::Group { group, len });
                    return Ok(false);
                };
                *bytes = rest;
                if buffer.is_empty() {
                    self.group(group, now, out)?;
                } else {
                    buffer.extend_from_slice(now);
                    self.group(group, buffer, out)?;
                    buffer.clear();
                }
            }
            None => return Ok(true),
        }
        self.next_step(out)
    }

    /// Bytes without which nothing of it can be checked.
    pub(super) fn needs(&self, buffer: &[u8]) -> usize {
        match &self.step {
            Some(Step::Parent { .. }) => PAIR.saturating_sub(self.filled),
            Some(Step::Group { len, .. }) => len.saturating_sub(buffer.len()),
            None => 0,
        }
    }

    /// Turns to the next step that has bytes; true when there is none.
    pub(super) fn next_step(&mut self, out: &mut impl VerifiedSink) -> Result<bool, Lie> {
        self.filled = 0;
        loop {
            match self.layout.next() {
                Some(Step::Group { group, len: 0 }) => self.group(group, &[], out)?,
                Some(step) => {
                    self.step = Some(step);
                    return Ok(false);
                }
                None => return Ok(true),
            }
        }
    }

    fn parent(
        &mut self,
        slot: u64,
        groups: &Range<u64>,
        (goes_left, goes_right): (bool, bool),
        out: &mut impl VerifiedSink,
    ) -> Result<(), Lie> {
        let (left, right) = split(&self.pair);
        let value = merge(&left, &right, *groups == self.whole);
        if self.expected.pop() != Some(value) {
            return Err(Lie::Tree { item: self.item });
        }
        out.pair(self.item, slot, &self.pair);
        self.expected.extend([goes_right.then_some(right), goes_left.then_some(left)].into_iter().flatten());
        Ok(())
    }

    /// All bytes of a group have come.
    fn group(&mut self, group: u64, bytes: &[u8], out: &mut impl VerifiedSink) -> Result<(), Lie> {
        let expected = self.expected.pop().ok_or(Lie::Tree { item: self.item })?;
        if subtree(group, bytes, self.whole == (group..group + 1)) != expected {
            return Err(Lie::Group { item: self.item, group });
        }
        out.group(self.item, group, bytes);
        Ok(())
    }
}
