//! Files arrive whole whatever the network does.

use std::time::Duration;

use proptest::prelude::*;
use secchat::channel::{Arq, Config, CongestionKind, DATAGRAM_OVERHEAD, Event};

use crate::sim::{ASKER, HOLDER, Link, START, Sim, addr};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn assert_whole(sim: &mut Sim, what: &str) {
    sim.run(HOUR);
    let told = format!("{what}: {:?}, {:?}", sim.events, sim.ends.each_ref().map(|end| end.stats()));
    assert!(sim.is_whole(), "a stream is not whole, {told}");
    assert!(sim.finished(HOLDER) && sim.finished(ASKER), "an end did not finish, {told}");
    assert!(sim.ends.iter().all(|end| end.is_drained()), "an end is not drained, {told}");
}

/// A thousand seeds with a fifth of the datagrams lost, a quarter late, some twice, some damaged, and thirty seconds of
/// nothing.
fn a_thousand_seeds(config: impl Fn(u64) -> Config + Copy + Send + 'static) {
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            std::thread::spawn(move || {
                for seed in (worker..1000).step_by(2) {
                    let len = 20_000 + (seed as usize * 7_919) % 30_000;
                    let mut sim = Sim::new(seed, Link::bad(), config(seed), len);
                    assert_whole(&mut sim, &format!("seed {seed}"));
                    through_an_outage(seed, config(seed), len);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("the seed is printed above");
    }
}

/// Thirty seconds of nothing, soon after both ends have found the path.
fn through_an_outage(seed: u64, config: Config, len: usize) {
    let mut sim = Sim::new(seed, Link::bad(), config, len);
    while sim.ends.iter().any(|end| end.path().is_none()) && sim.now < START + MINUTE {
        sim.run(Duration::from_millis(5));
    }
    let from = sim.now + Duration::from_millis(seed % 101);
    sim.link.outages = vec![from..from + MINUTE / 2];
    sim.run(Duration::from_secs(25));
    if sim.is_whole() {
        // Only the end of the end was cut off: nobody can be sure that the other knows.
        assert!([HOLDER, ASKER].iter().all(|end| sim.events[*end].contains(&Event::PeerFinished)), "seed {seed}");
    } else {
        assert_whole(&mut sim, &format!("seed {seed} with an outage"));
    }
}

/// Small and large fixed windows, and each controller.
fn config(arq: Arq, seed: u64) -> Config {
    let congestion = [CongestionKind::Bbr, CongestionKind::Cubic, CongestionKind::None][seed as usize % 3];
    let window = seed.is_multiple_of(2).then_some(4 + (seed % 29) as u32);
    Config { arq, congestion, window, receive_bytes: 4_000 << (seed % 9), linger: MINUTE, ..Config::default() }
}

#[test]
fn a_thousand_seeds_at_a_fifth_lost_bring_every_file_whole_with_go_back_n() {
    a_thousand_seeds(|seed| config(Arq::GoBackN, seed));
}

#[test]
fn a_thousand_seeds_at_a_fifth_lost_bring_every_file_whole_with_selective_repeat() {
    a_thousand_seeds(|seed| config(Arq::SelectiveRepeat, seed));
}

#[test]
fn a_thousand_seeds_at_a_fifth_lost_bring_every_file_whole_when_the_scheme_is_chosen_on_the_way() {
    a_thousand_seeds(|seed| config(Arq::Auto, seed));
}

#[test]
fn a_clean_path_repeats_nothing() {
    for window in [1, 2, 16, 256] {
        let config = Config { window: Some(window), max_datagram: 1_200, ..Config::default() };
        let mut sim = Sim::new(1, Link::clean(), config, 300_000);
        assert_whole(&mut sim, &format!("window {window}"));
        let stats = sim.ends[HOLDER].stats();
        assert_eq!(stats.segments_repeated, 0, "window {window}");
        assert_eq!((stats.timeouts, stats.segments_lost), (0, 0), "window {window}");
        assert_eq!(stats.arq, Arq::GoBackN, "nothing was lost");
        let round_trips = (260 / window) + 8;
        let most = Duration::from_millis(41) * round_trips;
        assert!(sim.now < START + most, "window {window}: an ack was waited for, {:?}", sim.now);
    }
}

#[test]
fn a_loss_ends_go_back_n_when_nobody_insists_on_it() {
    let link = Link { loss: 20, ..Link::clean() };
    let mut repeated = [0; 3];
    for (arq, repeated) in [Arq::GoBackN, Arq::SelectiveRepeat, Arq::Auto].into_iter().zip(&mut repeated) {
        let config = Config { arq, window: Some(64), ..Config::default() };
        let mut sim = Sim::new(4, link.clone(), config, 500_000);
        assert_whole(&mut sim, &format!("{arq:?}"));
        let stats = sim.ends[HOLDER].stats();
        assert_eq!(stats.arq, if arq == Arq::GoBackN { arq } else { Arq::SelectiveRepeat });
        assert_eq!(stats.spurious, 0, "{arq:?}");
        *repeated = stats.segments_repeated;
    }
    assert!(repeated[0] > 5 * repeated[1] && repeated[2] < 2 * repeated[1], "{repeated:?}");
}

#[test]
fn reordering_is_learned_and_not_taken_for_loss_for_ever() {
    let link = Link { reorder: 250, jitter: Duration::from_millis(2), ..Link::clean() };
    let config = Config { window: Some(64), arq: Arq::SelectiveRepeat, max_datagram: 1_200, ..Config::default() };
    let mut sim = Sim::new(4, link, config, 4_000_000);
    assert_whole(&mut sim, "late");
    let stats = sim.ends[HOLDER].stats();
    assert!(stats.segments_sent > 3_000 && stats.segments_repeated < 100, "{stats:?}");
    assert!(stats.spurious > 0 && stats.spurious <= stats.segments_lost, "{stats:?}");
}

#[test]
fn files_of_every_awkward_size_arrive() {
    let segment = 1_200 - DATAGRAM_OVERHEAD;
    for len in [0, 1, segment - 1, segment, segment + 1, 16 * segment, 16 * segment + 1] {
        let config = Config { max_datagram: 1_200, ..Config::default() };
        let mut sim = Sim::new(len as u64, Link::clean(), config.clone(), len);
        assert_whole(&mut sim, &format!("{len} bytes"));
        let mut sim = Sim::new(len as u64, Link::bad(), config, len);
        assert_whole(&mut sim, &format!("{len} bytes over a bad path"));
    }
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
                    sim.ends[ASKER].set_receive_window(now, segments);
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
            prop_assert!(sim.streams[HOLDER].starts_with(&sim.received[ASKER]));
        }
        let now = sim.now;
        sim.ends[ASKER].set_receive_window(now, 100);
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
