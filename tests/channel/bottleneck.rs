//! Speed, fairness and queues of real connections over an emulated bottleneck, in virtual time. Rates are of file bytes.

use std::time::Duration;

use secchat::channel::{Arq, Config, CongestionKind};

use crate::link::{Link, Plan};

fn config(congestion: CongestionKind) -> Config {
    Config { congestion, max_datagram: 1_452, ..Config::default() }
}

/// Delivers a file; returns the link and Mbit/s from the first datagram to the last byte.
fn deliver(name: &str, forward: &str, back: &str, config: Config, mebibytes: u64) -> (Link, f64) {
    let plan = Plan { config, bytes: mebibytes << 20, starts_at: Duration::ZERO };
    let mut link = Link::new(forward, back, vec![plan], SEED);
    link.run(Duration::from_secs(300));
    let transfer = &link.transfers[0];
    let mbit = transfer.mbit();
    println!(
        "{name}, seed {SEED}: {mbit:.1} Mbit/s in {:?}, queue {:?}, {:?}, {:?}",
        transfer.done_at.unwrap(),
        transfer.queueing(Duration::ZERO, Duration::ZERO),
        link.counts(),
        transfer.holder(),
    );
    (link, mbit)
}

#[test]
fn explore() {
    for kind in [CongestionKind::Bbr, CongestionKind::Cubic] {
        deliver("200/50", "delay=25ms,rate=200mbit,queue=50ms", "delay=25ms", config(kind), 256);
    }
    let bbr = config(CongestionKind::Bbr);
    deliver("200/50 1%", "delay=25ms,rate=200mbit,queue=50ms,loss=1%", "delay=25ms,loss=1%", bbr.clone(), 256);
    deliver("100/100 5%", "delay=50ms,rate=100mbit,queue=50ms,loss=5%", "delay=50ms,loss=5%", bbr.clone(), 256);
    deliver("50/200 .1%", "delay=100ms,rate=50mbit,queue=50ms,loss=0.1%", "delay=100ms,loss=0.1%", bbr.clone(), 256);
    deliver("1 MiB 200/50", "delay=25ms,rate=200mbit,queue=50ms", "delay=25ms", bbr.clone(), 1);
    deliver("shallow", "delay=25ms,rate=200mbit,queue=5ms", "delay=25ms", bbr.clone(), 128);
    deliver("reordering", "delay=25ms,rate=200mbit,queue=50ms,reorder=25%/5ms", "delay=25ms", bbr.clone(), 128);
    deliver("jitter", "delay=25ms/5ms,rate=200mbit,queue=50ms", "delay=25ms/5ms", bbr.clone(), 128);
    deliver("bursts", "delay=25ms,rate=200mbit,queue=50ms,burst=2%/8", "delay=25ms,burst=2%/8", bbr.clone(), 128);
    deliver("20%", "delay=25ms,rate=100mbit,queue=50ms,loss=20%", "delay=25ms,loss=20%", bbr.clone(), 32);
    deliver("1000/10", "delay=5ms,rate=1000mbit,queue=20ms", "delay=5ms", bbr.clone(), 256);
    deliver("10/20", "delay=10ms,rate=10mbit,queue=100ms", "delay=10ms", bbr.clone(), 12);
    let _ = Arq::Auto;
}

const SEED: u64 = 1;
