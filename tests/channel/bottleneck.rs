//! Speed, fairness and queues of real connections over an emulated bottleneck, in virtual time. Rates are of file bytes.

use std::time::Duration;

use secchat::channel::{Config, CongestionKind};

use crate::link::{Link, Plan};

fn config(congestion: CongestionKind) -> Config {
    Config { congestion, max_datagram: 1_452, ..Config::default() }
}

/// Delivers a file with the default controller; returns the link and Mbit/s from the first datagram to the last byte.
fn deliver(forward: &str, back: &str, mebibytes: u64) -> (Link, f64) {
    let plan = Plan { config: config(CongestionKind::Bbr), bytes: mebibytes << 20, starts_at: Duration::ZERO };
    let mut link = Link::new(forward, back, vec![plan], SEED);
    link.run(Duration::from_secs(300));
    let transfer = &link.transfers[0];
    let mbit = transfer.mbit();
    println!("{forward}, seed {SEED}: {mbit:.1} Mbit/s, {:?}, {:?}", link.counts(), transfer.holder());
    (link, mbit)
}

/// Two transfers at once, the second 3 s later; returns the link and Mbit/s of each between `from` and `to`.
fn share(forward: &str, kinds: [CongestionKind; 2], from: u64, to: u64) -> (Link, [f64; 2]) {
    let plan =
        |kind, starts_at| Plan { config: config(kind), bytes: 1 << 40, starts_at: Duration::from_secs(starts_at) };
    let mut link = Link::new(forward, "delay=25ms", vec![plan(kinds[0], 0), plan(kinds[1], 3)], SEED);
    let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
    link.run(to);
    let rates = [0, 1].map(|index| link.transfers[index].mbit_between(from, to));
    println!("{forward}, {kinds:?}, seed {SEED}: {rates:.1?} Mbit/s, {:?}", link.counts());
    for transfer in &link.transfers {
        println!("    queueing {:?}, {:?}", transfer.queueing(from, Duration::from_millis(25)), transfer.holder());
    }
    (link, rates)
}

#[test]
fn a_clean_long_path_is_filled_without_a_queue() {
    let (link, mbit) = deliver("delay=25ms,rate=200mbit,queue=50ms", "delay=25ms", 96);
    assert!(mbit > 175.0, "{mbit}");
    let (median, p95) = link.transfers[0].queueing(Duration::from_secs(1), Duration::from_millis(25));
    println!("queue after the start: {median:?} {p95:?}");
    assert!(median < Duration::from_millis(4) && p95 < Duration::from_millis(20), "{median:?} {p95:?}");
    assert!(link.counts().overflowed * 100 < link.counts().offered, "{:?}", link.counts());
}

#[test]
fn a_path_that_loses_one_in_a_hundred_is_filled_too() {
    let (_, mbit) = deliver("delay=25ms,rate=200mbit,queue=50ms,loss=1%", "delay=25ms,loss=1%", 96);
    assert!(mbit > 168.0, "{mbit}");
}

#[test]
fn a_longer_path_that_loses_one_in_twenty_is_used_well() {
    let (_, mbit) = deliver("delay=50ms,rate=100mbit,queue=50ms,loss=5%", "delay=50ms,loss=5%", 64);
    assert!(mbit > 76.0, "{mbit}");
}

#[test]
fn a_very_long_path_is_filled() {
    let (_, mbit) = deliver("delay=100ms,rate=50mbit,queue=50ms,loss=0.1%", "delay=100ms,loss=0.1%", 64);
    assert!(mbit > 40.0, "{mbit}");
}

#[test]
fn bursts_of_loss_and_reordering_cost_little() {
    let (_, bursts) = deliver("delay=25ms,rate=200mbit,burst=2%/8", "delay=25ms,burst=2%/8", 64);
    assert!(bursts > 150.0, "{bursts}");
    let (_, reordered) = deliver("delay=25ms,rate=200mbit,reorder=25%/5ms", "delay=25ms,reorder=25%/5ms", 64);
    assert!(reordered > 150.0, "{reordered}");
}

#[test]
fn a_small_file_takes_few_round_trips() {
    let (link, _) = deliver("delay=25ms,rate=200mbit,queue=50ms", "delay=25ms", 1);
    let done = link.transfers[0].done_at.expect("it arrives");
    // Two round trips and a half of them are for the path.
    assert!(done < Duration::from_millis(300), "{done:?}");
}

#[test]
fn two_transfers_share_evenly_and_keep_the_queue_short() {
    let (link, rates) = share("delay=25ms,rate=100mbit,queue=50ms", [CongestionKind::Bbr; 2], 18, 28);
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    let jain = (rates[0] + rates[1]).powi(2) / (2.0 * squares);
    assert!(jain > 0.9 && rates[0] + rates[1] > 88.0, "{rates:?}");
    for transfer in &link.transfers {
        let (median, _) = transfer.queueing(Duration::from_secs(18), Duration::from_millis(25));
        assert!(median < Duration::from_millis(25), "{median:?}");
    }
}

#[test]
fn a_cubic_transfer_keeps_its_share() {
    for kinds in [[CongestionKind::Bbr, CongestionKind::Cubic], [CongestionKind::Cubic, CongestionKind::Bbr]] {
        let (_, rates) = share("delay=25ms,rate=100mbit,queue=50ms", kinds, 8, 20);
        let cubic = if kinds[0] == CongestionKind::Cubic { rates[0] } else { rates[1] };
        assert!((0.25..0.85).contains(&(cubic / (rates[0] + rates[1]))), "{rates:?}");
    }
}

const SEED: u64 = 1;
