//! More is sent than the links carry.

use std::time::Duration;

use secchat::mesh::DownReason;

use crate::sim::{Line, Sim, ms};

#[test]
fn a_full_queue_resets_the_streams_of_that_pair_only() {
    let mut sim = Sim::chain(1, 4, Line::fast());
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    sim.send(1, &[3], 10);
    sim.run(ms(500));
    sim.cut(2);
    sim.run(ms(50));
    for _ in 0..100 {
        sim.send(0, &[3], 100_000);
        sim.send(0, &[2], 1000);
        sim.run(ms(1));
    }
    let (zero, three) = (sim.id(0), sim.id(3));
    let downs = &sim.servers[0].downs;
    assert!(matches!(downs[..], [(_, id, DownReason::Overflow)] if id == three), "{downs:?}");
    sim.run(ms(1000));
    sim.assert_delivered(0, 2);
    // The way is back: the other end hears of it, and both begin anew.
    sim.mend(2);
    sim.until(ms(3000), "the way is back", |sim| sim.is_whole(&all) && !sim.servers[3].downs.is_empty());
    let downs = sim.servers[3].downs.clone();
    assert!(matches!(downs[..], [(_, id, DownReason::Reset)] if id == zero), "{downs:?}");
    sim.until(ms(3000), "it is up", |sim| sim.is_whole(&all) && sim.servers[0].up.contains_key(&three));
    sim.send(0, &[3], 10);
    sim.send(3, &[0, 1], 10);
    sim.run(ms(500));
    sim.assert_delivered(3, 0);
    sim.assert_delivered(3, 1);
    sim.assert_delivered(1, 3);
    assert_eq!(sim.servers[3].downs.len(), 1);
}

#[test]
fn a_ring_under_more_than_it_carries_does_not_lock() {
    let line = Line { delay: ms(2), rate: 2_000_000, queue: 200_000, loss: 0 };
    for seed in 0..3 {
        let mut sim = Sim::ring(seed, 6, line);
        let all = sim.all();
        sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
        // Everybody sends halfway round, as much as may wait.
        for _ in 0..400 {
            for at in 0..6 {
                for to in [(at + 2) % 6, (at + 3) % 6] {
                    let id = sim.id(to);
                    while sim.node(at).queued(id) < 1 << 20 && sim.servers[at].up.contains_key(&id) {
                        sim.send(at, &[to], 5000);
                    }
                }
            }
            sim.run(ms(50));
        }
        let got: Vec<usize> =
            (0..6).flat_map(|at| sim.servers[at].received.values().map(Vec::len).collect::<Vec<_>>()).collect();
        sim.run(Duration::from_secs(60));
        for at in 0..6 {
            sim.assert_delivered(at, (at + 2) % 6);
            sim.assert_delivered(at, (at + 3) % 6);
        }
        assert!(sim.servers.iter().all(|server| server.downs.is_empty()), "seed {seed}");
        let bytes: usize = got.iter().sum::<usize>() * 5000;
        println!("seed {seed}: {} MB in 20 s, least for a pair {:?}", bytes / 1_000_000, got.iter().min());
        assert!(got.len() == 12 && got.iter().all(|got| *got > 100), "seed {seed}: {got:?}");
    }
}

#[test]
fn servers_that_drop_one_frame_in_ten_lose_no_message() {
    let line = Line { delay: ms(5), loss: 100, ..Line::fast() };
    for seed in 0..5 {
        let mut sim = Sim::chain(seed, 4, line);
        let all = sim.all();
        sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
        for _ in 0..1500 {
            sim.send(0, &[3, 2], 400);
            sim.send(3, &[0], 2000);
            sim.run(ms(1));
        }
        sim.run(Duration::from_secs(20));
        for (from, to) in [(0, 3), (0, 2), (3, 0)] {
            sim.assert_delivered(from, to);
        }
        assert!(sim.node(0).counts().repeated > 100, "seed {seed}");
        assert!(sim.servers.iter().all(|server| server.downs.is_empty()), "seed {seed}");
    }
}

#[test]
fn a_server_that_takes_nothing_for_a_while_misses_nothing() {
    let mut sim = Sim::chain(1, 3, Line::fast());
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    for tick in 0..3000 {
        sim.node(2).set_deaf((500..1500).contains(&tick));
        sim.send(0, &[1, 2], 300);
        sim.run(ms(1));
    }
    sim.run(ms(20));
    let from = sim.id(0);
    assert_eq!(sim.servers[1].received[&from].len(), 3000, "the others wait for nobody");
    sim.run(Duration::from_secs(3));
    sim.assert_delivered(0, 2);
}

#[test]
fn however_many_are_slow_what_waits_is_bounded_in_all() {
    // 0 in the middle of a star, whose rays are cut.
    let mut sim = Sim::new(1, 16);
    sim.queue_bytes = 100_000;
    sim.restart(0);
    (1..16).for_each(|at| sim.link(0, at, Line::fast()));
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    (1..15).for_each(|index| sim.cut(index));
    sim.run(ms(50));
    for _ in 0..95 {
        for at in 1..16 {
            sim.send(0, &[at], 800);
        }
        let ids: Vec<_> = (1..16).map(|at| sim.id(at)).collect();
        let waits: usize = ids.iter().map(|id| sim.node(0).queued(*id)).sum();
        assert!(waits < 800_000 + (1 << 20), "{waits}");
        sim.run(ms(1));
    }
    sim.run(ms(20));
    let downs = &sim.servers[0].downs;
    assert!(!downs.is_empty() && downs.iter().all(|(_, _, why)| *why == DownReason::Overflow), "{downs:?}");
    sim.assert_delivered(0, 1);
}
