//! BBR, after draft-ietf-ccwg-bbr (version 3): sends at the rate that the path was seen to deliver, with about one
//! bandwidth-delay product under way, and now and then probes for more bandwidth and for a shorter round trip.
//!
//! Where it leaves the draft:
//! - Loss is congestion only beyond what the path loses while we send slowly (`losses`), not from 2 % on.
//! - The round trip is probed only if its minimum was not seen again: mostly the slow phase of each cycle shows it.
//! - Probing up ends when a quarter of the path's content is queued, as in version 1, not after three rounds.
//! - Start-up ends in one round when delay or loss confirm that the rate grows no more.
//! - On paths shorter than a millisecond the window alone paces: timers are coarser than that.

mod losses;
mod path;
mod phase;

use std::time::Duration;

use super::pacer::burst;
use super::{ASSUMED_RTT, AckSample, Controller, INITIAL_WINDOW, LossSample, over, per_second, percent};
use losses::Losses;
use path::Path;
use phase::{Phase, Phases};

#[derive(Debug)]
pub(super) struct Bbr {
    datagram: u64,
    path: Path,
    losses: Losses,
    phases: Phases,
    bounds: Bounds,
    // Cycles in which a queue stayed although we gave way; so many cycles more we do not.
    stubborn_cycles: u32,
    competing: u32,
    // Bytes in flight allowed, and bytes a second.
    window: u64,
    pacing: u64,
    // The window before a retransmission timeout, or before the round trip was probed.
    saved_window: Option<u64>,
    // Probing cycles so far, the shortest round trip when the latest began, and whether it drains the path deeply: a
    // queue that was there before us is part of the shortest round trip, and only draining more than we filled shows it.
    cycles: u32,
    min_rtt_before: Option<Duration>,
    deep: bool,
    // Bytes in flight when the packet left that was lost last.
    lost_at: u64,
}

/// What congestion taught.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    // Bytes in flight at which probing met congestion.
    inflight: Option<u64>,
    // Until the next probe: bytes a second, bytes in flight.
    short_rate: Option<u64>,
    short_inflight: Option<u64>,
    // Rounds in a row with more loss than the path's own, and with a queue all along.
    lossy_rounds: u32,
    queued_rounds: u32,
    // In this cycle: we gave way to a queue; rounds with and without one since.
    gave_way: bool,
    full_rounds: u32,
    empty_rounds: u32,
}

impl Bbr {
    pub(super) fn new(datagram: u64, now: Duration) -> Self {
        let datagram = datagram.max(1);
        Self {
            datagram,
            path: Path::default(),
            losses: Losses::new(datagram),
            phases: Phases::new(now),
            bounds: Bounds::default(),
            stubborn_cycles: 0,
            competing: 0,
            window: INITIAL_WINDOW.max(datagram * LEAST_PACKETS),
            pacing: percent(per_second(INITIAL_WINDOW, ASSUMED_RTT), phase::STARTUP_GAIN),
            saved_window: None,
            cycles: 0,
            min_rtt_before: None,
            deep: false,
            lost_at: 0,
        }
    }

    /// Bytes a second that the path is believed to carry now.
    fn rate(&self) -> u64 {
        self.bounds.short_rate.unwrap_or(self.path.max_rate())
    }

    /// `gain` hundredths of what fills the path, and room for whole bursts both ways.
    fn inflight(&self, gain: u64) -> u64 {
        let rate = self.rate();
        let content = percent(self.path.bdp(rate), gain);
        (content + over(rate, SCHEDULING) + burst(rate) * 3).max(self.datagram * LEAST_PACKETS)
    }

    /// Bytes in flight that leave no queue.
    fn without_queue(&self) -> u64 {
        let rate = self.rate();
        (self.path.bdp(rate) + burst(rate)).max(self.datagram * LEAST_PACKETS)
    }

    fn on_round(&mut self, ack: &AckSample) {
        let queued = self.path.round_was_queued();
        let lossy = self.losses.end_round() || ack.ce;
        self.bounds.lossy_rounds = if lossy { self.bounds.lossy_rounds + 1 } else { 0 };
        // A queue that we gave way to and that vanishes needs no more of it.
        let vanishes = self.bounds.gave_way && self.path.queue_vanishes();
        self.bounds.queued_rounds = if queued && !vanishes { self.bounds.queued_rounds + 1 } else { 0 };
        if self.bounds.gave_way {
            self.bounds.full_rounds += u32::from(queued);
            self.bounds.empty_rounds += u32::from(!queued);
        }
        match self.phases.phase() {
            Phase::Startup => {
                let queued = queued || ack.rtt.is_some_and(|rtt| self.path.is_queued(rtt));
                self.phases.check_plateau(&self.path, queued, lossy);
            }
            Phase::Drain | Phase::Up | Phase::ProbeRtt => {}
            // Loss with a queue is congestion. Loss without one may be a short buffer's: once is chance.
            Phase::Down | Phase::Cruise | Phase::Refill if lossy && (queued || self.bounds.lossy_rounds > 1) => {
                self.slow_down();
            }
            Phase::Cruise if self.bounds.queued_rounds > 1 && self.competing == 0 => self.give_way(),
            Phase::Cruise if self.bounds.gave_way && !queued && !lossy => self.take_back(),
            Phase::Down | Phase::Cruise | Phase::Refill => {}
        }
    }

    /// A queue that stays although we send no faster than the path was seen to deliver: others of our kind have shares
    /// that add up to too much. A little less than what was delivered empties it.
    fn give_way(&mut self) {
        let rate = self.rate();
        let least = percent(self.path.max_rate(), GIVE_WAY_LEAST);
        // What was delivered to the slow phase's packets is not what the path can.
        let slow = self.phases.rounds(&self.path) < 2;
        let less = percent(if slow { rate } else { self.path.round.seen.rate }, GIVE_WAY);
        self.bounds.gave_way = true;
        self.bounds.queued_rounds = 0;
        self.bounds.short_rate = Some(less.max(least).min(rate));
    }

    /// The queue that we gave way to has gone: a little more each round, until it shows again. The larger part of that is
    /// the same for every flow and what is given is a share, so flows that see the same queue come to equal rates.
    fn take_back(&mut self) {
        let Some(rate) = self.bounds.short_rate else { return };
        let step = per_second(self.datagram * STEP_PACKETS, self.path.min_rtt().unwrap_or(ASSUMED_RTT));
        let most = percent(self.path.max_rate(), 125);
        self.bounds.short_rate = Some((rate + step.min(rate / 25) + rate / 200).min(most));
    }

    /// Before probing again, what holds for one cycle is forgotten. Who fills the queue although we gave way is not of our
    /// kind: giving way to it again soon would leave us nothing.
    fn forget_cycle(&mut self) {
        self.competing = self.competing.saturating_sub(1);
        match self.bounds.short_rate {
            Some(_) if self.bounds.full_rounds > self.bounds.empty_rounds * 3 => {
                self.stubborn_cycles += 1;
                self.competing = if self.stubborn_cycles > 1 { COMPETING_CYCLES } else { 0 };
            }
            Some(rate) if self.bounds.gave_way => {
                self.stubborn_cycles = 0;
                self.path.set_max_rate(rate);
            }
            _ if self.competing == 0 => self.stubborn_cycles = 0,
            _ => {}
        }
        self.bounds = Bounds { inflight: self.bounds.inflight, ..Bounds::default() };
    }

    /// Congestion: no faster than what was delivered, nor than 85 % of what was believed.
    fn slow_down(&mut self) {
        let rate = self.rate();
        self.bounds.short_rate = Some(percent(rate, BACK_OFF).max(self.path.round.seen.rate.min(rate)));
        let inflight = self.bounds.short_inflight.unwrap_or(self.window).min(self.window);
        self.bounds.short_inflight =
            Some(percent(inflight, BACK_OFF).max(self.path.round.seen.delivered.min(inflight)));
    }

    fn set_pacing(&mut self, ack: &AckSample) {
        if self.path.min_rtt().is_none() {
            return;
        }
        let mut gain = self.phases.pacing_gain();
        if self.phases.phase() == Phase::Down && self.deep {
            gain = DEEP_GAIN;
        } else if self.phases.phase() == Phase::Down && self.losses.floor() > LOSSY_PATH {
            // Slow enough to tell the path's loss from that of several senders' making.
            gain = LOSSY_GAIN;
        }
        if self.holds_back(ack) {
            gain = CAREFUL_GAIN;
        }
        let short = self.path.min_rtt().is_some_and(|rtt| rtt < SHORT_PATH);
        let gain = if short { gain.max(200) } else { gain };
        // What the path loses by itself is sent on top, most of it.
        let own = self.losses.floor().min(COMPENSATED_MOST) * 3 / 4;
        let rate = percent(self.rate() * 10_000 / (10_000 - own), gain);
        if self.phases.is_full() {
            self.pacing = rate;
        } else {
            // A small window leaves within half a round trip, so that the next one can be larger sooner.
            let least = per_second(self.window.min(FAST_START) * 2, ack.smoothed_rtt).min(INITIAL_PACING_MAX);
            self.pacing = if self.holds_back(ack) { rate } else { self.pacing.max(rate).max(least) };
        }
    }

    /// In start-up a queue is the first sign of the limit: little grows while there is one.
    fn holds_back(&self, ack: &AckSample) -> bool {
        self.phases.phase() == Phase::Startup && ack.rtt.is_some_and(|rtt| self.path.is_queued(rtt))
    }

    fn set_window(&mut self, ack: &AckSample) {
        let mut gain = self.phases.window_gain();
        if self.competing > 0 && self.phases.phase() != Phase::Up {
            gain = COMPETING_GAIN;
        }
        let most = self.inflight(gain) + self.path.burst_allowance();
        if self.phases.is_full() {
            self.window = (self.window + ack.acked).min(most);
        } else if self.holds_back(ack) {
            let careful = self.inflight(CAREFUL_GAIN) + self.path.burst_allowance();
            self.window = (self.window + ack.acked).min(careful.max(self.window));
        } else {
            // Small windows grow faster than they are acknowledged: the pacing rate is the brake.
            let growth = if self.window < FAST_START { ack.acked * 2 } else { ack.acked };
            self.window = (self.window + growth).min(most.max(INITIAL_WINDOW).max(self.window));
        }
        let least = self.datagram * LEAST_PACKETS;
        self.window = match self.phases.phase() {
            Phase::ProbeRtt => self.window.min(self.inflight(50)),
            Phase::Startup | Phase::Drain | Phase::Refill | Phase::Up => self.window,
            Phase::Down | Phase::Cruise => {
                let bound = self.bounds.inflight.map(|bound| percent(bound, HEADROOM).max(self.inflight(100)));
                self.window.min(bound.unwrap_or(u64::MAX)).min(self.bounds.short_inflight.unwrap_or(u64::MAX))
            }
        }
        .max(least);
    }

    /// Moves on from the phase at hand when its time has come.
    fn step(&mut self, ack: &AckSample) {
        let now = ack.now;
        let content = self.without_queue();
        let drained = if self.deep { percent(content, DEEP) } else { content };
        match self.phases.phase() {
            Phase::Startup if self.phases.is_full() => {
                self.losses.slow_from(now);
                self.phases.enter(Phase::Drain, now, &self.path);
            }
            Phase::Drain if ack.in_flight <= content => self.enter_down(now),
            Phase::Down if self.phases.slowed_enough(now, &self.path, ack.in_flight <= drained) => {
                self.losses.slow_until(now);
                self.phases.enter(Phase::Cruise, now, &self.path);
            }
            Phase::Down | Phase::Cruise if self.phases.probe_is_due(now, &self.path) => {
                self.losses.slow_until(now);
                self.forget_cycle();
                self.phases.enter(Phase::Refill, now, &self.path);
            }
            Phase::Refill if self.phases.rounds(&self.path) >= 1 => {
                self.losses.probe_from(now);
                self.phases.enter(Phase::Up, now, &self.path);
            }
            Phase::Up => self.step_up(ack),
            _ => {}
        }
        self.step_probe_rtt(ack);
    }

    fn step_up(&mut self, ack: &AckSample) {
        if self.losses.probe_is_congested() || ack.ce {
            self.bounds.inflight = Some(self.lost_at.max(percent(self.inflight(100), BACK_OFF)));
            self.enter_down(ack.now);
            return;
        }
        // What goes well is no bound.
        let in_flight = ack.in_flight + ack.acked;
        self.bounds.inflight = self.bounds.inflight.filter(|bound| in_flight <= *bound);
        if self.phases.probed_enough(ack, &self.path, self.inflight(125)) {
            self.enter_down(ack.now);
        }
    }

    fn enter_down(&mut self, now: Duration) {
        self.path.next_cycle();
        self.cycles += 1;
        // The first cycle, and on from there while it helps.
        let min_rtt = self.path.min_rtt();
        self.deep = self.cycles % DEEP_CYCLES == 1 || min_rtt < self.min_rtt_before;
        self.min_rtt_before = min_rtt;
        self.losses.probe_until(now);
        self.losses.slow_from(now);
        self.phases.enter(Phase::Down, now, &self.path);
    }

    fn step_probe_rtt(&mut self, ack: &AckSample) {
        if self.phases.phase() != Phase::ProbeRtt {
            if self.phases.is_full() && self.path.min_rtt_older_than(ack.now, MIN_RTT_LASTS) {
                self.saved_window = Some(self.window);
                self.losses.slow_until(ack.now);
                self.phases.enter(Phase::ProbeRtt, ack.now, &self.path);
            }
            return;
        }
        if let Some(rtt) = self.phases.drained_rtt(ack, &self.path, self.inflight(50)) {
            self.path.set_min_rtt(ack.now, Some(rtt));
            self.window = self.saved_window.take().unwrap_or(self.window).max(self.window);
            self.phases.enter(Phase::Cruise, ack.now, &self.path);
        }
    }
}

impl Controller for Bbr {
    fn on_sent(&mut self, _now: Duration, _bytes: u64, _in_flight: u64) {}

    fn on_ack(&mut self, ack: &AckSample) {
        if self.phases.phase() != Phase::ProbeRtt
            && let Some(window) = self.saved_window.take()
        {
            self.window = self.window.max(window);
        }
        if let Some(sample) = ack.rate {
            self.losses.on_acked(sample.sent_at, ack.acked);
        }
        self.path.on_ack(ack, self.window);
        if self.path.round.started {
            self.on_round(ack);
        }
        self.step(ack);
        self.set_pacing(ack);
        self.set_window(ack);
    }

    fn on_lost(&mut self, lost: &LossSample) {
        self.losses.on_lost(lost.sent_at_loss, lost.lost);
        self.lost_at = lost.prior_in_flight;
    }

    fn on_timeout(&mut self, _now: Duration) {
        self.saved_window = Some(self.saved_window.unwrap_or(0).max(self.window));
        self.window = self.datagram * LEAST_PACKETS;
    }

    fn on_datagram_size(&mut self, datagram: u64) {
        self.datagram = datagram.max(1);
        self.losses.set_datagram(self.datagram);
        self.window = self.window.max(self.datagram * LEAST_PACKETS);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.pacing)
    }
}

/// As many datagrams may always be under way.
const LEAST_PACKETS: u64 = 4;
/// Hundredths kept of rate and window when congestion shows.
const BACK_OFF: u64 = 85;
/// Hundredths sent of what was delivered while a queue stayed, and the least of what is believed.
const GIVE_WAY: u64 = 97;
const GIVE_WAY_LEAST: u64 = 50;
/// Datagrams for each round trip that are taken back in a round.
const STEP_PACKETS: u64 = 4;
const COMPETING_CYCLES: u32 = 6;
/// Hundredths of what fills the path, beside others that fill the queue: with twice that they would starve.
const COMPETING_GAIN: u64 = 150;
/// Hundredths of what fills the path that are left in a cycle that drains deeply, hundredths of the rate meanwhile, and
/// how many cycles go by between two.
const DEEP: u64 = 75;
const DEEP_GAIN: u64 = 60;
const DEEP_CYCLES: u32 = 4;
/// Parts of 10,000 from which on a path counts as lossy by itself, hundredths of the rate in its slow phases, and the
/// most that is made up for.
const LOSSY_PATH: u64 = 100;
const LOSSY_GAIN: u64 = 75;
const COMPENSATED_MOST: u64 = 2_000;
/// Hundredths of the rate while a queue stands in start-up: not less than delivered, or jitter could end it.
const CAREFUL_GAIN: u64 = 125;
/// Up to this window a round may nearly triple it, beyond it doubles.
const FAST_START: u64 = 1 << 20;
/// Hundredths used of the window at which probing met congestion: the rest is left to others.
const HEADROOM: u64 = 85;
/// Bytes of this long are under way beyond what fills the path, for both ends wake up late.
const SCHEDULING: Duration = Duration::from_millis(1);
const SHORT_PATH: Duration = Duration::from_millis(1);
/// The shortest round trip is looked for when it was not seen for so long.
const MIN_RTT_LASTS: Duration = Duration::from_secs(5);
/// The first bytes leave no faster, however short the path.
const INITIAL_PACING_MAX: u64 = 1 << 30;
