//! The phases that BBR goes through, and when each ends (draft-ietf-ccwg-bbr, "State Machine").

use std::time::Duration;

use super::super::{AckSample, percent};
use super::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Doubling and more, until the path delivers no faster.
    Startup,
    /// Empties the queue that start-up left.
    Drain,
    /// Slower than the path, to empty the queue and to make room for others.
    Down,
    /// At the path's rate.
    Cruise,
    /// Fills the path before probing, for a round.
    Refill,
    /// Faster than the path, to see whether it has more.
    Up,
    /// Little under way, to see the path's round trip without a queue.
    ProbeRtt,
}

#[derive(Debug)]
pub(super) struct Phases {
    phase: Phase,
    since: Duration,
    since_round: u64,
    // Start-up found the path's limit.
    full: bool,
    plateau: Plateau,
    // When the cycle began, and how long after that it probes for more.
    cycle_from: Duration,
    cycle_lasts: Duration,
    drained: Option<Drained>,
}

/// Whether the rate still grows.
#[derive(Debug, Clone, Copy, Default)]
struct Plateau {
    best: u64,
    rounds: u32,
}

#[derive(Debug, Clone, Copy)]
struct Drained {
    since: Duration,
    since_round: u64,
    min_rtt: Option<Duration>,
}

impl Phases {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Startup,
            since: now,
            since_round: 0,
            full: false,
            plateau: Plateau::default(),
            cycle_from: now,
            cycle_lasts: CYCLE,
            drained: None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether start-up has found the path's limit.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Duration, path: &Path) {
        if phase == Phase::Down {
            self.cycle_from = now;
            self.cycle_lasts = CYCLE + spread(now, path.max_rate());
        }
        self.plateau = Plateau { best: path.max_rate(), rounds: 0 };
        self.drained = None;
        (self.phase, self.since, self.since_round) = (phase, now, path.round.count);
    }

    /// Hundredths of the path's rate.
    pub(super) fn pacing_gain(&self) -> u64 {
        match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => 50,
            Phase::Down => 90,
            Phase::Cruise | Phase::Refill | Phase::ProbeRtt => 99,
            Phase::Up => 125,
        }
    }

    /// Hundredths of what fills the path.
    pub(super) fn window_gain(&self) -> u64 {
        match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Up => 225,
            _ => 200,
        }
    }

    /// A round of start-up ends. Three rounds without growth by a quarter end it; a queue or loss make them fewer.
    pub(super) fn check_plateau(&mut self, path: &Path, queued: bool, lossy: bool) {
        if path.round.seen.app_limited {
            return;
        }
        // Where a queue showed, we grew less ourselves.
        if self.grew(path, if queued { 110 } else { 125 }) {
            return;
        }
        self.plateau.rounds += u32::from(queued) + u32::from(lossy);
        self.full = self.plateau.rounds >= 3;
    }

    /// Counts a round without growth to `growth` hundredths of the best before; returns whether there was such growth.
    fn grew(&mut self, path: &Path, growth: u64) -> bool {
        if path.max_rate() >= percent(self.plateau.best, growth) {
            self.plateau = Plateau { best: path.max_rate(), rounds: 0 };
            return true;
        }
        self.plateau.rounds += 1;
        false
    }

    fn lasted(&self, now: Duration, path: &Path, round_trips: u32) -> bool {
        now >= self.since + path.min_rtt().unwrap_or_default() * round_trips
    }

    /// Whether the slow phase has lasted long enough: a round trip, and until the path is drained if that happens.
    pub(super) fn slowed_enough(&self, now: Duration, path: &Path, drained: bool) -> bool {
        self.lasted(now, path, if drained { 1 } else { DOWN_ROUNDS })
    }

    /// Rounds since the phase began.
    pub(super) fn rounds(&self, path: &Path) -> u64 {
        path.round.count - self.since_round
    }

    pub(super) fn probe_is_due(&self, now: Duration, path: &Path) -> bool {
        let rounds = path.min_rtt().unwrap_or_default() * CYCLE_ROUNDS;
        now >= self.cycle_from + self.cycle_lasts.min(rounds.max(CYCLE_LEAST))
    }

    /// Whether probing for more has filled the path above `target` bytes, or has got nowhere.
    pub(super) fn probed_enough(&mut self, ack: &AckSample, path: &Path, target: u64) -> bool {
        if !self.lasted(ack.now, path, 1) {
            return false;
        }
        if path.round.started {
            self.grew(path, 110);
        }
        let queued = ack.rtt.is_some_and(|rtt| path.is_queued(rtt));
        let filled = ack.in_flight + ack.acked >= target && (queued || self.plateau.rounds > 0);
        filled || self.plateau.rounds >= UP_ROUNDS
    }

    /// While the round trip is probed: the shortest seen once little has been under way for a round and a while.
    pub(super) fn drained_rtt(&mut self, ack: &AckSample, path: &Path, target: u64) -> Option<Duration> {
        let count = path.round.count;
        let Some(drained) = &mut self.drained else {
            if ack.in_flight <= target {
                self.drained = Some(Drained { since: ack.now, since_round: count, min_rtt: ack.rtt });
            }
            return None;
        };
        if let Some(rtt) = ack.rtt {
            drained.min_rtt = Some(drained.min_rtt.map_or(rtt, |min| min.min(rtt)));
        }
        let long = ack.now >= drained.since + PROBE_RTT_LASTS && count > drained.since_round;
        drained.min_rtt.filter(|_| long)
    }
}

/// Up to a second, so that flows do not probe in step.
fn spread(now: Duration, rate: u64) -> Duration {
    let mixed = (now.as_nanos() as u64 ^ rate.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Duration::from_millis((mixed >> 32) % 1_000)
}

/// The least gain that lets the rate double in a round while pacing (draft-ietf-ccwg-bbr, BBRStartupPacingGain).
pub(super) const STARTUP_GAIN: u64 = 277;
/// From one probe for more bandwidth to the next, two to three seconds, or fewer on short paths.
const CYCLE: Duration = Duration::from_secs(2);
const CYCLE_ROUNDS: u32 = 63;
const CYCLE_LEAST: Duration = Duration::from_millis(200);
/// Round trips of the slow phase at most.
const DOWN_ROUNDS: u32 = 4;
/// Rounds of probing up without the rate growing.
const UP_ROUNDS: u32 = 4;
const PROBE_RTT_LASTS: Duration = Duration::from_millis(50);
