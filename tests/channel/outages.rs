//! An end that cannot go on says so by its deadline, and goes on when it can.

use std::time::Duration;

use secchat::channel::{ClosedBy, Config, Event, Failure};
use secchat::wire::datagram::CloseCode;

use crate::sim::{ASKER, HOLDER, Link, START, Sim, addr};

const HOUR: Duration = Duration::from_secs(3600);

fn with_outage(from_ms: u64, to_ms: u64) -> Link {
    Link::clean().with_outage(Duration::from_millis(from_ms), Duration::from_millis(to_ms - from_ms))
}

/// A window small enough that the stream takes a while.
fn slow() -> Config {
    Config { window: Some(16), max_datagram: 1_200, ..Config::default() }
}

#[test]
fn thirty_seconds_without_a_network_are_survived() {
    for seed in 0..50 {
        let from = 100 + 37 * seed;
        let mut sim = Sim::new(seed, with_outage(from, from + 30_000), slow(), 1_000_000);
        sim.run(HOUR);
        assert!(sim.is_whole() && sim.finished(HOLDER) && sim.finished(ASKER), "seed {seed}: {:?}", sim.events);
        assert!(sim.now < START + Duration::from_secs(45), "seed {seed} took until {:?}", sim.now);
    }
}

#[test]
fn a_longer_silence_ends_both_by_the_idle_deadline() {
    let config = slow();
    let mut sim = Sim::new(1, with_outage(500, 10_000_000), config.clone(), 1_000_000);
    sim.run(HOUR);
    for end in [HOLDER, ASKER] {
        assert_eq!(sim.events[end].last(), Some(&Event::Failed(Failure::Silent)));
        assert!(sim.ends[end].is_drained());
    }
    assert!(sim.now <= START + Duration::from_secs(1) + config.idle_timeout);
}

#[test]
fn no_path_ends_both_by_the_connect_deadline() {
    let mut sim = Sim::new(1, with_outage(0, 10_000_000), Config::default(), 1_000);
    sim.run(HOUR);
    for end in [HOLDER, ASKER] {
        assert_eq!(sim.events[end], [Event::Failed(Failure::NoPath)]);
    }
    assert_eq!(sim.now, START + Config::default().connect_timeout);
}

#[test]
fn the_candidate_that_answers_is_taken() {
    let mut sim = Sim::without_candidates(5, Link::clean(), slow(), 50_000);
    let now = sim.now;
    for end in [HOLDER, ASKER] {
        for port in 1..10 {
            sim.ends[end].add_candidate(now, ([192, 0, 2, 1], port).into());
        }
        let peer = sim.addrs[1 - end];
        sim.ends[end].add_candidate(now, peer);
    }
    sim.run(HOUR);
    assert!(sim.is_whole());
    // The asker's short stream is there with the answer to the holder's challenge, before anything is settled.
    let validated = |end: usize| Event::PathValidated(sim.addrs[1 - end]);
    assert_eq!(sim.events[ASKER], [validated(ASKER), Event::PeerFinished, Event::Finished]);
    assert_eq!(sim.events[HOLDER], [Event::PeerFinished, validated(HOLDER), Event::Finished]);
}

#[test]
fn one_side_that_knows_where_to_go_is_enough() {
    for knowing in [HOLDER, ASKER] {
        let mut sim = Sim::without_candidates(5, Link::bad(), Config::default(), 50_000);
        let (now, peer) = (sim.now, sim.addrs[1 - knowing]);
        sim.ends[knowing].add_candidate(now, peer);
        sim.run(HOUR);
        assert!(sim.is_whole() && sim.finished(HOLDER), "{knowing}: {:?}", sim.events);
    }
}

#[test]
fn a_peer_that_moves_is_followed() {
    for moving in [HOLDER, ASKER] {
        let mut sim = Sim::new(5, Link::clean(), slow(), 500_000);
        sim.run(Duration::from_millis(400));
        let new = addr("10.0.0.77:7777");
        sim.addrs[moving] = new;
        sim.run(HOUR);
        assert!(sim.is_whole() && sim.finished(HOLDER), "{moving}: {:?}", sim.events);
        assert!(sim.events[1 - moving].contains(&Event::PathValidated(new)));
    }
}

#[test]
fn a_receiver_that_stops_is_waited_for_and_then_given_up() {
    let mut sim = Sim::new(5, Link::clean(), slow(), 500_000);
    sim.run(Duration::from_millis(400));
    let now = sim.now;
    sim.ends[ASKER].set_receive_window(now, 0);
    sim.run(Duration::from_millis(200));
    let before = sim.received[ASKER].len();
    sim.run(Duration::from_secs(100));
    assert_eq!(sim.received[ASKER].len(), before, "nothing comes while the window is shut");
    let now = sim.now;
    sim.ends[ASKER].set_receive_window(now, 3);
    sim.run(Duration::from_secs(1));
    assert!(sim.received[ASKER].len() > before);
    let now = sim.now;
    sim.ends[ASKER].set_receive_window(now, 0);
    sim.run(HOUR);
    assert!(sim.events.iter().flatten().any(|event| *event == Event::Failed(Failure::Stalled)), "{:?}", sim.events);
    assert!(sim.ends.iter().all(|end| end.is_drained()));
    assert!(sim.now < now + Config::default().stall_timeout + Duration::from_secs(5));
}

/// Runs for so many seconds, in each of which both ends say that their streams are as long as they were.
fn say_the_same(sim: &mut Sim, seconds: u64) {
    for _ in 0..seconds {
        let (now, lens) = (sim.now, sim.streams.each_ref().map(|stream| stream.len() as u64));
        sim.ends.iter_mut().zip(lens).for_each(|(end, len)| end.set_stream_end(now, len));
        sim.run(Duration::from_secs(1));
    }
}

fn stalled(sim: &Sim) -> bool {
    sim.events.iter().flatten().any(|event| *event == Event::Failed(Failure::Stalled))
}

#[test]
fn a_stream_that_is_said_to_be_as_long_as_before_has_not_moved() {
    for (window, finished) in [(0, false), (0, true), (1_000, false)] {
        let mut sim = Sim::unfinished(5, Link::clean(), slow(), [200_000, 10]);
        let (now, peer) = (sim.now, sim.addrs[HOLDER]);
        sim.ends[ASKER].add_candidate(now, peer);
        sim.run(Duration::from_millis(200));
        let now = sim.now;
        sim.ends[ASKER].set_receive_window(now, window);
        if finished {
            sim.ends[HOLDER].finish_stream(now);
        }
        say_the_same(&mut sim, 110);
        assert!(!stalled(&sim), "{window} {:?}", sim.events);
        assert_eq!(sim.received[ASKER].len() == 200_000, window > 0);
        say_the_same(&mut sim, 20);
        assert!(stalled(&sim), "{window} {:?}", sim.events);
    }
}

#[test]
fn what_comes_after_a_long_pause_has_the_whole_time() {
    let mut sim = Sim::unfinished(5, Link::clean(), slow(), [20_000, 10]);
    let (now, peer) = (sim.now, sim.addrs[HOLDER]);
    sim.ends[ASKER].add_candidate(now, peer);
    say_the_same(&mut sim, 100);
    let now = sim.now;
    sim.ends[ASKER].set_receive_window(now, 0);
    sim.run(Duration::from_secs(1));
    sim.streams.iter_mut().for_each(|stream| stream.resize(stream.len() + 10_000, 7));
    say_the_same(&mut sim, 110);
    assert!(!stalled(&sim), "{:?}", sim.events);
    say_the_same(&mut sim, 20);
    assert!(stalled(&sim), "{:?}", sim.events);
}

#[test]
fn a_close_before_anything_was_sent_reaches_the_peer_too() {
    for (closing, at) in [HOLDER, ASKER].into_iter().flat_map(|end| (0..150).step_by(5).map(move |at| (end, at))) {
        let mut sim = Sim::new(at, Link::clean(), slow(), 500_000);
        sim.run(Duration::from_millis(at));
        let now = sim.now;
        sim.ends[closing].close(now, CloseCode::CANCELLED, "enough");
        sim.run(HOUR);
        let told = sim.events[1 - closing].last();
        let by_peer = matches!(told, Some(Event::Closed { by: ClosedBy::Peer, code: CloseCode::CANCELLED, .. }));
        assert!(
            by_peer && sim.now < now + Duration::from_secs(5),
            "end {closing} after {at} ms: {told:?} {:?}",
            sim.now
        );
    }
}

#[test]
fn a_close_reaches_the_peer_with_its_reason() {
    for closing in [HOLDER, ASKER] {
        let mut sim = Sim::new(3 + closing as u64, Link::bad(), slow(), 500_000);
        sim.run(Duration::from_secs(1));
        let now = sim.now;
        sim.ends[closing].close(now, CloseCode::CANCELLED, &"née ".repeat(60));
        sim.run(HOUR);
        assert!(sim.ends.iter().all(|end| end.is_drained()));
        let Some(Event::Closed { by: ClosedBy::Peer, code: CloseCode::CANCELLED, reason }) =
            sim.events[1 - closing].last()
        else {
            panic!("the peer was not told: {:?}", sim.events)
        };
        assert!(reason.starts_with("née ") && reason.len() <= 200);
        assert!(sim.now < now + Duration::from_secs(5));
    }
}

#[test]
fn key_agreement_bytes_arrive_over_a_bad_path_and_stop_when_told() {
    let mut sim = Sim::new(3, Link::bad(), Config::default(), 30_000);
    let now = sim.now;
    assert!(sim.ends[HOLDER].send_handshake(now, &[1; 1025]).is_err());
    sim.ends[ASKER].send_handshake(now, b"to the sender").unwrap();
    sim.ends[HOLDER].send_handshake(now, &[7; 1024]).unwrap();
    sim.ready = false;
    sim.run(Duration::from_secs(10));
    for (end, expected) in [(HOLDER, &b"to the sender"[..]), (ASKER, &[7; 1024])] {
        let came = |event: &Event| matches!(event, Event::Handshake(bytes) if bytes.as_bytes() == expected);
        assert!(sim.events[end].iter().any(came), "{:?}", sim.events[end]);
        sim.ends[end].stop_handshake();
    }
    assert!(sim.received.iter().all(Vec::is_empty), "no file byte leaves before the driver lets it");
    sim.ready = true;
    sim.run(HOUR);
    assert!(sim.is_whole() && sim.finished(HOLDER));
}

#[test]
fn a_path_by_satellite_and_back_is_slow_but_works() {
    let link = Link { delay: Duration::from_millis(1_500), jitter: Duration::from_millis(300), ..Link::clean() };
    let mut sim = Sim::new(3, link, Config::default(), 30_000);
    sim.run(HOUR);
    assert!(sim.is_whole() && sim.finished(HOLDER) && sim.finished(ASKER), "{:?}", sim.events);
}
