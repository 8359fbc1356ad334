//! One encoding on its way in: parents are checked as they come, groups in runs that lie beneath one parent.

use std::ops::Range;

use super::assembler::{Lie, VerifiedSink, Wanted};
use crate::transfer::tree::{GROUP, Layout, PAIR, RUN_GROUPS, Root, Step, merge, split, subtree};

/// An encoding on its way in.
#[derive(Debug)]
pub(super) struct Data {
    item: u32,
    wanted: Range<u64>,
    whole: Range<u64>,
    layout: Layout,
    step: Option<Step>,
    // Values of the subtrees to come, the next one last.
    expected: Vec<Root>,
    // A parent so far.
    pair: [u8; PAIR],
    filled: usize,
    run: Run,
}

/// Groups that lie beneath one parent, are all wanted, and are hashed at once.
#[derive(Debug, Default)]
struct Run {
    // From the first that was not given out.
    groups: Range<u64>,
    // Of the subtree over them; none when some of them were given out already.
    value: Option<Root>,
    // Of the single groups whose bytes have come.
    values: Vec<Root>,
}

impl Data {
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self {
            item: wanted.item,
            wanted: wanted.groups.clone(),
            whole: 0..wanted.geometry.groups(),
            layout: wanted.geometry.layout(wanted.groups.clone()),
            step: None,
            expected: vec![wanted.root],
            pair: [0; PAIR],
            filled: 0,
            run: Run::default(),
        }
    }

    /// Takes bytes of the step that is under way; true when the encoding is complete.
    pub(super) fn take(
        &mut self,
        buffer: &mut Vec<u8>,
        bytes: &mut &[u8],
        out: &mut impl VerifiedSink,
    ) -> Result<bool, Lie> {
        let missing = match &self.step {
            Some(Step::Parent { .. }) => PAIR - self.filled,
            Some(Step::Group { len, .. }) => len - self.filled,
            None => return Ok(true),
        };
        let (now, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        *bytes = rest;
        match &self.step {
            Some(Step::Parent { .. }) => {
                if let Some(place) = self.pair.get_mut(self.filled..self.filled + now.len()) {
                    place.copy_from_slice(now);
                }
            }
            _ => buffer.extend_from_slice(now),
        }
        self.filled += now.len();
        if now.len() < missing {
            return Ok(false);
        }
        match self.step.take() {
            Some(Step::Parent { slot, groups, left, right }) => self.parent(slot, &groups, (left, right), out)?,
            Some(Step::Group { group, .. }) => self.group(group, buffer, out)?,
            None => {}
        }
        self.next_step(buffer, out)
    }

    /// Turns to the next step that has bytes; true when there is none.
    pub(super) fn next_step(&mut self, buffer: &mut Vec<u8>, out: &mut impl VerifiedSink) -> Result<bool, Lie> {
        loop {
            self.filled = 0;
            let Some(step) = self.layout.next() else { return Ok(true) };
            let (beneath, empty) = match &step {
                Step::Parent { groups, .. } => (groups.clone(), None),
                Step::Group { group, len } => (*group..group + 1, (*len == 0).then_some(*group)),
            };
            if self.run.groups.is_empty() {
                self.open_run(beneath, buffer);
            }
            match empty {
                Some(group) => self.group(group, buffer, out)?,
                None => {
                    self.step = Some(step);
                    return Ok(false);
                }
            }
        }
    }

    fn open_run(&mut self, beneath: Range<u64>, buffer: &mut Vec<u8>) {
        let all = self.wanted.start <= beneath.start && beneath.end <= self.wanted.end;
        if all && beneath.end - beneath.start <= RUN_GROUPS {
            buffer.clear();
            // A run that is nearly always full.
            buffer.reserve(usize::try_from((beneath.end - beneath.start) * GROUP).unwrap_or(0));
            self.run = Run { groups: beneath, value: self.expected.last().copied(), values: Vec::new() };
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
    fn group(&mut self, group: u64, buffer: &mut Vec<u8>, out: &mut impl VerifiedSink) -> Result<(), Lie> {
        self.run.values.push(self.expected.pop().ok_or(Lie::Tree { item: self.item })?);
        if group + 1 < self.run.groups.end {
            return Ok(());
        }
        let run = std::mem::take(&mut self.run);
        let first = run.groups.start;
        let whole = run.groups == self.whole;
        if run.value.is_some_and(|value| subtree(first, buffer, whole) == value) {
            out.groups(self.item, run.groups, buffer);
            buffer.clear();
            return Ok(());
        }
        self.give(first, &run.values, buffer, out)
    }

    pub(super) fn flush(&mut self, buffer: &mut Vec<u8>, out: &mut impl VerifiedSink) -> Result<(), Lie> {
        let values = std::mem::take(&mut self.run.values);
        if values.is_empty() {
            return Ok(());
        }
        let come = values.len() as u64;
        let begun = buffer.split_off(values.len().saturating_mul(GROUP_LEN).min(buffer.len()));
        self.run.value = None;
        self.give(self.run.groups.start, &values, buffer, out)?;
        self.run.groups.start += come;
        buffer.extend_from_slice(&begun);
        Ok(())
    }

    /// Checks groups one by one and gives out those before the first that is wrong. Empties the buffer.
    fn give(&self, first: u64, values: &[Root], buffer: &mut Vec<u8>, out: &mut impl VerifiedSink) -> Result<(), Lie> {
        let mut rest = buffer.as_slice();
        let mut sound = first;
        for value in values {
            let (bytes, after) = rest.split_at_checked(GROUP_LEN).unwrap_or((rest, &[]));
            if subtree(sound, bytes, self.whole == (sound..sound + 1)) != *value {
                break;
            }
            rest = after;
            sound += 1;
        }
        let right = buffer.len() - rest.len();
        buffer.truncate(right);
        if sound > first {
            out.groups(self.item, first..sound, buffer);
        }
        buffer.clear();
        if sound < first + values.len() as u64 {
            return Err(Lie::Group { item: self.item, group: sound });
        }
        Ok(())
    }
}

const GROUP_LEN: usize = 1 << 16;
