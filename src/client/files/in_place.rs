//! When whoever receives does a download's checking and writing itself, and what it has found then.
//!
//! With two processors a sender on the same machine has one of them and whoever receives the other: a third thread only takes
//! the bytes out of the cache in which they were opened. But a slow disk must not hold up the socket more than now and then.

use std::cell::{Cell, RefCell};
use std::num::NonZero;
use std::ops::Range;
use std::sync::OnceLock;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::wire::id::TransferId;

/// Of one download.
#[derive(Debug)]
pub(super) struct InPlace {
    // Few processors, and nothing else to be held up.
    sensible: Cell<bool>,
    // The disk was slow: not before then, and the next time for so long.
    not_before: Cell<Option<Instant>>,
    penalty: Cell<Duration>,
    found: RefCell<Vec<(TransferId, Range<u64>)>>,
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
        if time <= SLOW {
            return;
        }
        let good = self.not_before.get().map(|until| now.saturating_duration_since(until).saturating_sub(time));
        let penalty = match good {
            _ if time > HANGS => PENALTY_MAX,
            Some(good) if good >= FORGOTTEN => PENALTY,
            _ => self.penalty.get(),
        };
        self.not_before.set(now.checked_add(penalty));
        self.penalty.set((penalty * 2).min(PENALTY_MAX));
    }

    /// These groups were checked and written; kept until it is asked for.
    pub(super) fn find(&self, source: TransferId, groups: Range<u64>) {
        let mut found = self.found.borrow_mut();
        match found.last_mut() {
            Some((last, before)) if *last == source && before.end == groups.start => before.end = groups.end,
            _ => found.push((source, groups)),
        }
    }

    /// What was found since this was asked.
    pub(super) fn found(&self) -> Vec<(TransferId, Range<u64>)> {
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
/// ... up to this, and at once if it took as long as ...
const PENALTY_MAX: Duration = Duration::from_secs(60);
/// ... this.
const HANGS: Duration = Duration::from_secs(1);
/// After so long without a slow one the next is a first one again.
const FORGOTTEN: Duration = Duration::from_secs(30);

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
    fn one_that_hangs_is_left_to_the_thread_at_once_and_a_good_stretch_is_a_new_beginning() {
        let (place, start) = (InPlace::new(), Instant::now());
        place.set_sensible(true);
        let over = |seconds| start + Duration::from_secs(seconds);
        place.took(over(5), Duration::from_secs(5));
        assert!(!place.is_sensible(over(64)) && place.is_sensible(over(65)));
        place.took(over(94), SLOW * 2);
        assert!(!place.is_sensible(over(153)), "29 s are no good stretch");
        assert!(place.is_sensible(over(154)));
        place.took(over(185), SLOW * 2);
        assert!(!place.is_sensible(over(185)) && place.is_sensible(over(186)));
    }

    #[test]
    fn neighbours_are_told_as_one() {
        let place = InPlace::new();
        for (source, start) in [(1, 0), (1, 1), (2, 2), (2, 4), (2, 5)] {
            place.find(Id([source; 16]), start..start + 1);
        }
        let found = place.found().into_iter().map(|(source, groups)| (source.0[0], groups));
        assert_eq!(found.collect::<Vec<_>>(), [(1, 0..2), (2, 2..3), (2, 4..6)]);
        assert!(place.found().is_empty());
    }
}
