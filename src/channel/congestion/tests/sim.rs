//! Several flows through one bottleneck, packet by packet, in virtual time from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::flow::{Flow, Plan};

/// The path that all flows share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Net {
    /// Bytes a second of IP packets.
    pub(super) rate: u64,
    /// Bytes that wait in front of it.
    pub(super) queue: u64,
    /// Without any queue.
    pub(super) rtt: Duration,
    /// Parts of 10,000, each way.
    pub(super) loss: u64,
    pub(super) datagram: u64,
    /// Packets take longer by up to this, in order.
    pub(super) jitter: Duration,
    /// The path carries nothing between these.
    pub(super) blackout: Option<(Duration, Duration)>,
}

impl Net {
    /// `queue` is a time at the bottleneck's rate.
    pub(super) fn new(mbit: u64, rtt_ms: u64, queue_ms: u64) -> Self {
        let rate = mbit * 125_000;
        Self {
            rate,
            queue: rate * queue_ms / 1_000,
            rtt: Duration::from_millis(rtt_ms),
            loss: 0,
            datagram: 1_452,
            jitter: Duration::ZERO,
            blackout: None,
        }
    }

    pub(super) fn loss(self, parts: u64) -> Self {
        Self { loss: parts, ..self }
    }
}

#[derive(Debug)]
pub(super) struct Sim {
    net: Net,
    pub(super) flows: Vec<Flow>,
    rng: ChaCha8Rng,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    serial: u64,
    pub(super) now: Duration,
    busy_until: Duration,
    last_arrival: Duration,
    /// For each flow (when, how long it waited) of each packet that was queued, and when packets were dropped.
    pub(super) waits: Vec<Vec<(Duration, Duration)>>,
    pub(super) drops: Vec<Vec<Duration>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive { flow: usize, packet: u64 },
    AckTimer { flow: usize, after: usize },
    Ack { flow: usize, upto: usize },
    Wake { flow: usize },
}

impl Sim {
    pub(super) fn new(net: Net, plans: &[Plan], seed: u64) -> Self {
        let flows: Vec<_> = plans.iter().map(|plan| Flow::new(*plan, net.datagram)).collect();
        let mut sim = Self {
            net,
            rng: ChaCha8Rng::seed_from_u64(seed),
            events: BinaryHeap::new(),
            serial: 0,
            now: Duration::ZERO,
            busy_until: Duration::ZERO,
            last_arrival: Duration::ZERO,
            waits: vec![Vec::new(); flows.len()],
            drops: vec![Vec::new(); flows.len()],
            flows,
        };
        for (flow, plan) in plans.iter().enumerate() {
            sim.at(plan.starts_at, Event::Wake { flow });
        }
        sim
    }

    /// Runs until `end`, or until all flows are done.
    pub(super) fn run(&mut self, end: Duration) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > end || self.flows.iter().all(|flow| flow.stats.done_at.is_some()) {
                break;
            }
            self.now = at;
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrive { flow, packet } => self.arrive(flow, packet),
            Event::AckTimer { flow, after } => {
                if self.flows[flow].ack_sent_for <= after {
                    self.send_ack(flow);
                }
            }
            Event::Ack { flow, upto } => {
                self.flows[flow].on_ack(self.now, upto);
                self.transmit(flow);
            }
            Event::Wake { flow } => {
                if self.flows[flow].wake_at.is_some_and(|at| at <= self.now) {
                    self.transmit(flow);
                }
            }
        }
    }

    fn arrive(&mut self, flow: usize, packet: u64) {
        let state = &mut self.flows[flow];
        let gap = state.arrived.last().map_or(packet != 0, |last| packet != last + 1);
        state.arrived.push(packet);
        let waiting = state.arrived.len() - state.ack_sent_for;
        if gap || waiting as u64 >= state.plan.ack_every {
            self.send_ack(flow);
        } else if waiting == 1 {
            let (at, after) = (self.now + state.plan.ack_delay, state.ack_sent_for);
            self.at(at, Event::AckTimer { flow, after });
        }
    }

    fn send_ack(&mut self, flow: usize) {
        let state = &mut self.flows[flow];
        state.ack_sent_for = state.arrived.len();
        let upto = state.ack_sent_for;
        if !self.is_lost() {
            self.at(self.now + self.net.rtt / 2, Event::Ack { flow, upto });
        }
    }

    fn transmit(&mut self, flow: usize) {
        for packet in self.flows[flow].transmit(self.now) {
            self.bottleneck(flow, packet);
        }
        if let Some(at) = self.flows[flow].wake_at {
            let late = self.flows[flow].plan.late.as_nanos() as u64;
            let late = Duration::from_nanos(if late == 0 { 0 } else { self.rng.next_u64() % late });
            self.at(at.max(self.now) + late, Event::Wake { flow });
        }
    }

    /// A packet reaches the queue: it has used link time even if it is lost behind it.
    fn bottleneck(&mut self, flow: usize, packet: u64) {
        let bytes = self.net.datagram + IP_UDP;
        let wait = self.busy_until.saturating_sub(self.now);
        let backlog = super::super::over(self.net.rate, wait);
        if !wait.is_zero() && backlog + bytes > self.net.queue {
            self.drops[flow].push(self.now);
            return;
        }
        self.waits[flow].push((self.now, wait));
        self.busy_until = self.busy_until.max(self.now) + super::super::time_for(bytes, self.net.rate);
        if !self.is_lost() {
            let jitter = (self.net.jitter.as_nanos() as u64).max(1);
            let late = Duration::from_nanos(self.rng.next_u64() % jitter);
            self.last_arrival = self.last_arrival.max(self.busy_until + self.net.rtt / 2 + late);
            self.at(self.last_arrival, Event::Arrive { flow, packet });
        }
    }

    fn is_lost(&mut self) -> bool {
        let dark = self.net.blackout.is_some_and(|(from, to)| self.now >= from && self.now < to);
        self.rng.next_u64() % 10_000 < self.net.loss || dark
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, event)));
    }

    /// Queueing delay that a flow's packets met from `from` on: median and 95th percentile.
    pub(super) fn queueing(&self, flow: usize, from: Duration) -> (Duration, Duration) {
        let mut waits: Vec<_> = self.waits[flow].iter().filter(|(at, _)| *at >= from).map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
        (at(50), at(95))
    }

    /// Share of a flow's packets that the queue dropped from `from` on.
    pub(super) fn dropped(&self, flow: usize, from: Duration) -> f64 {
        let dropped = self.drops[flow].iter().filter(|at| **at >= from).count() as f64;
        let passed = self.waits[flow].iter().filter(|(at, _)| *at >= from).count() as f64;
        dropped / (dropped + passed).max(1.0)
    }
}

/// Bytes of IP and UDP headers.
const IP_UDP: u64 = 28;
