//! What no honest server sends: refused, counted, named; nothing else suffers.

use std::time::Duration;

use secchat::crypto::identity::Identity;
use secchat::mesh::packet::{Frame, write_digest, write_records};
use secchat::mesh::record::{Record, Statement, number_at};
use secchat::mesh::{LinkId, MeshLog, NODES_MAX, Refused, Violation};
use secchat::wire::name::Name;
use secchat::wire::vouch::{Doubt, NodeId, ServerCert};

use crate::sim::{Line, Sim, ms};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A chain of three in which everybody sees everybody, and the link of the last two.
pub fn chain() -> (Sim, LinkId) {
    let mut sim = Sim::chain(1, 3, Line::fast());
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    sim.run(ms(1000));
    let link = sim.links[1].id.unwrap();
    (sim, link)
}

/// A statement of a server, as it would sign it now.
pub fn statement(sim: &Sim, identity: &Identity, named: &str, signer: &Identity) -> Statement {
    let vouch = ServerCert::issue(signer, name(named), identity.public(), u64::MAX);
    let mut said = Statement::new(identity, name(named), Some(vouch), number_at(sim.wall()));
    (said.number, said.issued_ms) = (number_at(sim.wall()) + 1, sim.wall());
    said
}

/// The server at the end of the chain is hostile and says this to the middle one.
pub fn say(sim: &mut Sim, link: LinkId, records: &[&Record]) -> Result<(), Violation> {
    let now = sim.now;
    let records = records.iter().map(|record| (0, &**record.bytes()));
    let result = write_records(records, 60_000).iter().try_for_each(|frame| sim.node(1).frame(now, link, frame));
    sim.drain(1);
    sim.run(ms(500));
    result
}

pub fn assert_untouched(sim: &mut Sim) {
    let all = [0, 1, 2];
    sim.send(0, &[1, 2], 100);
    sim.send(2, &[0, 1], 100);
    sim.run(ms(500));
    assert!(sim.is_whole(&all));
    for (from, to) in [(0, 1), (0, 2), (2, 0), (2, 1)] {
        sim.assert_delivered(from, to);
    }
    assert!(sim.servers.iter().all(|server| server.downs.is_empty()));
}

#[test]
fn a_record_that_its_server_has_not_signed_is_refused() {
    let (mut sim, link) = chain();
    let victim = sim.servers[0].identity.clone();
    let liar = sim.servers[2].identity.clone();
    let forged = Record::sign(&liar, statement(&sim, &victim, "s0", &sim.authority));
    assert_eq!(say(&mut sim, link, &[&forged]), Err(Violation::Forged(sim.id(0))));
    assert_eq!(sim.node(1).counts().records_refused, 1);
    assert_untouched(&mut sim);
}

#[test]
fn a_record_of_another_authoritys_server_is_refused_and_named() {
    let (mut sim, link) = chain();
    let stranger = Identity::from_seed(&[77; 32]);
    let foreign = Record::sign(&stranger, statement(&sim, &stranger, "s9", &stranger));
    assert_eq!(say(&mut sim, link, &[&foreign, &foreign]), Ok(()));
    let node = NodeId::of(&stranger.public());
    let doubted = MeshLog::Doubted { node, why: Doubt::Unknown(name("s9")) };
    assert_eq!(sim.servers[1].logs, [doubted], "once, however often it comes");
    assert!(!sim.servers[0].up.contains_key(&node));
    assert_untouched(&mut sim);
}

#[test]
fn a_key_with_which_everybody_agrees_is_refused() {
    let (mut sim, link) = chain();
    let weak = Identity::from_seed(&[78; 32]);
    let mut said = statement(&sim, &weak, "s9", &sim.authority);
    said.standing = [0; 32];
    assert_eq!(say(&mut sim, link, &[&Record::sign(&weak, said)]), Ok(()));
    let node = NodeId::of(&weak.public());
    assert_eq!(sim.servers[1].logs, [MeshLog::WeakKey(node)]);
    assert!(!sim.servers[0].up.contains_key(&node));
    assert_untouched(&mut sim);
}

#[test]
fn absurd_numbers_are_refused_and_named() {
    let (mut sim, link) = chain();
    let server = sim.servers[2].identity.clone();
    for absurd in 0..3 {
        let mut said = statement(&sim, &server, "s2", &sim.authority);
        let later = sim.wall() + 25 * 3600 * 1000;
        match absurd {
            0 => said.number = u64::MAX,
            1 => said.number = number_at(later),
            _ => said.issued_ms = sim.wall() - 25 * 3600 * 1000,
        }
        assert_eq!(say(&mut sim, link, &[&Record::sign(&server, said)]), Ok(()));
    }
    assert_eq!(sim.node(1).counts().records_refused, 3);
    let named = MeshLog::AbsurdRecord { node: sim.id(2), number: u64::MAX };
    assert_eq!(sim.servers[1].logs, [named]);
    assert_untouched(&mut sim);
}

#[test]
fn replayed_records_change_nothing() {
    let (mut sim, link) = chain();
    sim.tap = Some(Vec::new());
    sim.cut(1);
    sim.run(ms(1000));
    sim.mend(1);
    sim.run(ms(1000));
    let frames = sim.tap.take().unwrap();
    assert!(frames.len() > 5);
    sim.run(Duration::from_secs(60));
    let link_now = sim.links[1].id.unwrap();
    assert_ne!(link, link_now);
    let (taken, now) = (sim.node(1).counts().records, sim.now);
    let before = sim.links[0].frames;
    for (_, frame) in &frames {
        if !matches!(Frame::read(frame), Ok(Frame::Data(_))) {
            assert_eq!(sim.node(1).frame(now, link_now, frame), Ok(()));
            sim.drain(1);
        }
    }
    assert_eq!((sim.node(1).counts().records, sim.links[0].frames), (taken, before), "nothing is taken or passed on");
    sim.servers.iter_mut().for_each(|server| server.downs.clear());
    assert_untouched(&mut sim);
}

#[test]
fn a_server_that_is_gone_does_not_come_back_by_its_old_records() {
    let (mut sim, _) = chain();
    sim.tap = Some(Vec::new());
    sim.run(Duration::from_secs(40));
    let frames = sim.tap.take().unwrap();
    sim.kill(2);
    sim.run(Duration::from_secs(120));
    let (taken, now) = (sim.node(1).counts().records, sim.now);
    let link = sim.links[0].id.unwrap();
    for (_, frame) in &frames {
        assert_eq!(sim.node(1).frame(now, link, frame), Ok(()));
    }
    sim.drain(1);
    assert_eq!(sim.node(1).counts().records, taken);
}

#[test]
fn records_faster_than_honest_ones_are_not_passed_on() {
    let (mut sim, link) = chain();
    let server = sim.servers[2].identity.clone();
    let before = sim.links[0].frames[1];
    for n in 0..200 {
        let mut said = statement(&sim, &server, "s2", &sim.authority);
        said.number += 1000 + n;
        let record = Record::sign(&server, said);
        let now = sim.now;
        let frame = &write_records([(0, &**record.bytes())].into_iter(), 1)[0];
        assert_eq!(sim.node(1).frame(now, link, frame), Ok(()));
        sim.drain(1);
    }
    assert!(sim.links[0].frames[1] - before < 40, "{}", sim.links[0].frames[1] - before);
    assert!(sim.servers[1].logs.contains(&MeshLog::TooManyRecords(sim.id(2))));
    // The honest server goes beyond those numbers when it hears of them.
    sim.run(Duration::from_secs(40));
    let all = sim.all();
    sim.until(Duration::from_secs(5), "all is well again", |sim| sim.is_whole(&all));
}

#[test]
fn a_mesh_has_so_many_nodes_and_no_more() {
    let (mut sim, link) = chain();
    let now = sim.now;
    for n in 0..NODES_MAX as u32 + 20 {
        let mut seed = [99; 32];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        let identity = Identity::from_seed(&seed);
        let record = Record::sign(&identity, statement(&sim, &identity, &format!("n{n}"), &sim.authority));
        let frame = &write_records([(0, &**record.bytes())].into_iter(), 1)[0];
        assert_eq!(sim.node(1).frame(now, link, frame), Ok(()));
    }
    sim.drain(1);
    let logs = &sim.servers[1].logs;
    assert_eq!(logs.iter().filter(|log| matches!(log, MeshLog::TooManyNodes(_))).count(), 23, "{logs:?}");
    assert_untouched(&mut sim);
}

#[test]
fn a_second_key_with_a_name_of_the_mesh_is_refused() {
    let (mut sim, _) = chain();
    let twin = sim.add_named(Identity::from_seed(&[88; 32]), name("s0"));
    sim.link(2, twin, Line::fast());
    sim.run(ms(2000));
    let taken = Refused::NameTaken { name: name("s0"), holder: sim.id(0) };
    assert_eq!(sim.refusals, [(2, taken)]);
    let refused = sim.id(twin);
    assert!(sim.servers[2].logs.contains(&MeshLog::NameTaken { name: name("s0"), holder: sim.id(0), refused }));
    assert!(sim.servers[..3].iter().all(|server| !server.up.contains_key(&refused)));
    sim.refusals.clear();
    assert_untouched(&mut sim);
}

#[test]
fn when_two_meshes_meet_the_older_holder_of_a_name_stays_everywhere() {
    for seed in 0..8 {
        let mut sim = Sim::chain(seed, 4, Line::fast());
        sim.run(ms(1000));
        // Another mesh, with a younger `s0` in its middle; or it is the elder, and ours goes.
        let twin = sim.add_named(Identity::from_seed(&[88; 32]), name("s0"));
        let (a, b) = (
            sim.add_named(Identity::from_seed(&[89; 32]), name("x1")),
            sim.add_named(Identity::from_seed(&[90; 32]), name("x2")),
        );
        sim.link(a, twin, Line::fast());
        sim.link(twin, b, Line::fast());
        sim.link(a, b, Line::fast());
        sim.run(ms(2000));
        let (keeps, leaves) = if seed % 2 == 0 { (0, twin) } else { (twin, 0) };
        if seed % 2 == 1 {
            sim.kill(0);
            sim.run(ms(100));
            sim.restart(0);
            sim.run(ms(2000));
        }
        sim.link(3, a, Line::fast());
        let stay: Vec<usize> = sim.all().into_iter().filter(|at| *at != leaves).collect();
        // The elder's mesh is whole, and nobody but itself knows the younger.
        sim.until(ms(3000), "the rest are one mesh", |sim| sim.is_whole(&stay));
        sim.run(Duration::from_secs(15));
        assert!(sim.is_whole(&stay), "seed {seed}");
        let (kept, gone) = (sim.id(keeps), sim.id(leaves));
        for at in stay {
            assert!(!sim.servers[at].up.contains_key(&gone), "seed {seed}: {at} still has the younger");
            assert!(at == keeps || sim.servers[at].up.contains_key(&kept), "seed {seed}: {at} lacks the elder");
        }
        assert!(sim.violations.is_empty());
        let taken = Refused::NameTaken { name: name("s0"), holder: kept };
        assert!(!sim.refusals.is_empty() && sim.refusals.iter().all(|(_, why)| *why == taken), "{:?}", sim.refusals);
    }
}

#[test]
fn links_are_refused_to_ourselves_strangers_and_former_processes() {
    let (mut sim, link) = chain();
    let now = sim.now;
    let own = sim.proof(1);
    assert_eq!(sim.node(1).link_up(now, LinkId(900), own), Err(Refused::Ourselves));
    let mut stranger = sim.proof(0);
    stranger.key = Identity::from_seed(&[5; 32]).public();
    let doubt = Refused::Doubt(Doubt::OtherKey(name("s0")));
    assert_eq!(sim.node(1).link_up(now, LinkId(901), stranger), Err(doubt));
    let mut again = sim.proof(2);
    assert_eq!(sim.node(1).link_up(now, LinkId(902), again.clone()), Err(Refused::Twice(sim.id(2))));
    again.instance -= 1;
    assert_eq!(sim.node(1).link_up(now, LinkId(903), again.clone()), Err(Refused::Former(sim.id(2))));
    again.instance += 2;
    assert_eq!(
        sim.node(1).link_up(now, LinkId(904), again),
        Ok(()),
        "a newer process, the old link has not been missed"
    );
    sim.drain(1);
    assert_eq!(sim.refusals, [(1, Refused::Replaced(sim.id(2)))]);
    assert_eq!(sim.node(1).frame(now, link, &write_digest([].into_iter())), Err(Violation::NoLink));
}

#[test]
fn junk_ends_the_link_that_it_came_on_and_no_other() {
    let (mut sim, link) = chain();
    let now = sim.now;
    for junk in [&[][..], &[0], &[3], &[3; 200], &[1, 0, 0, 0, 0, 5, 0, 1], &[250; 40]] {
        assert_eq!(sim.node(1).frame(now, link, junk), Err(Violation::Malformed), "{junk:?}");
    }
    assert_untouched(&mut sim);
}

#[test]
fn a_frame_of_a_hostile_server_never_makes_a_node_say_more_than_a_little() {
    let (mut sim, link) = chain();
    let before = sim.links[1].bytes[0];
    for _ in 0..100 {
        let now = sim.now;
        assert_eq!(sim.node(1).frame(now, link, &write_digest([].into_iter())), Ok(()));
        sim.drain(1);
    }
    assert_eq!(sim.links[1].bytes[0], before, "it has said what it knows when the link came up");
}
