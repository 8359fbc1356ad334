//! One sender and its receiver: a minimal selective repeat around a controller, paced, with a driver whose timers are
//! late.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::{AckSample, CongestionKind, Controller, LossSample, Pacer, RateSampler, SentState, controller};

/// What a flow is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) kind: CongestionKind,
    pub(super) starts_at: Duration,
    /// Packets to deliver; `u64::MAX` never ends.
    pub(super) packets: u64,
    /// Acks come for so many packets at once, or after `ack_delay`.
    pub(super) ack_every: u64,
    pub(super) ack_delay: Duration,
    /// As TCP's: sends when acks come, not paced.
    pub(super) unpaced: bool,
    /// Timers come later than asked for by up to this.
    pub(super) late: Duration,
    /// At most so many bytes under way: the receiver's window.
    pub(super) receive_window: u64,
}

impl Plan {
    pub(super) const fn new(kind: CongestionKind) -> Self {
        Self {
            kind,
            starts_at: Duration::ZERO,
            packets: u64::MAX,
            ack_every: 8,
            ack_delay: Duration::from_millis(2),
            unpaced: false,
            late: Duration::from_millis(1),
            receive_window: u64::MAX,
        }
    }
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) plan: Plan,
    pub(super) control: Box<dyn Controller>,
    sampler: RateSampler,
    pacer: Pacer,
    datagram: u64,
    // Packet `first + i` is at i.
    records: VecDeque<Record>,
    first: u64,
    // No packet before this one is open.
    open_from: u64,
    next: u64,
    in_flight: u64,
    // Packets that were never sent, and such as are to be repeated.
    unsent: u64,
    repeats: u64,
    rtt: Option<(Duration, Duration)>,
    largest_acked: Option<u64>,
    last_heard: Duration,
    timeouts: u32,
    // The receiver's side: packets in the order of arrival; how many were acknowledged, how many the sender has heard of.
    pub(super) arrived: Vec<u64>,
    pub(super) ack_sent_for: usize,
    heard: usize,
    pub(super) wake_at: Option<Duration>,
    pub(super) stats: FlowStats,
}

#[derive(Debug, Default)]
pub(super) struct FlowStats {
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) lost: u64,
    pub(super) spurious: u64,
    pub(super) done_at: Option<Duration>,
    /// (time, packets acknowledged so far), about every 10 ms.
    pub(super) progress: Vec<(Duration, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    sent_at: Duration,
    state: SentState,
    in_flight: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Open,
    Acked,
    Lost,
}

impl Flow {
    pub(super) fn new(plan: Plan, datagram: u64) -> Self {
        Self {
            plan,
            control: controller(plan.kind, datagram, plan.starts_at),
            sampler: RateSampler::default(),
            pacer: Pacer::default(),
            datagram,
            records: VecDeque::new(),
            first: 0,
            open_from: 0,
            next: 0,
            in_flight: 0,
            unsent: plan.packets,
            repeats: 0,
            rtt: None,
            largest_acked: None,
            last_heard: plan.starts_at,
            timeouts: 0,
            arrived: Vec::new(),
            ack_sent_for: 0,
            heard: 0,
            wake_at: Some(plan.starts_at),
            stats: FlowStats::default(),
        }
    }

    /// Sends what may leave now: returns packet numbers, and sets when to wake up next.
    pub(super) fn transmit(&mut self, now: Duration) -> Vec<u64> {
        let mut out = Vec::new();
        self.wake_at = None;
        if self.stats.done_at.is_some() || now < self.plan.starts_at {
            return out;
        }
        self.check_timeout(now);
        self.pacer.set_rate(if self.plan.unpaced { None } else { self.control.pacing_rate() });
        loop {
            let window = self.control.window().min(self.plan.receive_window);
            let room = window.saturating_sub(self.in_flight) / self.datagram;
            let wanted = (self.repeats + self.unsent.min(1 << 30)).min(room);
            if wanted == 0 {
                if self.repeats == 0 && self.unsent == 0 {
                    self.sampler.set_app_limited(self.in_flight);
                }
                break;
            }
            let bytes = wanted * self.datagram;
            if let Some(at) = self.pacer.next_at(now, bytes) {
                self.wake_at = Some(at);
                break;
            }
            let batch =
                (self.pacer.budget(now) / self.datagram).clamp(1, (65_507 / self.datagram).clamp(1, 64)).min(wanted);
            for _ in 0..batch {
                out.push(self.send(now));
            }
        }
        let timer = self.timer();
        if self.in_flight > 0 {
            self.wake_at = Some(self.wake_at.map_or(timer, |at| at.min(timer)));
        }
        out
    }

    fn send(&mut self, now: Duration) -> u64 {
        if self.repeats > 0 {
            self.repeats -= 1;
        } else {
            self.unsent -= 1;
        }
        let state = self.sampler.on_sent(now, self.datagram, self.in_flight);
        self.in_flight += self.datagram;
        self.pacer.on_sent(self.datagram);
        self.control.on_sent(now, self.datagram, self.in_flight);
        self.records.push_back(Record { sent_at: now, state, in_flight: self.in_flight, fate: Fate::Open });
        self.next += 1;
        self.stats.sent += 1;
        self.next - 1
    }

    fn timer(&self) -> Duration {
        let (smoothed, variation) = self.rtt.unwrap_or((Duration::from_millis(300), Duration::from_millis(50)));
        self.last_heard + (smoothed + variation * 4 + Duration::from_millis(25)) * (1 << self.timeouts.min(4))
    }

    fn check_timeout(&mut self, now: Duration) {
        if self.in_flight == 0 || now < self.timer() {
            return;
        }
        self.timeouts += 1;
        self.last_heard = now;
        for i in 0..self.records.len() {
            self.lose(now, i);
        }
        self.control.on_timeout(now);
    }

    fn lose(&mut self, now: Duration, index: usize) {
        let record = &mut self.records[index];
        if record.fate != Fate::Open {
            return;
        }
        record.fate = Fate::Lost;
        let record = *record;
        self.in_flight -= self.datagram;
        self.repeats += 1;
        self.stats.lost += 1;
        self.control.on_lost(&LossSample {
            now,
            lost: self.datagram,
            in_flight: self.in_flight,
            sent_at_loss: record.sent_at,
            prior_in_flight: record.in_flight,
        });
    }

    /// An ack tells of the first `upto` arrivals.
    pub(super) fn on_ack(&mut self, now: Duration, upto: usize) {
        if upto <= self.heard {
            return;
        }
        let (mut acked, mut newest) = (0, None);
        for at in self.heard..upto {
            let packet = self.arrived[at];
            newest = newest.max(Some(packet));
            acked += self.take_ack(now, packet);
        }
        self.heard = upto;
        (self.last_heard, self.timeouts) = (now, 0);
        let newest = newest.unwrap();
        let rtt = if self.largest_acked.is_none_or(|largest| newest > largest) {
            self.largest_acked = Some(newest);
            self.sent_at(newest).map(|sent_at| now - sent_at)
        } else {
            None
        };
        if let Some(sample) = rtt {
            self.rtt = Some(match self.rtt {
                None => (sample, sample / 2),
                Some((smoothed, variation)) => {
                    ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
                }
            });
        }
        self.detect_losses(now);
        let sample = AckSample {
            now,
            acked,
            in_flight: self.in_flight,
            rtt,
            smoothed_rtt: self.rtt.map_or(Duration::from_millis(50), |(smoothed, _)| smoothed),
            rate: self.sampler.sample(now, rtt),
            ce: false,
        };
        self.control.on_ack(&sample);
        // What was lost long ago is not waited for any more.
        let old = |record: &Record| record.sent_at + Duration::from_secs(2) < now;
        while self.records.front().is_some_and(|r| r.fate == Fate::Acked || (r.fate == Fate::Lost && old(r))) {
            self.records.pop_front();
            self.first += 1;
        }
        self.note_progress(now);
    }

    fn sent_at(&self, packet: u64) -> Option<Duration> {
        let index = usize::try_from(packet.checked_sub(self.first)?).unwrap();
        self.records.get(index).map(|record| record.sent_at)
    }

    fn take_ack(&mut self, now: Duration, packet: u64) -> u64 {
        let datagram = self.datagram;
        if packet < self.first {
            return 0;
        }
        let record = &mut self.records[usize::try_from(packet - self.first).unwrap()];
        let fate = std::mem::replace(&mut record.fate, Fate::Acked);
        let record = *record;
        match fate {
            Fate::Open => {
                self.in_flight -= datagram;
                self.stats.acked += 1;
                self.sampler.on_acked(now, datagram, &record.state, record.sent_at);
                datagram
            }
            Fate::Lost => {
                self.stats.spurious += 1;
                self.stats.acked += 1;
                if self.repeats > 0 {
                    self.repeats -= 1;
                } else {
                    self.stats.acked -= 1;
                }
                0
            }
            Fate::Acked => 0,
        }
    }

    fn detect_losses(&mut self, now: Duration) {
        let (Some(largest), Some((smoothed, _))) = (self.largest_acked, self.rtt) else { return };
        let patience = smoothed * 9 / 8;
        self.open_from = self.open_from.max(self.first);
        let mut open = None;
        for packet in self.open_from..largest {
            let index = usize::try_from(packet - self.first).unwrap();
            let record = self.records[index];
            if record.fate == Fate::Open && (packet + 3 <= largest || record.sent_at + patience < now) {
                self.lose(now, index);
            } else if record.fate == Fate::Open {
                open = open.or(Some(packet));
            }
        }
        self.open_from = open.unwrap_or(largest);
    }

    fn note_progress(&mut self, now: Duration) {
        if self.stats.acked >= self.plan.packets && self.stats.done_at.is_none() {
            self.stats.done_at = Some(now);
        }
        let step = Duration::from_millis(10);
        if self.stats.progress.last().is_none_or(|(at, _)| *at + step <= now) {
            self.stats.progress.push((now, self.stats.acked));
        }
    }

    /// Bytes a second of datagrams acknowledged between two times.
    pub(super) fn rate_between(&self, from: Duration, to: Duration) -> f64 {
        let at = |time| {
            let index = self.stats.progress.partition_point(|(at, _)| *at <= time);
            index.checked_sub(1).map_or(0, |index| self.stats.progress[index].1)
        };
        (at(to) - at(from)) as f64 * self.datagram as f64 / (to - from).as_secs_f64()
    }
}
