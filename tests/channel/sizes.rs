//! Datagrams grow to what the path carries, and a path that shrinks is named.

use std::time::Duration;

use secchat::channel::{Config, DATAGRAM_OVERHEAD, Event, Failure};

use crate::sim::{ASKER, HOLDER, Link, Sim, addr};

const HOUR: Duration = Duration::from_secs(3600);

/// Bytes of the largest datagram that the holder sent.
fn largest(sim: &Sim) -> usize {
    sim.sent.iter().filter(|(to, _)| *to == sim.addrs[ASKER]).map(|(_, len)| *len).max().unwrap_or(0)
}

#[test]
fn each_path_gets_the_largest_size_that_passes() {
    for (passes, max, expected) in
        [(1_250, 65_507, 1_200), (1_500, 65_507, 1_452), (9_000, 65_507, 8_900), (0, 1_452, 1_452)]
    {
        for link in [Link::clean(), Link { loss: 100, ..Link::clean() }] {
            let lossy = link.loss > 0;
            let config = Config { max_datagram: max, ..Config::default() };
            let mut sim = Sim::new(3, Link { largest: passes, ..link }, config, 400_000);
            sim.run(HOUR);
            assert!(sim.is_whole() && sim.finished(HOLDER) && sim.finished(ASKER), "{passes}: {:?}", sim.events);
            let size = sim.ends[HOLDER].stats().segment_size + DATAGRAM_OVERHEAD;
            assert!(size == expected || lossy && size < expected, "{passes}: {size}");
            assert!(largest(&sim) <= max);
            if expected > 1_200 && !lossy {
                assert!(
                    sim.events[HOLDER].contains(&Event::SegmentSize(expected - DATAGRAM_OVERHEAD)),
                    "{:?}",
                    sim.events
                );
            }
        }
    }
}

#[test]
fn loopback_gets_its_own_size() {
    let mut sim = Sim::without_candidates(3, Link::clean(), Config::default(), 3_000_000);
    sim.addrs = [addr("127.0.0.1:1000"), addr("127.0.0.1:2000")];
    for end in [HOLDER, ASKER] {
        let peer = sim.addrs[1 - end];
        assert!(sim.ends[end].add_candidate(sim.now, peer));
    }
    sim.run(HOUR);
    assert!(sim.is_whole() && sim.finished(HOLDER));
    assert_eq!(sim.ends[HOLDER].stats().segment_size, 65_507 - DATAGRAM_OVERHEAD);
    let large = sim.sent.iter().filter(|(_, len)| *len == 65_507).count();
    assert!(large > 30, "{large}");
}

#[test]
fn a_path_that_shrinks_is_named_within_seconds() {
    for loss in [0, 100] {
        let mut sim =
            Sim::new(3, Link { loss, ..Link::clean() }, Config { window: Some(64), ..Config::default() }, 20_000_000);
        sim.run(Duration::from_millis(700));
        assert!(!sim.finished(ASKER) && sim.ends[HOLDER].stats().segment_size > 1_158);
        sim.link.largest = 1_400;
        let since = sim.now;
        sim.run(HOUR);
        assert_eq!(sim.events[HOLDER].last(), Some(&Event::Failed(Failure::PathShrunk)), "{:?}", sim.events[ASKER]);
        assert!(matches!(sim.events[ASKER].last(), Some(Event::Closed { .. })));
        assert!(sim.now < since + Duration::from_secs(10), "{:?}", sim.now - since);
    }
}

#[test]
fn silence_is_no_smaller_path() {
    for seed in 0..20 {
        let link = Link { loss: 100, ..Link::clean() }.with_outage(Duration::from_millis(700), Duration::from_secs(20));
        let mut sim = Sim::new(seed, link, Config { window: Some(8), ..Config::default() }, 2_000_000);
        sim.run(HOUR);
        assert!(sim.is_whole() && sim.finished(ASKER), "{seed}: {:?}", sim.events);
    }
}
