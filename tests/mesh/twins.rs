//! One identity that runs twice, and clocks that were set back: the newer process stays, and nobody's ways flutter.

use std::time::Duration;

use secchat::mesh::packet::write_records;
use secchat::mesh::record::Record;
use secchat::mesh::{DownReason, MeshLog};

use crate::hostile::{assert_untouched, chain, say, statement};
use crate::sim::{Line, Sim, ms};

const HOUR: u64 = 3_600_000;

/// Four in a chain, and after a while a second process of the first one, behind the last.
fn twins(seed: u64, after: Duration) -> (Sim, usize) {
    let mut sim = Sim::chain(seed, 4, Line::fast());
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    sim.run(after);
    let (identity, name) = (sim.servers[0].identity.clone(), sim.servers[0].name.clone());
    let twin = sim.add_named(identity, name);
    sim.link(3, twin, Line::fast());
    (sim, twin)
}

fn assert_one_is_left(sim: &mut Sim, leaves: usize, stays: usize) {
    let rest = [1, 2, 3, stays];
    sim.until(Duration::from_secs(15), "one leaves", |sim| sim.servers[leaves].ousted);
    sim.until(ms(3000), "the others are one mesh", |sim| sim.is_whole(&rest));
    let downs: Vec<usize> = (1..4).map(|at| sim.servers[at].downs.len()).collect();
    sim.run(Duration::from_secs(120));
    assert!(sim.is_whole(&rest) && !sim.servers[stays].ousted, "seed {}", sim.seed);
    for (at, before) in (1..4).zip(downs) {
        assert_eq!(sim.servers[at].downs.len(), before, "seed {}: the ways of {at} flutter", sim.seed);
    }
    sim.send(1, &[stays], 100);
    sim.send(stays, &[1, 2, 3], 100);
    sim.run(ms(200));
    sim.assert_delivered(1, stays);
    (1..4).for_each(|to| sim.assert_delivered(stays, to));
}

#[test]
fn of_two_processes_of_one_server_the_older_leaves_the_mesh() {
    for seed in 0..10 {
        let (mut sim, twin) = twins(seed, Duration::from_secs(60));
        assert_one_is_left(&mut sim, 0, twin);
        let downs: usize = (1..4).map(|at| sim.servers[at].downs.len()).sum();
        assert_eq!(downs, 3, "each has begun anew with it once");
        assert!(sim.refusals.is_empty() && sim.violations.is_empty());
    }
}

#[test]
fn of_two_that_were_started_at_once_one_leaves_soon() {
    for seed in 0..10 {
        let (mut sim, twin) = twins(seed, ms(seed * 300));
        sim.until(Duration::from_secs(15), "one leaves", |sim| sim.servers[0].ousted || sim.servers[twin].ousted);
        let (leaves, stays) = if sim.servers[0].ousted { (0, twin) } else { (twin, 0) };
        assert_one_is_left(&mut sim, leaves, stays);
    }
}

#[test]
fn a_server_whose_clock_was_set_back_comes_back_as_its_own_successor() {
    for (seed, away) in [(1, 50), (2, 2000), (3, 10_000), (4, 60_000), (5, 95_000), (6, 200_000)] {
        let mut sim = Sim::ring(seed, 4, Line::fast());
        let all = sim.all();
        sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
        sim.run(Duration::from_secs(60));
        sim.kill(0);
        sim.run(ms(away));
        sim.servers[0].behind = HOUR;
        sim.restart(0);
        sim.run(ms(4000));
        assert!(sim.is_whole(&all), "seed {seed}: it is there again");
        let zero = sim.id(0);
        sim.servers.iter_mut().for_each(|server| server.downs.clear());
        sim.run(Duration::from_secs(120));
        assert!(sim.is_whole(&all) && !sim.servers[0].ousted, "seed {seed}");
        assert!(sim.servers.iter().all(|server| server.downs.is_empty()), "seed {seed}");
        assert!(sim.servers[0].logs.contains(&MeshLog::ClockSetBack));
        assert!(sim.node(1).nodes().any(|info| info.id == zero));
        sim.send(0, &[1, 2, 3], 100);
        sim.send(2, &[0], 100);
        sim.run(ms(200));
        (1..4).for_each(|to| sim.assert_delivered(0, to));
        sim.assert_delivered(2, 0);
    }
}

#[test]
fn records_of_a_former_process_are_refused_and_counted() {
    let (mut sim, link) = chain();
    let server = sim.servers[2].identity.clone();
    let mut said = statement(&sim, &server, "s2", &sim.authority);
    said.instance = sim.servers[2].instance - 1;
    said.number += 1000;
    assert_eq!(say(&mut sim, link, &[&Record::sign(&server, said)]), Ok(()));
    assert_eq!(sim.node(1).counts().records_refused, 1);
    assert_eq!(sim.servers[1].logs, [MeshLog::FormerProcess(sim.id(2))]);
    assert_untouched(&mut sim);
}

/// Whoever has an old record of a server cannot make it leave: only a process that began later can.
#[test]
fn old_records_oust_nobody() {
    let mut sim = Sim::chain(7, 3, Line::fast());
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    sim.tap = Some(Vec::new());
    sim.run(Duration::from_secs(40));
    let frames = sim.tap.take().unwrap();
    sim.kill(0);
    sim.restart(0);
    sim.run(Duration::from_secs(60));
    let (link, now) = (sim.links[0].id.unwrap(), sim.now);
    for (_, frame) in frames {
        assert_eq!(sim.node(0).frame(now, link, &frame), Ok(()));
    }
    sim.drain(0);
    sim.run(ms(1000));
    assert!(!sim.servers[0].ousted && sim.is_whole(&all));
    // By its own key, of a process that begins later, it is true.
    let server = sim.servers[0].identity.clone();
    let mut said = statement(&sim, &server, "s0", &sim.authority);
    said.instance += 1 << 16;
    let record = Record::sign(&server, said);
    let now = sim.now;
    let frame = &write_records([(0, &**record.bytes())].into_iter(), 60_000)[0];
    sim.node(0).frame(now, link, frame).unwrap();
    sim.drain(0);
    assert!(sim.servers[0].ousted);
    assert!(sim.servers[0].downs.iter().any(|(.., why)| *why == DownReason::Unreachable));
}
