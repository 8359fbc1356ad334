//! The controllers against a simulated bottleneck. Rates are of datagrams; of the link's rate, 98 % is theirs at most, the
//! rest is headers.

mod flow;
mod shared;
mod sim;

use std::time::Duration;

use super::CongestionKind::{self, Bbr, Cubic};
use flow::Plan;
use sim::{Net, Sim};

/// Delivers a file through `net`; returns the simulation and Mbit/s of datagrams from start to end.
fn deliver(net: Net, plan: Plan, mebibytes: u64) -> (Sim, f64) {
    let packets = (mebibytes << 20) / net.datagram;
    let mut sim = Sim::new(net, &[Plan { packets, ..plan }], SEED);
    sim.run(Duration::from_secs(600));
    let flow = &sim.flows[0];
    let done = flow.stats.done_at.expect("the file arrives");
    let mbit = (packets * net.datagram * 8) as f64 / 1e6 / done.as_secs_f64();
    let (median, p95) = sim.queueing(0, Duration::ZERO);
    println!(
        "seed {SEED}: {mbit:.1} Mbit/s in {done:?}, queue {median:?} / {p95:?}, {} packets, {} lost, {:.2} % dropped",
        flow.stats.sent,
        flow.stats.lost,
        sim.dropped(0, Duration::ZERO) * 100.0,
    );
    (sim, mbit)
}

#[test]
fn a_clean_path_is_filled_without_a_queue() {
    let (sim, mbit) = deliver(Net::new(200, 50, 50), Plan::new(Bbr), 256);
    assert!(mbit > 189.0, "{mbit}");
    let (median, p95) = sim.queueing(0, Duration::ZERO);
    assert!(median < Duration::from_millis(2) && p95 < Duration::from_millis(20), "{median:?} {p95:?}");
    assert!(sim.dropped(0, Duration::ZERO) < 0.005);
}

#[test]
fn random_loss_is_not_taken_for_congestion() {
    let (_, one) = deliver(Net::new(200, 50, 50).loss(100), Plan::new(Bbr), 256);
    assert!(one > 185.0, "{one}");
    let (_, five) = deliver(Net::new(100, 100, 50).loss(500), Plan::new(Bbr), 256);
    assert!(five > 86.0, "{five}");
    let (_, far) = deliver(Net::new(50, 200, 50).loss(10), Plan::new(Bbr), 256);
    assert!(far > 47.0, "{far}");
    let (_, many) = deliver(Net::new(100, 50, 50).loss(2_000), Plan::new(Bbr), 64);
    assert!(many > 60.0, "{many}");
    let (_, cubic) = deliver(Net::new(200, 50, 50).loss(100), Plan::new(Cubic), 4);
    assert!(cubic < 10.0, "a loss-based window falls on such a path: {cubic}");
}

#[test]
fn a_short_buffer_is_not_overrun() {
    for loss in [0, 100] {
        let (sim, mbit) = deliver(Net::new(200, 50, 5).loss(loss), Plan::new(Bbr), 128);
        assert!(mbit > 175.0, "{mbit}");
        let steady = sim.dropped(0, Duration::from_secs(1));
        assert!(steady < 0.02, "{steady}");
    }
}

#[test]
fn slow_and_fast_paths_are_filled() {
    let (_, slow) = deliver(Net::new(10, 20, 100), Plan::new(Bbr), 12);
    assert!(slow > 9.3, "{slow}");
    let (_, fast) = deliver(Net::new(1_000, 10, 20), Plan::new(Bbr), 256);
    assert!(fast > 930.0, "{fast}");
}

#[test]
fn loopback_is_not_held_back() {
    // A receiver that takes 64 KiB at a time, a sender that wakes up late.
    let loopback = Plan {
        ack_every: 45,
        ack_delay: Duration::from_micros(100),
        late: Duration::from_micros(200),
        receive_window: 2 << 20,
        ..Plan::new(Bbr)
    };
    for rtt in [30, 200] {
        let net = Net { rtt: Duration::from_micros(rtt), queue: 4 << 20, ..Net::new(10_000, 1, 1) };
        let (_, mbit) = deliver(net, loopback, 256);
        assert!(mbit > 9_400.0, "{mbit}");
    }
}

#[test]
fn jitter_is_not_taken_for_a_queue() {
    for jitter in [5, 10, 30] {
        let net = Net { jitter: Duration::from_millis(jitter), ..Net::new(200, 50, 50) };
        let (_, mbit) = deliver(net, Plan::new(Bbr), 128);
        assert!(mbit > 120.0, "{mbit}");
    }
}

#[test]
fn a_small_file_is_quick() {
    let (sim, _) = deliver(Net::new(200, 50, 50), Plan::new(Bbr), 1);
    let done = sim.flows[0].stats.done_at.unwrap();
    assert!(done < Duration::from_millis(260), "{done:?}");
}

#[test]
fn a_blackout_is_survived() {
    let mut net = Net::new(50, 50, 50);
    net.blackout = Some((Duration::from_secs(5), Duration::from_secs(35)));
    let (sim, _) = deliver(net, Plan::new(Bbr), 64);
    let done = sim.flows[0].stats.done_at.unwrap();
    // 11 s of sending, 30 s of darkness.
    assert!(done < Duration::from_secs(47), "{done:?}");
}

#[test]
fn cubic_fills_a_clean_path_too() {
    let (_, mbit) = deliver(Net::new(200, 50, 50), Plan::new(Cubic), 64);
    assert!(mbit > 175.0, "{mbit}");
}

#[test]
fn no_control_leaves_it_to_the_receivers_window() {
    let plan = Plan { receive_window: 1_300_000, ..Plan::new(CongestionKind::None) };
    let (_, mbit) = deliver(Net::new(200, 50, 50), plan, 64);
    assert!(mbit > 180.0, "{mbit}");
}

const SEED: u64 = 1;
