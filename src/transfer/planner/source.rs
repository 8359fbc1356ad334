//! One holder as the planner sees it: what it has, what it was asked for, how fast it answers.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::limits::{ITEMS_PER_ASK, WANTS_MAX};
use crate::transfer::ranges::RangeSet;
use crate::transfer::space::Space;

/// A holder.
#[derive(Debug)]
pub(super) struct Source {
    // None: everything.
    pub(super) has: Option<RangeSet>,
    // Asked for and not arrived, and the same in the order of the asks.
    pub(super) outstanding: RangeSet,
    asked: VecDeque<Range<u64>>,
    pub(super) outstanding_bytes: u64,
    // Its work was given to others; it counts as a source again when something arrives.
    pub(super) stalled: bool,
    rtt: Duration,
    // Of its last answer, or of the ask that ended an idle time.
    heard: Duration,
    step: u64,
    meter: Meter,
}

/// Bytes a second, from what arrives.
#[derive(Debug)]
struct Meter {
    rate: Option<f64>,
    since: Duration,
    bytes: u64,
    arrived: u64,
    // Measurements in a row that showed no growth; the beginning is over after a few.
    level: u32,
}

impl Source {
    pub(super) fn new(now: Duration, rtt: Option<Duration>, has: Option<RangeSet>) -> Self {
        Self {
            has,
            outstanding: RangeSet::new(),
            asked: VecDeque::new(),
            outstanding_bytes: 0,
            stalled: false,
            rtt: rtt.unwrap_or(RTT_GUESS),
            heard: now,
            step: STEP_FIRST,
            meter: Meter { rate: None, since: now, bytes: 0, arrived: 0, level: 0 },
        }
    }

    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.has.as_ref().is_none_or(|has| has.within(range.clone()).next().is_some())
    }

    /// Bytes a second as measured last, before that as guessed.
    pub(super) fn rate(&self) -> f64 {
        self.meter.rate.unwrap_or(RATE_GUESS)
    }

    /// When what it was asked for will have arrived, counted from now.
    pub(super) fn busy_for(&self) -> f64 {
        self.outstanding_bytes as f64 / self.rate()
    }

    pub(super) fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Bytes that it may still be asked for: the work of some round trips and 200 ms is under way, and more as long as it gets
    /// faster. An answer takes one round trip, and where datagrams are lost again and again, some more.
    pub(super) fn room(&self) -> u64 {
        self.target().saturating_sub(self.outstanding_bytes)
    }

    /// Whether it waits for as many answers as it may.
    pub(super) fn is_full(&self) -> bool {
        // Each small file is an answer of its own.
        self.asked.len() >= ASKS_OUT || self.outstanding.count() + u64::from(ITEMS_PER_ASK) > WANTS_MAX as u64
    }

    /// Bytes of its next want, before what is left limits it.
    pub(super) fn step(&self) -> u64 {
        self.step.min(self.target() / 4).clamp(STEP_MIN, STEP_MAX)
    }

    fn target(&self) -> u64 {
        let lead = (self.rtt * LEAD + WORK).as_secs_f64();
        let steady = (self.rate() * lead) as u64;
        let begin = if self.meter.level < LEVEL { TARGET_FIRST.saturating_add(self.meter.arrived) } else { 0 };
        steady.max(begin).clamp(TARGET_MIN, TARGET_MAX)
    }

    pub(super) fn ask(&mut self, now: Duration, groups: Range<u64>, space: &Space) {
        if self.outstanding.is_empty() {
            // An idle time says nothing about the rate, nor of the holder's health.
            (self.heard, self.meter.since, self.meter.bytes) = (now, now, 0);
        }
        self.step = self.step.saturating_mul(2).min(STEP_MAX);
        let new = self.outstanding.gaps(groups.clone());
        self.outstanding_bytes += new.iter().map(|part| space.bytes(&part)).sum::<u64>();
        self.outstanding.insert(groups.clone());
        self.asked.push_back(groups);
    }

    /// Takes what arrived or was refused off its list.
    pub(super) fn answered(&mut self, now: Duration, groups: &Range<u64>, space: &Space, arrived: bool) {
        let own: Vec<_> = self.outstanding.within(groups.clone()).collect();
        let bytes = own.iter().map(|part| space.bytes(part)).sum::<u64>();
        self.outstanding_bytes = self.outstanding_bytes.saturating_sub(bytes);
        own.into_iter().for_each(|part| {
            self.outstanding.remove(part);
        });
        self.heard = now;
        self.stalled = false;
        // Answers come in the order of the asks.
        while self.asked.front().is_some_and(|first| self.outstanding.within(first.clone()).next().is_none()) {
            self.asked.pop_front();
        }
        if arrived {
            self.meter.measure(now, bytes, self.rtt);
        }
    }

    /// The last part of what it was asked for that has not arrived.
    pub(super) fn tail(&self, of: impl Fn(&Range<u64>) -> Option<Range<u64>>) -> Option<Range<u64>> {
        self.asked.iter().rev().flat_map(|asked| self.outstanding.within(asked.clone()).last()).find_map(|r| of(&r))
    }

    /// When it has stalled unless something arrives before.
    pub(super) fn stalls_at(&self) -> Option<Duration> {
        let waits = !self.stalled && !self.outstanding.is_empty();
        waits.then(|| self.heard + (self.rtt * 3).max(STALL))
    }

    /// Its silence so far does not count.
    pub(super) fn excuse(&mut self, now: Duration) {
        self.heard = now;
    }
}

impl Meter {
    fn measure(&mut self, now: Duration, bytes: u64, rtt: Duration) {
        self.bytes += bytes;
        self.arrived += bytes;
        let time = now.saturating_sub(self.since);
        if time < rtt.max(MEASURE) {
            return;
        }
        let sample = self.bytes as f64 / time.as_secs_f64();
        let old = self.rate.unwrap_or(0.0);
        let begins = self.level < LEVEL;
        self.level = if begins && sample > old * GROWTH { 0 } else { self.level.saturating_add(1) };
        // Later each measurement counts for as long as it took: what waits behind a lost datagram makes one low and the next high.
        let part = 1.0 - (-time.as_secs_f64() / MEMORY.max(rtt * 8).as_secs_f64()).exp();
        self.rate = Some(if begins && sample > old { sample } else { (sample - old).mul_add(part, old) }.max(1.0));
        (self.since, self.bytes) = (now, 0);
    }
}

/// Wants under way: each is a few asks at most, of which a holder takes [`crate::limits::ASKS_WAITING`].
const ASKS_OUT: usize = 256;
/// Round trips whose work is under way, and what is under way beside it.
const LEAD: u32 = 6;
const WORK: Duration = Duration::from_millis(200);
/// Until it was measured.
const RTT_GUESS: Duration = Duration::from_millis(100);
/// Bytes a second, until it was measured.
const RATE_GUESS: f64 = 4e6;
/// A measurement of the rate takes as long as this, or a round trip.
const MEASURE: Duration = Duration::from_millis(50);
/// A measurement this much above the one before is growth.
const GROWTH: f64 = 1.25;
/// What was measured before this counts little.
const MEMORY: Duration = Duration::from_millis(500);
/// So many measurements without growth end the beginning.
const LEVEL: u32 = 3;
/// Nothing for this long, or three round trips, is a stall.
const STALL: Duration = Duration::from_secs(2);
/// Bytes under way: at the beginning, at least, at most.
const TARGET_FIRST: u64 = 4 << 20;
const TARGET_MIN: u64 = 512 << 10;
const TARGET_MAX: u64 = 128 << 20;
/// Bytes of a want: the first, so that an answer comes soon; each after it twice as many; at least, at most.
const STEP_FIRST: u64 = 256 << 10;
const STEP_MIN: u64 = 64 << 10;
const STEP_MAX: u64 = 16 << 20;
