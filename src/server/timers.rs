//! When the core wants to be woken.

use super::io::SessionId;
use crate::wire::id::RoomId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// What is due. Whoever is woken looks at its own state: an entry may be older than what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Login deadline, then keep-alives.
    Session(SessionId),
    /// Leases, committers, lost members.
    Room(RoomId),
    /// Old rooms, logs and counters.
    Housekeeping,
}

/// All of them, soonest first.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Duration, Timer)>>);

impl Timers {
    pub(super) fn set(&mut self, due: Duration, timer: Timer) {
        self.0.push(Reverse((due, timer)));
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// The next one that is due.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}
