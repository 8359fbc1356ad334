//! Which groups are asked of which holder. Holders come and go; each is asked for as much as it delivers, so the faster one
//! does more; what a stalled, lying or leaving one was asked for goes to the others; at the end the idle help the slow.
//!
//! Groups are numbered as in [`super::space`]. `now` counts from any origin that stays the same.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::ranges::RangeSet;
use super::space::Space;
use crate::limits::ITEMS_PER_ASK;
use source::Source;

mod source;

/// Names a holder within one download.
pub type SourceId = u32;

/// What became of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanEvent {
    /// Nothing came from it for too long while others could do its work, which they now get. It is asked for nothing more
    /// unless something comes after all.
    Stalled(SourceId),
}

/// The plan of one download.
#[derive(Debug)]
pub struct Planner {
    space: Arc<Space>,
    // Missing, and asked of nobody that has not stalled.
    todo: RangeSet,
    verified: RangeSet,
    // To be asked for before anything else.
    first: Option<Range<u64>>,
    sources: BTreeMap<SourceId, Source>,
    events: VecDeque<PlanEvent>,
}

impl Planner {
    /// A download of which `verified` is here already.
    pub fn new(space: Arc<Space>, verified: RangeSet) -> Self {
        let todo = verified.gaps(0..space.groups());
        Self { space, todo, verified, first: None, sources: BTreeMap::new(), events: VecDeque::new() }
    }

    /// Asks for these groups before anything else, of the first that has them.
    pub fn begin_with(&mut self, groups: Range<u64>) {
        self.first = Some(groups);
    }

    /// A holder has come, with its round trip where it is known and what it has (`None`: everything). One that is there
    /// already is begun anew.
    pub fn add_source(&mut self, now: Duration, id: SourceId, rtt: Option<Duration>, has: Option<RangeSet>) {
        self.remove_source(now, id);
        self.sources.insert(id, Source::new(now, rtt, has));
    }

    /// What a holder of a part has now.
    pub fn set_has(&mut self, id: SourceId, has: RangeSet) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.has = Some(has);
        }
    }

    /// A holder's round trip.
    pub fn set_rtt(&mut self, id: SourceId, rtt: Duration) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.set_rtt(rtt);
        }
    }

    /// A holder has left, or is asked for nothing more because it lied. Its work is for others.
    pub fn remove_source(&mut self, now: Duration, id: SourceId) {
        if let Some(gone) = self.sources.remove(&id) {
            self.take_back(&gone.outstanding);
        }
        if self.sources.values().all(|source| source.stalled) {
            self.revive(now);
        }
    }

    /// The next groups to ask of a holder; call it until there are none, whenever something has arrived or a holder has
    /// come, left or stalled.
    pub fn next(&mut self, now: Duration, id: SourceId) -> Option<Range<u64>> {
        let source = self.sources.get(&id).filter(|source| !source.stalled && !source.is_full())?;
        let begin = self.first.clone().filter(|first| source.has(first) && self.todo.contains(first));
        let groups = match (&begin, self.first_todo(id, source)) {
            (Some(begin), _) => begin.clone(),
            (None, Some(free)) => {
                let step = self.fair_share(source, source.step());
                // Asks as small as the room left would be many.
                if source.outstanding_bytes > 0 && source.room() < step.max(ROOM_MIN) {
                    return None;
                }
                self.cut(free, step)
            }
            (None, None) => self.help(id, source)?,
        };
        if begin.is_some() {
            self.first = None;
        }
        self.todo.remove(groups.clone());
        self.sources.get_mut(&id)?.ask(now, groups.clone(), &self.space);
        Some(groups)
    }

    /// Groups of a holder have arrived and were verified. Returns those that were not here before.
    pub fn arrived(&mut self, now: Duration, id: SourceId, groups: &Range<u64>) -> RangeSet {
        let groups = groups.start..groups.end.min(self.space.groups());
        let new = self.verified.gaps(groups.clone());
        self.verified.insert(groups.clone());
        self.todo.remove(groups.clone());
        if let Some(source) = self.sources.get_mut(&id) {
            let again = source.stalled;
            source.answered(now, &groups, &self.space, true);
            if again {
                source.outstanding.iter().for_each(|part| {
                    self.todo.remove(part);
                });
                // What kept it silent may have kept the others silent too.
                self.sources.values_mut().for_each(|source| source.excuse(now));
            }
        }
        new
    }

    /// A holder does not have what it was asked for.
    pub fn refused(&mut self, now: Duration, id: SourceId, groups: &Range<u64>) {
        let all = 0..self.space.groups();
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.answered(now, groups, &self.space, false);
        source.has.get_or_insert_with(|| RangeSet::of(all)).remove(groups.clone());
        self.take_back(&RangeSet::of(groups.start..groups.end.min(self.space.groups())));
    }

    /// Groups that were verified turn out to be damaged or not written: they are fetched again.
    pub fn lost(&mut self, groups: &Range<u64>) {
        self.verified.remove(groups.clone());
        self.take_back(&RangeSet::of(groups.start..groups.end.min(self.space.groups())));
    }

    /// When [`Planner::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let doubtful = self.sources.iter().filter(|(id, source)| self.has_others(**id, source));
        doubtful.filter_map(|(_, source)| source.stalls_at()).min()
    }

    /// Looks for holders that have stalled.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some(id) = self.stalled_by(now) {
            let Some(source) = self.sources.get_mut(&id) else { return };
            source.stalled = true;
            let work = source.outstanding.clone();
            self.take_back(&work);
            self.events.push_back(PlanEvent::Stalled(id));
        }
    }

    /// What has happened; until `None`.
    pub fn poll_event(&mut self) -> Option<PlanEvent> {
        self.events.pop_front()
    }

    /// Whether everything is here.
    pub fn is_complete(&self) -> bool {
        self.verified.contains(&(0..self.space.groups()))
    }

    /// What is here.
    pub fn verified(&self) -> &RangeSet {
        &self.verified
    }

    /// What is missing and no holder has: empty as long as the download can end.
    #[cfg(test)]
    pub(crate) fn unobtainable(&self) -> RangeSet {
        let mut missing = self.verified.gaps(0..self.space.groups());
        for source in self.sources.values() {
            match &source.has {
                None => return RangeSet::new(),
                Some(has) => missing = missing.difference(has),
            }
        }
        missing
    }

    /// Bytes a second that a holder delivers; `None` for one that is not there.
    pub fn rate(&self, id: SourceId) -> Option<f64> {
        self.sources.get(&id).map(Source::rate)
    }

    /// Holders that are asked for something.
    pub fn active(&self) -> usize {
        self.sources.values().filter(|source| !source.stalled).count()
    }

    /// Back to the list, but for what is here or asked of somebody else.
    fn take_back(&mut self, work: &RangeSet) {
        let mut work = work.difference(&self.verified);
        for source in self.sources.values().filter(|source| !source.stalled) {
            work = work.difference(&source.outstanding);
        }
        self.todo.extend(&work);
    }

    fn revive(&mut self, now: Duration) {
        for source in self.sources.values_mut() {
            source.stalled = false;
            source.excuse(now);
            source.outstanding.iter().for_each(|part| {
                self.todo.remove(part);
            });
        }
    }

    /// The first range that nobody was asked for and this holder has: rather one that holders of a part lack.
    fn first_todo(&self, id: SourceId, source: &Source) -> Option<Range<u64>> {
        let others = || self.sources.iter().filter(|(other, s)| **other != id && !s.stalled).map(|(_, s)| s);
        let own = match &source.has {
            None if others().all(|other| other.has.is_none()) => return self.todo.at_or_after(0),
            None => self.todo.clone(),
            Some(has) => self.todo.intersection(has),
        };
        let mut rare = own.clone();
        for has in others().filter_map(|other| other.has.as_ref()) {
            rare = rare.difference(has);
        }
        if rare.is_empty() { own } else { rare }.at_or_after(0)
    }

    /// At most half of what this holder would get if the rest were dealt out by rates, so that all end together; bytes.
    fn fair_share(&self, source: &Source, step: u64) -> u64 {
        let rates: f64 = self.sources.values().filter(|s| !s.stalled).map(Source::rate).sum();
        if self.active() < 2 {
            return step;
        }
        let share = source.rate() / rates / 2.0;
        // The rest is counted only as far as it matters.
        let mut left = 0;
        for part in self.todo.iter() {
            left += self.space.bytes(&part);
            if left as f64 * share >= step as f64 {
                return step;
            }
        }
        (left as f64 * share) as u64
    }

    /// The beginning of `free`, of about `step` bytes: aligned where that is possible, so that few parents come with it.
    fn cut(&self, free: Range<u64>, step: u64) -> Range<u64> {
        let most = 1u64 << free.start.trailing_zeros().min(ITEMS_PER_ASK.ilog2());
        let mut count = 1;
        while count < most && self.space.bytes(&(free.start..free.start + count * 2)) <= step {
            count *= 2;
        }
        free.start..free.end.min(free.start + count)
    }

    /// At the end: a part of what the slowest other holder was asked for last, if this one would have it sooner.
    fn help(&self, id: SourceId, source: &Source) -> Option<Range<u64>> {
        let begin = source.busy_for() + source.rtt().as_secs_f64();
        let others = self.sources.iter().filter(|(other, s)| **other != id && !s.stalled);
        let mut slow: Vec<_> = others.filter(|(_, s)| s.busy_for() > begin * HELP + HELP_MARGIN).collect();
        slow.sort_by(|(_, a), (_, b)| b.busy_for().total_cmp(&a.busy_for()));
        slow.into_iter().find_map(|(victim, other)| {
            let part = other.tail(|part| self.not_shared(*victim, part).filter(|part| source.has(part)))?;
            // Both end at the same time if it does this much.
            let time = other.busy_for() - begin;
            let bytes = time / (1.0 / other.rate() + 1.0 / source.rate());
            let mut start = part.end.saturating_sub(1).max(part.start);
            while start > part.start && (self.space.bytes(&(start - 1..part.end)) as f64) < bytes {
                start -= 1;
            }
            let mine = start..part.end;
            match &source.has {
                None => Some(mine),
                Some(has) => has.within(mine).last(),
            }
        })
    }

    /// The last piece of `part` that only `victim` was asked for and that is missing.
    fn not_shared(&self, victim: SourceId, part: &Range<u64>) -> Option<Range<u64>> {
        let mut left = self.verified.gaps(part.clone());
        for (_, other) in self.sources.iter().filter(|(id, _)| **id != victim) {
            left = left.difference(&other.outstanding);
        }
        left.iter().last()
    }

    fn stalled_by(&self, now: Duration) -> Option<SourceId> {
        let late = |source: &Source| source.stalls_at().is_some_and(|at| at <= now);
        self.sources.iter().find(|(id, source)| late(source) && self.has_others(**id, source)).map(|(id, _)| *id)
    }

    /// Whether somebody else could do this holder's work.
    fn has_others(&self, id: SourceId, source: &Source) -> bool {
        let mut others = self.sources.iter().filter(|(other, s)| **other != id && !s.stalled);
        others.any(|(_, other)| source.outstanding.iter().any(|part| other.has(&part)))
    }
}

/// Bytes that must be free before a holder is asked again.
const ROOM_MIN: u64 = 64 << 10;
/// Help must come so much sooner than the slow holder would be through.
const HELP: f64 = 1.5;
/// And at least this much, seconds.
const HELP_MARGIN: f64 = 0.02;

#[cfg(test)]
mod tests;
