//! When whoever receives does a download's checking and writing itself, and what it has found then.
//!
//! With two processors a sender on the same machine has one of them and whoever receives the other: a third thread only takes
//! the bytes out of the cache in which they were opened. But a slow disk must not hold up the socket.

use std::cell::{Cell, RefCell};
use std::num::NonZero;
use std::sync::OnceLock;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::writer::Report;

/// Of one download.
#[derive(Debug)]
pub(super) struct InPlace {
    // Few processors, and nothing else to be held up.
    sensible: Cell<bool>,
    // The disk was slow: not before then, and the next time for so long.
    not_before: Cell<Option<Instant>>,
    penalty: Cell<Duration>,
    found: RefCell<Vec<Report>>,
}

impl InPlace {
    pub(super) fn new() -> Self {
        Self {
            sensible: Cell::new(false),
            not_before: Cell::new(None),
            penalty: Cell::new(PENALTY),
            found: RefCell::default(),
        }
    }

    /// Whether this download is the only one that whoever receives has to do with.
    pub(super) fn set_alone(&self, alone: bool) {
        let few = || available_parallelism().map_or(1, NonZero::get) <= FEW;
        self.set_sensible(alone && *HAS_FEW.get_or_init(few));
    }

    pub(super) fn set_sensible(&self, sensible: bool) {
        self.sensible.set(sensible);
    }

    /// Whether to do it in place.
    pub(super) fn is_sensible(&self, now: Instant) -> bool {
        self.sensible.get() && self.not_before.get().is_none_or(|until| now >= until)
    }

    /// It took so long.
    pub(super) fn took(&self, now: Instant, time: Duration) {
        if time > SLOW {
            let penalty = self.penalty.get();
            self.not_before.set(now.checked_add(penalty));
            self.penalty.set((penalty * 2).min(PENALTY_MAX));
        }
    }

    /// Keeps what was found until it is asked for.
    pub(super) fn find(&self, report: Report) {
        let mut found = self.found.borrow_mut();
        if let (Some(Report::Got(source, groups)), Report::Got(other, next)) = (found.last_mut(), &report)
            && source == other
            && groups.end == next.start
        {
            groups.end = next.end;
        } else {
            found.push(report);
        }
    }

    /// What was found since this was asked.
    pub(super) fn found(&self) -> Vec<Report> {
        self.found.take()
    }
}

/// Processors up to which it is the faster way.
const FEW: usize = 2;
static HAS_FEW: OnceLock<bool> = OnceLock::new();
/// What takes longer held the socket up: it keeps what comes for about as long.
const SLOW: Duration = Duration::from_millis(10);
/// After that it is left to the thread for so long, each further time for twice as long ...
const PENALTY: Duration = Duration::from_secs(1);
/// ... up to this.
const PENALTY_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    #[test]
    fn a_slow_disk_is_left_to_the_thread_for_longer_each_time() {
        let (place, start) = (InPlace::new(), Instant::now());
        place.set_sensible(true);
        place.took(start, SLOW);
        assert!(place.is_sensible(start), "the socket keeps what comes");
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            place.took(now, SLOW + Duration::from_nanos(1));
            now += Duration::from_secs(seconds);
            assert!(!place.is_sensible(now - Duration::from_millis(1)) && place.is_sensible(now));
        }
        place.set_alone(false);
        assert!(!place.is_sensible(now), "others would be held up too");
    }

    #[test]
    fn neighbours_are_told_as_one() {
        let place = InPlace::new();
        for (source, start) in [(1, 0), (1, 1), (2, 2), (2, 4), (2, 5)] {
            place.find(Report::Got(Id([source; 16]), start..start + 1));
        }
        let found = place.found().into_iter().map(|report| match report {
            Report::Got(source, groups) => (source.0[0], groups),
            other => panic!("{other:?}"),
        });
        assert_eq!(found.collect::<Vec<_>>(), [(1, 0..2), (2, 2..3), (2, 4..6)]);
        assert!(place.found().is_empty());
    }
}
