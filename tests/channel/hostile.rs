//! Strangers on the path change nothing; a peer that cheats ends its own transfer and nothing else.

use std::time::Duration;

use proptest::prelude::*;
use secchat::channel::{Config, DATAGRAM_OVERHEAD, Event, Failure, MAX_CANDIDATES, MAX_PROBES, Violation};
use secchat::wire::datagram::{Ack, Close, CloseCode, Frame, Segment, SegmentRange};

use crate::sim::{ASKER, HOLDER, Link, Sim, addr, sealed, sealed_with};

const HOUR: Duration = Duration::from_secs(3600);
/// Above every packet number that a simulated end comes to.
const FRESH: u64 = 1 << 20;

/// Two ends in the middle of a file.
fn under_way() -> Sim {
    let config = Config { window: Some(16), max_datagram: 1_200, ..Config::default() };
    let mut sim = Sim::new(7, Link::clean(), config, 500_000);
    sim.run(Duration::from_millis(400));
    assert!(!sim.received[ASKER].is_empty() && !sim.finished(ASKER));
    sim
}

fn ack(largest: u64, cumulative: u64) -> Ack {
    Ack { largest, delay_micros: 0, ce: 0, cumulative, ranges: Vec::new() }
}

#[test]
fn forged_and_replayed_control_packets_are_ignored_and_counted() {
    let mut sim = under_way();
    let close = Frame::Close(Close { code: CloseCode::DONE, reason: "" });
    for (end, peer) in [(HOLDER, ASKER), (ASKER, HOLDER)] {
        let from = sim.addrs[peer];
        let before = sim.ends[end].stats();
        for frame in [&close, &Frame::Ack(ack(0, 1)), &Frame::Window { segments: 0 }, &Frame::Ping] {
            let mut forged = sealed(peer, FRESH, std::slice::from_ref(frame));
            // Sealed under the wrong key for this direction, then with one bit changed.
            forged[20] ^= 1;
            sim.deliver(end, from, &forged);
        }
        let after = sim.ends[end].stats();
        assert_eq!(after.ignored_forged, before.ignored_forged + 4);
        assert_eq!(after.datagrams_received, before.datagrams_received);

        let genuine = sealed(peer, FRESH, &[Frame::Ping]);
        for _ in 0..5 {
            sim.deliver(end, addr("203.0.113.5:5"), &genuine);
        }
        let after = sim.ends[end].stats();
        assert_eq!(after.datagrams_received, before.datagrams_received + 1);
        assert_eq!(after.ignored_replayed, before.ignored_replayed + 4);
    }
}

#[test]
fn forgeries_do_not_move_the_replay_window() {
    let mut sim = under_way();
    let from = sim.addrs[HOLDER];
    let mut forged = sealed(HOLDER, (1 << 48) - 1, &[Frame::Ping]);
    forged[17] ^= 0x80;
    sim.deliver(ASKER, from, &forged);
    sim.run(HOUR);
    assert!(sim.is_whole() && sim.finished(HOLDER));
    assert_eq!(sim.ends[ASKER].stats().ignored_replayed, 0);
}

#[test]
fn garbage_before_the_first_real_datagram_ends_nothing() {
    let mut sim = Sim::new(9, Link::clean(), Config::default(), 20_000);
    for end in [HOLDER, ASKER] {
        let (local, peer) = if end == HOLDER { (b"holder's", ASKER) } else { (b"asker's ", HOLDER) };
        let from = sim.addrs[peer];
        let headed = |len: usize| [&[8][..], local, &vec![0xff; len]].concat();
        for garbage in [vec![], vec![8], vec![0xc0; 1200], vec![0; 100], headed(0), headed(8), headed(24), headed(1300)]
        {
            sim.deliver(end, from, &garbage);
        }
        let stats = sim.ends[end].stats();
        assert_eq!(stats.ignored_foreign + stats.ignored_forged + stats.ignored_replayed, 8);
    }
    sim.run(HOUR);
    assert!(sim.is_whole() && sim.finished(HOLDER));
}

#[test]
fn a_peer_that_cheats_ends_the_transfer_by_name() {
    let beyond = Ack { ranges: vec![SegmentRange { start: 1 << 15, end: 1 << 16 }], ..ack(0, 0) };
    let segment = |number, fin, bytes| Frame::Segment(Segment { number, fin, ask: false, bytes });
    let full = vec![0; 1_200 - DATAGRAM_OVERHEAD];
    let cases = [
        (HOLDER, Frame::Ack(ack(FRESH, 0)), Violation::AckOfUnsentPacket),
        (HOLDER, Frame::Ack(ack(u64::MAX, u64::MAX)), Violation::AckOfUnsentPacket),
        (HOLDER, Frame::Ack(ack(0, 400)), Violation::AckOfUnsentSegment),
        (HOLDER, Frame::Ack(beyond), Violation::AckOfUnsentSegment),
        (HOLDER, segment(1, false, &full), Violation::WrongSegment),
        (ASKER, Frame::Ack(ack(0, 2)), Violation::AckOfUnsentSegment),
        (ASKER, segment(1 << 40, false, &full), Violation::WrongSegment),
        (ASKER, segment(u64::MAX, true, &full), Violation::WrongSegment),
        (ASKER, segment(3, true, &full), Violation::WrongSegment),
        (ASKER, segment(300, false, &[]), Violation::WrongSegment),
    ];
    for (end, frame, violation) in cases {
        let mut sim = under_way();
        let (from, delivered) = (sim.addrs[1 - end], sim.received.clone());
        sim.deliver(end, from, &sealed(1 - end, FRESH, std::slice::from_ref(&frame)));
        assert_eq!(sim.received, delivered);
        sim.drain();
        assert_eq!(sim.events[end].last(), Some(&Event::Failed(Failure::Peer(violation))), "{frame:?}");
        sim.run(HOUR);
        assert!(sim.ends.iter().all(|end| end.is_drained()), "{frame:?}");
        let told = sim.events[1 - end].last();
        assert!(matches!(told, Some(Event::Closed { code: CloseCode::VIOLATION, .. })), "{frame:?}: {told:?}");
    }
}

/// Says that all came that can be under way, to be sent more sooner.
#[test]
fn whoever_acknowledges_what_it_cannot_have_got_is_found_out() {
    let mut sim = under_way();
    let from = sim.addrs[ASKER];
    let delivered = sim.ends[HOLDER].stats().bytes_acked / (1_200 - DATAGRAM_OVERHEAD as u64);
    sim.deliver(HOLDER, from, &sealed(ASKER, FRESH, &[Frame::Ack(ack(20, delivered + 8))]));
    sim.drain();
    assert_eq!(sim.events[HOLDER].last(), Some(&Event::Failed(Failure::Peer(Violation::AckOfUnsentSegment))));

    // Guesses packet numbers too. Some are never sent.
    let mut sim = Sim::new(7, Link::clean(), Config { max_datagram: 1_200, ..Config::default() }, 50_000_000);
    sim.run(Duration::from_millis(65));
    let from = sim.addrs[ASKER];
    let mut guess = sim.sent.iter().filter(|(to, _)| *to == from).count() as u64 - 1;
    for number in 0..100_000 {
        let at = FRESH + number;
        sim.deliver(HOLDER, from, &sealed(ASKER, at, &[Frame::Ack(ack(guess, 0))]));
        sim.drain();
        if sim.events[HOLDER].iter().any(|event| matches!(event, Event::Failed(_))) {
            break;
        }
        let sent = sim.ends[HOLDER].stats().datagrams_sent;
        sim.now += Duration::from_millis(1);
        guess = (guess + 1).min(sent - 1);
    }
    assert_eq!(sim.events[HOLDER].last(), Some(&Event::Failed(Failure::Peer(Violation::AckOfUnsentPacket))));
}

#[test]
fn an_ack_before_anything_was_sent_ends_the_transfer() {
    let mut sim = Sim::new(1, Link::clean(), Config::default(), 1_000);
    let from = sim.addrs[ASKER];
    sim.deliver(HOLDER, from, &sealed(ASKER, 0, &[Frame::Ack(ack(0, 1))]));
    sim.drain();
    assert_eq!(sim.events[HOLDER], [Event::Failed(Failure::Peer(Violation::AckOfUnsentPacket))]);
}

#[test]
fn an_address_that_never_answers_gets_three_times_what_it_sent() {
    let victim = addr("203.0.113.80:80");
    for (challenges, nominate) in [(1, false), (1, true), (5, false), (5, true)] {
        let mut sim = under_way();
        let sent_before = sim.sent.len();
        let mut received = 0;
        for number in 0..challenges {
            let mut frames = vec![Frame::PathChallenge([number as u8; 8])];
            if nominate {
                frames.push(Frame::Ping);
            }
            let datagram = sealed(ASKER, FRESH + number, &frames);
            received += datagram.len();
            sim.deliver(HOLDER, victim, &datagram);
            sim.drain();
        }
        sim.run(Duration::from_secs(20));
        let to_victim: usize = sim.sent[sent_before..].iter().filter(|(to, _)| *to == victim).map(|(_, len)| len).sum();
        assert!(to_victim <= 3 * received, "{to_victim} bytes for {received}");
    }
}

#[test]
fn a_padded_challenge_is_answered_and_a_short_one_is_not() {
    let stranger = addr("203.0.113.80:80");
    for (padding, answered) in [(0, false), (1_150, true)] {
        let mut sim = Sim::without_candidates(1, Link::clean(), Config::default(), 1_000);
        let challenge = sealed_with(ASKER, 0, &[Frame::PathChallenge([9; 8])], &vec![0; padding]);
        sim.deliver(HOLDER, stranger, &challenge);
        sim.drain();
        assert_eq!(sim.sent.contains(&(stranger, 1_200)), answered);
        assert!(sim.sent.iter().map(|(_, len)| len).sum::<usize>() <= 3 * challenge.len());
    }
}

#[test]
fn candidates_that_never_answer_get_a_bounded_number_of_probes() {
    let mut sim = Sim::without_candidates(1, Link::clean(), Config::default(), 1_000);
    let now = sim.now;
    let taken = (1..100).filter(|port| sim.ends[ASKER].add_candidate(now, ([203, 0, 113, 1], *port).into())).count();
    assert_eq!(taken, MAX_CANDIDATES);
    sim.run(HOUR);
    for port in 1..=MAX_CANDIDATES as u16 {
        let probes = sim.sent.iter().filter(|(to, _)| to.port() == port).count();
        assert!(probes > 5 && probes <= MAX_PROBES as usize, "{probes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A peer that holds the keys and sends anything at all: no panic, no more bytes than the file has, and an end that
    /// comes to rest by its deadlines.
    #[test]
    fn a_peer_gone_mad_cannot_keep_an_end_busy(
        end in 0..2usize,
        early: bool,
        datagrams in proptest::collection::vec(
            (0..40u64, proptest::collection::vec(any_frame(), 0..5), proptest::collection::vec(any::<u8>(), 0..4)), 1..40,
        ),
    ) {
        let mut sim = Sim::new(7, Link::clean(), Config::default(), 40_000);
        if !early {
            sim.run(Duration::from_millis(100));
        }
        for (number, frames, rest) in datagrams {
            let frames: Vec<_> = frames.iter().map(OwnedFrame::frame).collect();
            let from = ([192, 0, 2, 50], 5000 + (number % 3) as u16).into();
            let datagram = sealed_with(1 - end, number, &frames, &rest);
            sim.deliver(end, from, &datagram);
            sim.run(Duration::from_millis(number));
        }
        prop_assert!(sim.received.iter().flatten().count() < 10_000_000);
        sim.run(HOUR);
        prop_assert!(sim.ends.iter().all(|end| end.is_drained()));
    }
}

#[derive(Debug, Clone)]
enum OwnedFrame {
    Segment(u64, bool, Vec<u8>),
    Ack(Ack),
    Window(u32),
    Ping,
    Challenge([u8; 8]),
    Response([u8; 8]),
    Close(u16),
    Handshake(Vec<u8>),
}

impl OwnedFrame {
    fn frame(&self) -> Frame<'_> {
        match self {
            Self::Segment(number, fin, bytes) => {
                Frame::Segment(Segment { number: *number, fin: *fin, ask: *fin, bytes })
            }
            Self::Ack(ack) => Frame::Ack(ack.clone()),
            Self::Window(segments) => Frame::Window { segments: *segments },
            Self::Ping => Frame::Ping,
            Self::Challenge(token) => Frame::PathChallenge(*token),
            Self::Response(token) => Frame::PathResponse(*token),
            Self::Close(code) => Frame::Close(Close { code: CloseCode(*code), reason: "mad" }),
            Self::Handshake(bytes) => Frame::Handshake(bytes),
        }
    }
}

fn any_frame() -> impl Strategy<Value = OwnedFrame> {
    let len = 1_200 - DATAGRAM_OVERHEAD;
    let number = || prop_oneof![8 => 0..40u64, 1 => any::<u64>()];
    prop_oneof![
        4 => (number(), any::<bool>(), prop_oneof![Just(len), 0..=len])
            .prop_map(|(n, fin, len)| OwnedFrame::Segment(n, fin, vec![5; len])),
        4 => (0..20u64, any::<u32>(), number(), proptest::option::of(1..9u64)).prop_map(|(largest, delay, c, gap)| {
            let cumulative = c.min(1 << 60);
            let ranges = gap.map(|gap| SegmentRange { start: cumulative + gap, end: cumulative + gap + 3 });
            OwnedFrame::Ack(Ack { largest, delay_micros: delay, ce: delay, cumulative, ranges: ranges.into_iter().collect() })
        }),
        2 => any::<u32>().prop_map(OwnedFrame::Window),
        2 => Just(OwnedFrame::Ping),
        2 => any::<[u8; 8]>().prop_map(OwnedFrame::Challenge),
        2 => any::<[u8; 8]>().prop_map(OwnedFrame::Response),
        1 => any::<u16>().prop_map(OwnedFrame::Close),
        1 => proptest::collection::vec(any::<u8>(), 0..100).prop_map(OwnedFrame::Handshake),
    ]
}
