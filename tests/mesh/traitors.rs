//! A server that the authority vouches for, on the way between two others, and hostile: what it says in their names, and what it
//! changes of their words, is refused, counted and named.

use std::sync::Arc;

use secchat::crypto::pair::{Pair, Standing};
use secchat::mesh::packet::{Frame, put_tags};
use secchat::mesh::{DownReason, MeshLog};
use secchat::wire::vouch::NodeId;

use crate::hostile::{assert_untouched, chain};
use crate::sim::{Line, Sim, ms};

/// Places in a data frame with one target, whose acknowledgement has no ranges, and a message with a head of four bytes.
const ORIGIN: usize = 2;
const INSTANCE: usize = 34;
const TARGET_INSTANCE: usize = 75;
const EPOCH: usize = 83;
const PEER_EPOCH: usize = 91;
const ASKS: usize = 99;
const BASE: usize = 100;
const BELOW: usize = 108;
const TAG: usize = 117;
const NUMBER: usize = 135;
const HEAD: usize = 137;
const BODY: usize = 143;

type Bytes = Arc<[u8]>;

fn changed(frame: &[u8], at: usize, with: &[u8]) -> Bytes {
    let mut bytes = frame.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes.into()
}

/// The frames of `from` that reach `to` while something happens.
fn tapped(sim: &mut Sim, from: usize, to: usize, act: impl FnOnce(&mut Sim)) -> Vec<Bytes> {
    sim.tap = Some(Vec::new());
    act(sim);
    sim.run(ms(100));
    let origin = sim.id(from);
    let all = sim.tap.take().unwrap().into_iter().filter(|(at, _)| *at == to).map(|(_, frame)| frame);
    all.filter(|frame| matches!(Frame::read(frame), Ok(Frame::Data(data)) if data.origin == origin)).collect()
}

/// What one server shares with another.
fn pair(sim: &Sim, one: usize, other: usize) -> Pair {
    let public = Standing::of(&sim.servers[other].identity).public();
    Standing::of(&sim.servers[one].identity).pair(&public, &sim.id(one).0, &sim.id(other).0).unwrap()
}

/// The middle one says it to the last.
fn says(sim: &mut Sim, frame: &[u8]) {
    let (link, now) = (sim.links[1].id.unwrap(), sim.now);
    assert_eq!(sim.node(2).frame(now, link, frame), Ok(()), "it is no neighbour's fault: it may have come from afar");
    sim.drain(2);
}

fn assert_forged(sim: &mut Sim, what: &str, frame: &[u8]) {
    let before = sim.node(2).counts();
    says(sim, frame);
    let after = sim.node(2).counts();
    assert_eq!((after.forged, after.delivered), (before.forged + 1, before.delivered), "{what}");
    assert_eq!(after.duplicates, before.duplicates, "{what} was looked at");
}

fn assert_named_once(sim: &Sim) {
    let named = MeshLog::ForgedPacket { origin: sim.id(0), through: sim.id(1) };
    assert_eq!(sim.servers[2].logs, [named], "once, however often it comes");
}

#[test]
fn what_a_traitor_says_in_anothers_name_is_refused_counted_and_named() {
    let (mut sim, _) = chain();
    let good = tapped(&mut sim, 0, 2, |sim| sim.send(0, &[2], 100)).remove(0);
    let number = good[NUMBER];
    // A new message, with every tag that the traitor can make or has seen.
    let next = changed(&good, NUMBER, &[number + 1]);
    let (with_first, with_last) = (pair(&sim, 1, 0), pair(&sim, 1, 2));
    for (key, whose) in [(&with_last.ours, "its own"), (&with_last.theirs, "the target's"), (&with_first.theirs, "0's")]
    {
        let mut lie = next.to_vec();
        put_tags(&mut lie, |_| Some(key), &mut Vec::new());
        assert_ne!(lie[TAG..TAG + 16], next[TAG..TAG + 16]);
        assert_forged(&mut sim, whose, &lie);
    }
    assert_forged(&mut sim, "no tag", &changed(&next, TAG, &[0; 16]));
    assert_forged(&mut sim, "the tag of another message", &next);
    assert_named_once(&sim);
    assert_untouched(&mut sim);
}

#[test]
fn what_a_traitor_changes_of_anothers_words_is_refused() {
    let (mut sim, _) = chain();
    sim.send(2, &[0], 100);
    sim.run(ms(100));
    let good = tapped(&mut sim, 0, 2, |sim| (0..3).for_each(|_| sim.send(0, &[2], 100))).remove(0);
    let lies = [
        ("the end of a session for a message", HEAD, &[0x5a; 4][..]),
        ("another body", BODY, &[0xee]),
        ("a number", BASE, &[99]),
        ("an end of the streams, and so of all sessions", EPOCH, &[9]),
        ("an end of the streams by the target", PEER_EPOCH, &[9]),
        ("a question", ASKS, &[1]),
        ("an acknowledgement", BELOW, &[3]),
        ("an acknowledgement of what was never sent", BELOW, &[99]),
        ("one of nothing", BELOW, &[1]),
        ("a message too few", 0, &[]),
    ];
    for (what, at, with) in lies {
        let lie = if with.is_empty() { good[..TAG + 16].into() } else { changed(&good, at, with) };
        assert_ne!(lie, good, "{what}");
        assert_forged(&mut sim, what, &lie);
    }
    assert_named_once(&sim);
    assert_untouched(&mut sim);
}

#[test]
fn a_forged_acknowledgement_alone_is_refused() {
    let (mut sim, _) = chain();
    let acks = tapped(&mut sim, 0, 2, |sim| sim.send(2, &[0], 100));
    let ack = acks.into_iter().find(|frame| matches!(Frame::read(frame), Ok(Frame::Data(data)) if data.is_ack()));
    let ack = ack.unwrap();
    let below = ack[BELOW];
    // What waits must not be given up before it has arrived.
    let forged = changed(&ack, BELOW, &[below + 1]);
    sim.freeze(1);
    sim.send(2, &[0], 100);
    assert_forged(&mut sim, "an acknowledgement", &forged);
    let zero = sim.id(0);
    assert!(sim.node(2).queued(zero) > 0);
    sim.thaw(1);
    assert_named_once(&sim);
    assert_untouched(&mut sim);
}

#[test]
fn a_target_whose_part_was_changed_refuses_it_and_the_others_get_theirs() {
    // 0 - 1 - 2, then 3 and 4 behind 2; 1 is the traitor.
    let mut sim = Sim::new(3, 5);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (2, 4)] {
        sim.link(a, b, Line::fast());
    }
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    sim.run(ms(1000));
    let good = tapped(&mut sim, 0, 2, |sim| sim.send(0, &[2, 3, 4], 100)).remove(0);
    let Ok(Frame::Data(data)) = Frame::read(&good) else { panic!("unreadable") };
    assert_eq!(data.targets.len(), 3, "one frame for all");
    let counts = |sim: &Sim, at: usize| sim.servers[at].node.as_ref().unwrap().counts();
    // The traitor flips a bit of one tag: the same as a change of that target's head.
    for (place, target) in data.targets.iter().enumerate() {
        let at = good.windows(16).position(|bytes| bytes == target.tag).unwrap();
        let before: Vec<_> = (2..5).map(|at| counts(&sim, at)).collect();
        says(&mut sim, &changed(&good, at, &[!good[at]]));
        sim.run(ms(50));
        for (at, before) in (2..5).zip(before) {
            let struck = sim.id(at) == target.id;
            let after = counts(&sim, at);
            assert_eq!(after.forged - before.forged, u64::from(struck), "{place}: at {at}");
            assert_eq!(after.duplicates - before.duplicates, u64::from(!struck), "{place}: at {at}");
        }
    }
    (2..5).for_each(|to| sim.assert_delivered(0, to));
    assert!(sim.servers.iter().all(|server| server.downs.is_empty()));
}

#[test]
fn what_is_replayed_is_heard_once() {
    let (mut sim, _) = chain();
    let frames = tapped(&mut sim, 0, 2, |sim| {
        for _ in 0..20 {
            sim.send(0, &[2], 100);
            sim.send(2, &[0], 100);
            sim.run(ms(20));
        }
    });
    let before = sim.node(2).counts();
    frames.iter().chain(frames.iter().rev()).for_each(|frame| says(&mut sim, frame));
    let after = sim.node(2).counts();
    assert_eq!((after.delivered, after.forged), (before.delivered, before.forged));
    assert_untouched(&mut sim);
    // Nor by another process of either.
    sim.kill(2);
    sim.restart(2);
    sim.run(ms(2000));
    let delivered = sim.node(2).counts().delivered;
    frames.iter().for_each(|frame| says(&mut sim, frame));
    assert_eq!(sim.node(2).counts().delivered, delivered);
}

#[test]
fn frames_of_nobody_of_ourselves_and_of_other_processes_are_refused() {
    let (mut sim, _) = chain();
    let good = tapped(&mut sim, 0, 2, |sim| sim.send(0, &[2], 100)).remove(0);
    let (ourselves, nobody) = (sim.id(2), NodeId([3; 32]));
    let lies = [(ORIGIN, &ourselves.0[..]), (ORIGIN, &nobody.0), (INSTANCE, &[1; 8]), (TARGET_INSTANCE, &[1; 8])];
    let delivered = sim.node(2).counts().delivered;
    for (n, (at, with)) in lies.into_iter().enumerate() {
        let before = sim.node(2).counts().refused;
        says(&mut sim, &changed(&good, at, with));
        assert_eq!(sim.node(2).counts().refused, before + 1, "lie {n}");
    }
    assert_eq!(sim.node(2).counts().delivered, delivered);
    assert_eq!(sim.servers[2].logs, [MeshLog::ForgedOrigin(ourselves), MeshLog::ForgedOrigin(nobody)]);
    assert_untouched(&mut sim);
}

/// A server that contradicts what it was told by us puts its own streams out of step, and nobody else's.
#[test]
fn a_server_that_acknowledges_what_it_was_never_sent_begins_anew() {
    let (mut sim, _) = chain();
    let good = tapped(&mut sim, 1, 2, |sim| sim.send(1, &[2], 100)).remove(0);
    let mut lie = changed(&good, BELOW, &[99]).to_vec();
    let keys = pair(&sim, 1, 2);
    put_tags(&mut lie, |_| Some(&keys.ours), &mut Vec::new());
    says(&mut sim, &lie);
    let one = sim.id(1);
    let reset = |(_, id, why): &(_, NodeId, DownReason)| *id == one && *why == DownReason::Reset;
    assert!(sim.servers[2].downs.len() == 1 && sim.servers[2].downs.iter().all(reset));
    sim.until(ms(3000), "they speak again", |sim| {
        sim.servers[2].up.contains_key(&one) && sim.servers[1].up.contains_key(&sim.id(2))
    });
    sim.run(ms(500));
    sim.servers.iter_mut().for_each(|server| server.downs.clear());
    assert_untouched(&mut sim);
    sim.send(1, &[0, 2], 10);
    sim.run(ms(100));
    sim.assert_delivered(1, 2);
    sim.assert_delivered(1, 0);
}
