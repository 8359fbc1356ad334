//! What came, and what came wrongly: messages numbered from 0.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Counts at the end that receives.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// All below this have come, or are missing.
    next: u64,
    missing: BTreeSet<u64>,
    repeated: u64,
    disordered: u64,
    last: Option<u64>,
    pauses: Vec<Pause>,
}

/// A time in which nothing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Its end, nanoseconds of the machine's monotonic clock.
    pub end: u64,
    /// Nanoseconds.
    pub length: u64,
}

/// What came of a run's messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Different messages that came.
    pub arrived: u64,
    /// That never came.
    pub lost: u64,
    /// That came again.
    pub repeated: u64,
    /// That came after a later one.
    pub disordered: u64,
}

impl Tally {
    /// A message has come.
    pub fn count(&mut self, number: u64) {
        if number >= self.next {
            // More than this is never missing where anything works at all.
            self.missing.extend((self.next..number).take(MISSING_MAX));
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.disordered += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// Some have come at this time.
    pub fn at(&mut self, now: u64) {
        if let Some(length) = self.last.replace(now).map(|last| now.saturating_sub(last))
            && length >= PAUSE_MIN
            && self.pauses.len() < PAUSES_MAX
        {
            self.pauses.push(Pause { end: now, length });
        }
    }

    /// Different messages that have come.
    pub fn arrived(&self) -> u64 {
        self.next.saturating_sub(self.missing.len() as u64)
    }

    /// When the last ones came.
    pub fn last(&self) -> u64 {
        self.last.unwrap_or_default()
    }

    /// Of so many that were sent.
    pub fn counts(&self, sent: u64) -> Counts {
        let arrived = self.arrived();
        let lost = sent.saturating_sub(arrived);
        Counts { arrived, lost, repeated: self.repeated, disordered: self.disordered }
    }

    /// All pauses worth the name.
    pub fn pauses(&self) -> &[Pause] {
        &self.pauses
    }
}

impl Counts {
    /// Whether each came once and in order.
    pub const fn is_right(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.disordered == 0
    }
}

const MISSING_MAX: usize = 1_000_000;
/// Shorter ones are of no interest.
const PAUSE_MIN: u64 = 2_000_000;
const PAUSES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(numbers: &[u64], sent: u64) -> [u64; 4] {
        let mut tally = Tally::default();
        numbers.iter().for_each(|number| tally.count(*number));
        let Counts { arrived, lost, repeated, disordered } = tally.counts(sent);
        [arrived, lost, repeated, disordered]
    }

    #[test]
    fn what_is_lost_repeated_or_late_is_counted_as_that() {
        assert_eq!(counted(&[0, 1, 2, 3], 4), [4, 0, 0, 0]);
        assert_eq!(counted(&[], 4), [0, 4, 0, 0]);
        assert_eq!(counted(&[1, 3], 6), [2, 4, 0, 0], "first, middle and last ones missing");
        assert_eq!(counted(&[0, 2, 1, 3], 4), [4, 0, 0, 1]);
        assert_eq!(counted(&[0, 1, 1, 0, 2], 3), [3, 0, 2, 0]);
        assert_eq!(counted(&[0, 2, 1, 1], 3), [3, 0, 1, 1]);
    }

    #[test]
    fn a_pause_is_what_lies_between_two_arrivals() {
        let mut tally = Tally::default();
        [1_000_000, 1_900_000, 9_000_000, 9_000_001].iter().for_each(|now| tally.at(*now));
        assert_eq!(tally.pauses(), [Pause { end: 9_000_000, length: 7_100_000 }]);
        assert_eq!(tally.last(), 9_000_001);
    }
}
