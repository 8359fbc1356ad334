//! The controllers against a simulated bottleneck.

mod flow;
mod sim;

use std::time::Duration;

use super::CongestionKind::{self, Bbr, Cubic};
use flow::Plan;
use sim::{Net, Sim};

/// Delivers a file through `net`; returns the simulation and Mbit/s of datagrams from start to end.
fn deliver(net: Net, plan: Plan, megabytes: u64, seed: u64) -> (Sim, f64) {
    let packets = (megabytes << 20) / net.datagram;
    let mut sim = Sim::new(net, &[Plan { packets, ..plan }], seed);
    sim.run(Duration::from_secs(600));
    let flow = &sim.flows[0];
    let done = flow.stats.done_at.expect("the file arrives");
    let mbit = (packets * net.datagram * 8) as f64 / 1e6 / done.as_secs_f64();
    let (median, p95) = sim.queueing(0, Duration::ZERO);
    println!(
        "seed {seed}: {mbit:.1} Mbit/s, {done:?}, queue {median:?} / {p95:?}, sent {} lost {} dropped {:.2} % spurious {}",
        flow.stats.sent,
        flow.stats.lost,
        sim.dropped(0, Duration::ZERO) * 100.0,
        flow.stats.spurious,
    );
    (sim, mbit)
}

#[test]
fn explore() {
    for (name, net) in [
        ("clean 200/50", Net::new(200, 50, 50)),
        ("1% 200/50", Net::new(200, 50, 50).loss(100)),
        ("5% 100/100", Net::new(100, 100, 50).loss(500)),
        (".1% 50/200", Net::new(50, 200, 50).loss(10)),
        ("20% 100/50", Net::new(100, 50, 50).loss(2000)),
        ("shallow 5ms 200/50", Net::new(200, 50, 5)),
        ("shallow 5ms 1% 200/50", Net::new(200, 50, 5).loss(100)),
        ("10 mbit 20ms", Net::new(10, 20, 100)),
        ("1000 mbit 10ms", Net::new(1000, 10, 20)),
    ] {
        for kind in [Bbr, Cubic] {
            if kind == Cubic && net.loss > 0 {
                continue;
            }
            print!("{name:24} {kind:?} ");
            let size = (net.rate * 12) >> 20;
            deliver(net, Plan::new(kind), size.min(256), 1);
        }
    }
}

#[test]
fn explore_shared() {
    for (name, net, plans) in [
        (
            "two",
            Net::new(100, 50, 50),
            vec![Plan::new(Bbr), Plan { starts_at: Duration::from_secs(3), ..Plan::new(Bbr) }],
        ),
        (
            "two deep",
            Net::new(100, 50, 200),
            vec![Plan::new(Bbr), Plan { starts_at: Duration::from_secs(3), ..Plan::new(Bbr) }],
        ),
        (
            "two shallow",
            Net::new(100, 50, 5),
            vec![Plan::new(Bbr), Plan { starts_at: Duration::from_secs(3), ..Plan::new(Bbr) }],
        ),
        (
            "two 1%",
            Net::new(100, 50, 50).loss(100),
            vec![Plan::new(Bbr), Plan { starts_at: Duration::from_secs(3), ..Plan::new(Bbr) }],
        ),
        ("cubic", Net::new(100, 50, 50), vec![Plan::new(Bbr), tcp()]),
        ("cubic deep", Net::new(100, 50, 200), vec![Plan::new(Bbr), tcp()]),
        (
            "cubic first",
            Net::new(100, 50, 50),
            vec![Plan { starts_at: Duration::from_secs(5), ..Plan::new(Bbr) }, tcp()],
        ),
        ("cubic shallow", Net::new(100, 50, 10), vec![Plan::new(Bbr), tcp()]),
    ] {
        let mut sim = Sim::new(net, &plans, 1);
        sim.run(Duration::from_secs(43));
        println!("{name}");
        for from in [3u64, 8, 13, 18, 23, 33] {
            let to = from + if from < 20 { 5 } else { 10 };
            let (f, t) = (Duration::from_secs(from), Duration::from_secs(to));
            let rates: Vec<f64> = sim.flows.iter().map(|flow| flow.rate_between(f, t) * 8e-6).collect();
            println!("   {from:2}-{to:2}s {rates:.1?} jain {:.3}", jain(&rates));
        }
        for flow in 0..plans.len() {
            println!(
                "   queue {:?} dropped {:.3}%",
                sim.queueing(flow, Duration::from_secs(3)),
                sim.dropped(flow, Duration::from_secs(3)) * 100.0
            );
        }
    }
}

fn tcp() -> Plan {
    Plan { unpaced: true, ack_every: 2, late: Duration::ZERO, ..Plan::new(Cubic) }
}

/// Jain's index of fairness.
fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    sum * sum / (rates.len() as f64 * rates.iter().map(|rate| rate * rate).sum::<f64>())
}

#[test]
fn one() {
    deliver(Net::new(1000, 10, 20), Plan::new(Bbr), 256, 1);
}

#[test]
fn twoshallow() {
    let plans = [Plan::new(Bbr), Plan { starts_at: Duration::from_secs(3), ..Plan::new(Bbr) }];
    let mut sim = Sim::new(Net::new(100, 50, 50), &plans, 1);
    sim.run(Duration::from_secs(30));
}
