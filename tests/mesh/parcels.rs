//! Parcels: they come or are lost, and nobody on the way makes them up, changes them, or has one taken twice.

use std::sync::Arc;

use secchat::crypto::pair::Standing;
use secchat::mesh::MeshLog;
use secchat::mesh::packet::Frame;

use crate::hostile::{assert_untouched, chain};
use crate::sim::{Line, Sim, ms};

/// Places in a parcel.
const ORIGIN: usize = 2;
const INSTANCE: usize = 34;
const TARGET: usize = 42;
const TARGET_INSTANCE: usize = 74;
const NUMBER: usize = 82;
const TAG: usize = 90;
const BODY: usize = 106;

type Bytes = Arc<[u8]>;

fn changed(frame: &[u8], at: usize) -> Bytes {
    let mut bytes = frame.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

/// Sends one from the first server to the last; gives it as it reaches that one.
fn parcel(sim: &mut Sim, body: &[u8]) -> Bytes {
    sim.tap = Some(Vec::new());
    let (now, to) = (sim.now, sim.id(2));
    assert!(sim.node(0).send_parcel(now, to, body));
    sim.drain(0);
    sim.run(ms(100));
    let tapped = sim.tap.take().unwrap().into_iter().filter(|(at, _)| *at == 2).map(|(_, frame)| frame);
    let mut parcels = tapped.filter(|frame| matches!(Frame::read(frame), Ok(Frame::Parcel(_))));
    parcels.next().unwrap()
}

/// The middle one says it to the last.
fn says(sim: &mut Sim, frame: &[u8]) {
    let (link, now) = (sim.links[1].id.unwrap(), sim.now);
    assert_eq!(sim.node(2).frame(now, link, frame), Ok(()), "it is no neighbour's fault: it may have come from afar");
    sim.drain(2);
}

#[test]
fn a_parcel_comes_over_other_servers_once_and_is_neither_acknowledged_nor_repeated() {
    let (mut sim, _) = chain();
    let before = sim.node(2).counts();
    for n in 0..100 {
        parcel(&mut sim, &[n; 1000]);
    }
    let (from, counts) = (sim.id(0), sim.node(2).counts());
    let came: Vec<u8> = sim.servers[2]
        .parcels
        .iter()
        .map(|(who, body)| {
            assert_eq!((*who, body.len()), (from, 1000));
            body[0]
        })
        .collect();
    assert_eq!(came, (0..100).collect::<Vec<u8>>());
    assert_eq!((counts.parcels, counts.delivered), (before.parcels + 100, before.delivered));
    assert_eq!((sim.node(0).counts().repeated, sim.node(0).queued(from)), (0, 0));
    assert_untouched(&mut sim);
}

#[test]
fn what_a_traitor_changes_or_makes_up_is_refused_counted_and_named_and_what_it_repeats_is_not_taken_again() {
    let (mut sim, _) = chain();
    let good = parcel(&mut sim, &[7; 100]);
    let taken = sim.servers[2].parcels.len();
    let before = sim.node(2).counts();
    for (what, at) in [("number", NUMBER), ("tag", TAG), ("body", BODY), ("last byte", BODY + 99)] {
        says(&mut sim, &changed(&good, at));
        assert_eq!(sim.servers[2].parcels.len(), taken, "{what}");
    }
    // With its own keys it speaks for itself only.
    let public = Standing::of(&sim.servers[2].identity).public();
    let own = Standing::of(&sim.servers[1].identity).pair(&public, &sim.id(1).0, &sim.id(2).0).unwrap();
    let mut lie = changed(&good, NUMBER).to_vec();
    let tag = own.ours.tag(&[&[4], &lie[ORIGIN..TAG], &lie[BODY..]]);
    lie[TAG..BODY].copy_from_slice(&tag);
    says(&mut sim, &lie);
    assert_eq!(sim.node(2).counts().forged, before.forged + 5);
    for at in [INSTANCE, TARGET_INSTANCE] {
        says(&mut sim, &changed(&good, at));
    }
    assert_eq!(sim.node(2).counts().refused, before.refused + 2);
    // For somebody who is not there it goes nowhere.
    says(&mut sim, &changed(&good, TARGET));
    for _ in 0..1000 {
        says(&mut sim, &good);
    }
    let counts = sim.node(2).counts();
    assert_eq!((counts.parcels, counts.parcels_again), (before.parcels, before.parcels_again + 1000));
    assert_eq!(sim.servers[2].parcels.len(), taken);
    let named = MeshLog::ForgedPacket { origin: sim.id(0), through: sim.id(1) };
    assert_eq!(sim.servers[2].logs, [named], "once, however often it comes");
    says(&mut sim, &changed(&good, ORIGIN));
    parcel(&mut sim, &[8; 100]);
    assert_eq!(sim.servers[2].parcels.len(), taken + 1, "the honest ones come");
    sim.servers[2].logs.clear();
    assert_untouched(&mut sim);
}

#[test]
fn a_server_of_an_earlier_build_gets_no_parcels_and_all_else() {
    for old in [1, 2] {
        let mut sim = Sim::new(1, 3);
        sim.servers[old].old = true;
        sim.link(0, 1, Line::fast());
        sim.link(1, 2, Line::fast());
        sim.run(ms(2000));
        let (now, to) = (sim.now, sim.id(2));
        assert_eq!(sim.node(0).send_parcel(now, to, b"sealed"), old == 2, "the first one's neighbour is {old}");
        sim.drain(0);
        sim.run(ms(100));
        assert!(sim.servers[2].parcels.is_empty());
        assert_eq!(sim.node(old - 1).counts().dropped, 1);
        sim.send(0, &[2], 100);
        sim.run(ms(100));
        sim.assert_delivered(0, 2);
        sim.assert_no_fault();
    }
}
