//! Files arrive whole whatever the network does.

use std::time::Duration;

use proptest::prelude::*;
use secchat::channel::Config;

use crate::sim::{Link, RECEIVER, SENDER, Sim, addr};

const HOUR: Duration = Duration::from_secs(3600);

fn assert_whole(sim: &mut Sim, what: &str) {
    sim.run(HOUR);
    let told = format!("{what}: {:?}, {:?}", sim.events, sim.ends.each_ref().map(|end| end.stats()));
    assert!(sim.is_whole(), "the file is not whole, {told}");
    assert!(sim.finished(SENDER) && sim.finished(RECEIVER), "an end did not finish, {told}");
    assert!(sim.ends.iter().all(|end| end.is_drained()), "an end is not drained, {told}");
}

#[test]
fn a_thousand_seeds_at_a_fifth_lost_bring_every_file_whole() {
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            std::thread::spawn(move || {
                for seed in (worker..1000).step_by(2) {
                    let len = 40_000 + (seed as usize * 7_919) % 60_000;
                    let config = Config { window: 4 + (seed % 29) as u32, ..Config::default() };
                    let mut sim = Sim::new(seed, Link::bad(), config, len);
                    assert_whole(&mut sim, &format!("seed {seed}"));
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("the seed is printed above");
    }
}

#[test]
fn a_clean_path_repeats_nothing() {
    for window in [1, 2, 16, 256] {
        let mut sim = Sim::new(1, Link::clean(), Config { window, ..Config::default() }, 300_000);
        assert_whole(&mut sim, &format!("window {window}"));
        let stats = sim.ends[SENDER].stats();
        assert_eq!(stats.segments_repeated, 0, "window {window}");
        assert_eq!(stats.timeouts, 0, "window {window}");
        let round_trips = (260 / window) + 8;
        let most = Duration::from_millis(41) * round_trips;
        assert!(sim.now < Duration::from_secs(1000) + most, "window {window}: an ack was waited for, {:?}", sim.now);
    }
}

#[test]
fn files_of_every_awkward_size_arrive() {
    let segment = Config::default().segment_size();
    for len in [0, 1, segment - 1, segment, segment + 1, 16 * segment, 16 * segment + 1] {
        let mut sim = Sim::new(len as u64, Link::clean(), Config::default(), len);
        assert_whole(&mut sim, &format!("{len} bytes"));
        let mut sim = Sim::new(len as u64, Link::bad(), Config::default(), len);
        assert_whole(&mut sim, &format!("{len} bytes over a bad path"));
    }
}

#[test]
fn large_datagrams_carry_the_file_too() {
    let config = Config { datagram_size: 65_507, ..Config::default() };
    let mut sim = Sim::new(3, Link::bad(), config, 2_000_000);
    assert_whole(&mut sim, "65,507-byte datagrams");
    assert!(sim.sent.iter().all(|(_, len)| *len <= 65_507));
    let mut sim = Sim::new(3, Link::bad(), Config::default(), 200_000);
    assert_whole(&mut sim, "1,200-byte datagrams");
    assert!(sim.sent.iter().all(|(_, len)| *len <= 1_200));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any order of things that a driver, a network and a stranger may do: nothing panics, no byte is delivered twice
    /// or out of order, and when the meddling stops the file arrives.
    #[test]
    fn any_sequence_of_operations_ends_with_the_file(
        seed: u64,
        len in 0..60_000usize,
        operations in proptest::collection::vec(operation(), 0..60),
    ) {
        let mut sim = Sim::new(seed, Link::bad(), Config::default(), len);
        let mut kept = Vec::new();
        for operation in operations {
            match operation {
                Operation::Wait(millis) => sim.run(Duration::from_millis(millis)),
                Operation::Garbage(end, bytes) => sim.deliver(end, addr("192.0.2.9:9"), &bytes),
                Operation::Keep(end) => kept.extend(sim.last_to(end)),
                Operation::Replay(index) => {
                    if let Some((end, bytes)) = kept.get(index.index(kept.len().max(1))) {
                        sim.deliver(*end, addr("192.0.2.7:7"), bytes);
                    }
                }
                Operation::Window(segments) => {
                    let now = sim.now;
                    sim.ends[RECEIVER].set_receive_window(now, segments);
                }
                Operation::Candidate(end, port) => {
                    let now = sim.now;
                    sim.ends[end].add_candidate(now, ([192, 0, 2, 1], port).into());
                }
                Operation::EarlyTimeout(end) => {
                    let now = sim.now;
                    sim.ends[end].handle_timeout(now);
                }
            }
            prop_assert!(sim.file.starts_with(&sim.received));
        }
        let now = sim.now;
        sim.ends[RECEIVER].set_receive_window(now, 100);
        assert_whole(&mut sim, "after the operations");
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Wait(u64),
    Garbage(usize, Vec<u8>),
    Keep(usize),
    Replay(prop::sample::Index),
    Window(u32),
    Candidate(usize, u16),
    EarlyTimeout(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0..200u64).prop_map(Operation::Wait),
        1 => (0..2usize, proptest::collection::vec(any::<u8>(), 0..1300)).prop_map(|(e, b)| Operation::Garbage(e, b)),
        2 => (0..2usize).prop_map(Operation::Keep),
        2 => any::<prop::sample::Index>().prop_map(Operation::Replay),
        1 => (0..40u32).prop_map(Operation::Window),
        1 => (0..2usize, 1..u16::MAX).prop_map(|(e, p)| Operation::Candidate(e, p)),
        1 => (0..2usize).prop_map(Operation::EarlyTimeout),
    ]
}
