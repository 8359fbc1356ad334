//! Flows that share a bottleneck of 100 Mbit/s.

use std::time::Duration;

use super::super::CongestionKind::{Bbr, Cubic};
use super::flow::Plan;
use super::sim::{Net, Sim};

/// Runs two flows, the second from 3 s on; returns the simulation and Mbit/s of each between `from` and `to`.
fn share(net: Net, plans: [Plan; 2], from: u64, to: u64) -> (Sim, [f64; 2]) {
    let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
    let late = Plan { starts_at: Duration::from_secs(3), ..plans[1] };
    let mut sim = Sim::new(net, &[plans[0], late], SEED);
    sim.run(to + Duration::from_secs(1));
    let rates = [0, 1].map(|flow| sim.flows[flow].rate_between(from, to) * 8e-6);
    let queues = [0, 1].map(|flow| sim.queueing(flow, from));
    let dropped = [0, 1].map(|flow| sim.dropped(flow, from) * 100.0);
    println!("seed {SEED}: {rates:.1?} Mbit/s, jain {:.3}, queue {queues:?}, {dropped:.2?} % dropped", jain(rates));
    (sim, rates)
}

#[test]
fn two_flows_share_evenly_and_keep_the_queue_short() {
    for (queue, longest) in [(50, 50), (200, 100)] {
        let (sim, rates) = share(Net::new(100, 50, queue), [Plan::new(Bbr); 2], 23, 33);
        assert!(jain(rates) > 0.9 && rates[0] + rates[1] > 92.0, "{rates:?}");
        let (median, p95) = sim.queueing(0, Duration::from_secs(23));
        assert!(median < Duration::from_millis(20) && p95 < Duration::from_millis(longest), "{median:?} {p95:?}");
        assert!(sim.dropped(0, Duration::from_secs(5)) < 0.01);
    }
}

#[test]
fn two_flows_share_evenly_on_a_lossy_path() {
    let (_, rates) = share(Net::new(100, 50, 50).loss(100), [Plan::new(Bbr); 2], 18, 28);
    assert!(jain(rates) > 0.9 && rates[0] + rates[1] > 90.0, "{rates:?}");
}

#[test]
fn two_flows_do_not_overrun_a_short_buffer() {
    let (sim, rates) = share(Net::new(100, 50, 5), [Plan::new(Bbr); 2], 13, 23);
    assert!(jain(rates) > 0.85, "{rates:?}");
    for flow in [0, 1] {
        let dropped = sim.dropped(flow, Duration::from_secs(5));
        assert!(dropped < 0.08, "{dropped}");
    }
}

#[test]
fn a_tcp_flow_keeps_its_share() {
    for queue in [50, 200] {
        for plans in [[Plan::new(Bbr), tcp()], [tcp(), Plan::new(Bbr)]] {
            let (_, rates) = share(Net::new(100, 50, queue), plans, 13, 43);
            let tcp = rates[usize::from(plans[1].unpaced)];
            assert!((0.25..0.8).contains(&(tcp / (rates[0] + rates[1]))), "{rates:?}");
        }
    }
}

/// Cubic as the kernel drives it: acks clock it, nothing is paced.
fn tcp() -> Plan {
    Plan { unpaced: true, ack_every: 2, late: Duration::ZERO, ..Plan::new(Cubic) }
}

/// Jain's index of fairness.
fn jain(rates: [f64; 2]) -> f64 {
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    (rates[0] + rates[1]).powi(2) / (2.0 * squares)
}

const SEED: u64 = 1;
