//! Pings: whether the neighbour is alive, and how far away.

use super::{Kind, Outgoing};
use crate::limits::{MESH_PING, MESH_SILENCE};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};

/// When the neighbour was last heard, in microseconds since the link's start.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    heard: AtomicU64,
    answered: AtomicU64,
    /// Of the last answer, plus one; 0 once it was taken.
    round_trip: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        let [heard, answered, round_trip] = [(); 3].map(|()| AtomicU64::new(0));
        Self { start: Instant::now(), heard, answered, round_trip }
    }

    /// Some bytes came.
    pub(super) fn heard(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
    }

    /// A ping came back. Of a stamp that we cannot have sent nothing follows.
    pub(super) fn answered(&self, stamp: [u8; 8]) {
        let now = self.now();
        if let Some(round_trip) = now.checked_sub(u64::from_be_bytes(stamp)) {
            self.answered.store(now, Ordering::Relaxed);
            self.round_trip.store(round_trip.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// The last round trip, once.
    pub(super) fn take_round_trip(&self) -> Option<Duration> {
        self.round_trip.swap(0, Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }

    /// Asks every [`MESH_PING`], and ends when the neighbour is silent. One that says much on a slow line may be late with its
    /// answers, so there what it says counts too, for a moment.
    pub(super) async fn keep(&self, outgoing: &Outgoing) {
        let mut ticks = interval(MESH_PING / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        let mut ask = true;
        loop {
            ticks.tick().await;
            if last.elapsed() > 2 * MESH_PING {
                // A process that was stopped itself must not take its own sleep for the neighbour's.
                self.heard();
                self.answered.store(self.now(), Ordering::Relaxed);
            }
            last = Instant::now();
            let now = self.now();
            let since = |at: &AtomicU64| Duration::from_micros(now.saturating_sub(at.load(Ordering::Relaxed)));
            let (answered, heard) = (since(&self.answered), since(&self.heard));
            if answered > MESH_SILENCE && (heard > MESH_SILENCE || answered > LATE) {
                return;
            }
            if ask {
                outgoing.pulse(Kind::Ping, self.now().to_be_bytes());
            }
            ask = !ask;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// An answer is never as late as this: little stands before it in the queues of both ends.
const LATE: Duration = Duration::from_secs(3);
