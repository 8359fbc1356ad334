//! Servers on the way are killed, frozen and started again; whoever lives misses nothing.

use std::time::Duration;

use crate::sim::{Line, Sim, ms};

const MOST: Duration = Duration::from_secs(3);

/// Waits until all see each other.
fn whole(sim: &mut Sim) {
    let all = sim.all();
    sim.until(MOST, "all see each other", |sim| sim.is_whole(&all));
}

#[test]
fn a_chain_carries_every_message_once_and_in_order() {
    let mut sim = Sim::chain(1, 4, Line::fast());
    whole(&mut sim);
    for _ in 0..2000 {
        sim.send(0, &[3], 300);
        sim.send(3, &[0], 300);
        sim.run(Duration::from_micros(100));
    }
    sim.run(ms(100));
    sim.assert_delivered(0, 3);
    sim.assert_delivered(3, 0);
    sim.assert_no_fault();
    assert_eq!(sim.node(0).counts().repeated, 0, "nothing was lost");
    assert_eq!(sim.servers[0].up[&sim.id(3)].hops, 3);
}

#[test]
fn in_a_ring_the_server_on_the_way_is_killed_frozen_and_restarted() {
    for seed in 0..6 {
        let mut sim = Sim::ring(seed, 6, Line::fast());
        whole(&mut sim);
        let path = sim.path(0, 3);
        let middle = (0..6).find(|at| sim.id(*at) == path[0]).unwrap();
        for tick in 0..14_000 {
            sim.send(0, &[3], 300);
            if tick % 5 == 0 {
                sim.send(3, &[0], 300);
            }
            match tick {
                2000 => sim.kill(middle),
                5000 => sim.restart(middle),
                7000 => sim.freeze(middle),
                11_500 => sim.thaw(middle),
                _ => {}
            }
            sim.run(ms(1));
        }
        sim.run(ms(1000));
        sim.assert_delivered(0, 3);
        sim.assert_delivered(3, 0);
        sim.assert_no_fault();
        let ends = [sim.id(0), sim.id(3)];
        let downs = [0, 3].map(|at| sim.servers[at].downs.clone());
        assert!(!downs.iter().flatten().any(|(_, id, _)| ends.contains(id)), "seed {seed}: {downs:?}");
        whole(&mut sim);
    }
}

#[test]
fn a_killed_server_costs_the_others_no_more_than_the_news_of_it() {
    let mut sim = Sim::ring(3, 6, Line::fast());
    whole(&mut sim);
    let path = sim.path(0, 2);
    assert_eq!(path[0], sim.id(1));
    sim.run(ms(500));
    sim.kill(1);
    sim.run(ms(1));
    sim.send(0, &[2], 300);
    let to = sim.id(0);
    let took = sim.until(ms(50), "it arrives another way", |sim| sim.servers[2].received.contains_key(&to));
    assert!(took <= ms(20), "{took:?}");
    sim.assert_delivered(0, 2);
}

#[test]
fn everybody_knows_within_three_seconds_who_is_there() {
    for seed in 0..4 {
        let mut sim = Sim::random(seed, 20);
        whole(&mut sim);
        let victim = 1 + sim.below(19);
        let gone = sim.id(victim);
        let others: Vec<usize> = (0..20).filter(|at| *at != victim).collect();
        let seen = |sim: &Sim, at: usize| sim.servers[at].up.get(&gone).is_some_and(|info| info.reachable);
        sim.kill(victim);
        sim.until(MOST, "all know that it is dead", |sim| others.iter().all(|at| !seen(sim, *at)));
        sim.restart(victim);
        whole(&mut sim);
        sim.freeze(victim);
        // Its neighbours take three seconds to find out.
        sim.until(MOST + ms(1000), "all know that it hangs", |sim| others.iter().all(|at| !seen(sim, *at)));
        sim.thaw(victim);
        whole(&mut sim);
        sim.assert_no_fault();
    }
}

#[test]
fn random_meshes_live_through_random_harm() {
    (0..6).for_each(|seed| harm(seed, 14));
    harm(100, 50);
}

fn harm(seed: u64, servers: usize) {
    let mut sim = Sim::random(seed, servers);
    whole(&mut sim);
    let mortal: Vec<usize> = (0..6).map(|_| servers / 5 + sim.below(servers * 4 / 5)).collect();
    for round in 0..60u64 {
        for from in 0..servers / 5 {
            for _ in 0..5 {
                let to = sim.below(servers);
                sim.send(from, &[to], 200);
                sim.send(to, &[from], 100);
            }
        }
        let victim = mortal[sim.below(mortal.len())];
        match round % 12 {
            1 => sim.kill(victim),
            2 | 7 => {
                let index = sim.below(sim.links.len());
                sim.cut(index);
            }
            4 => revive(&mut sim, &mortal),
            5 => sim.freeze(victim),
            9 => {
                sim.thaw(victim);
                mortal.iter().for_each(|at| sim.thaw(*at));
            }
            10 => (0..sim.links.len()).for_each(|index| sim.mend(index)),
            _ => {}
        }
        let wait = 100 + sim.below(300) as u64;
        sim.run(ms(wait));
    }
    mortal.iter().for_each(|at| sim.thaw(*at));
    revive(&mut sim, &mortal);
    (0..sim.links.len()).for_each(|index| sim.mend(index));
    whole(&mut sim);
    sim.run(ms(6000));
    whole(&mut sim);
    let immortal: Vec<usize> = (0..servers).filter(|at| !mortal.contains(at)).collect();
    assert_all_delivered(&sim, &immortal);
    assert!(sim.violations.is_empty(), "seed {seed}: {:?}", sim.violations);
}

fn revive(sim: &mut Sim, mortal: &[usize]) {
    for at in mortal {
        if sim.servers[*at].node.is_none() {
            sim.restart(*at);
        }
    }
}

/// Of the servers that lived all the time none was down for another that a path led to.
fn assert_all_delivered(sim: &Sim, lived: &[usize]) {
    for from in lived {
        for to in lived.iter().filter(|to| *to != from) {
            let both = [(*from, sim.id(*to)), (*to, sim.id(*from))];
            if both.iter().all(|(at, id)| !sim.servers[*at].downs.iter().any(|(_, down, _)| down == id)) {
                sim.assert_delivered(*from, *to);
            }
        }
    }
}

#[test]
fn a_split_heals_by_itself_and_a_long_one_begins_anew() {
    for (seed, long, voids) in [(1, 1, false), (2, 30, true), (3, 150, true)] {
        let mut sim = Sim::chain(seed, 4, Line::fast());
        whole(&mut sim);
        sim.send(0, &[3], 10);
        sim.run(ms(50));
        sim.cut(1);
        sim.run(ms(10));
        sim.send(0, &[3], 10);
        sim.run(ms(400));
        assert!(!sim.servers[0].up[&sim.id(3)].reachable, "it is told that no path leads there");
        sim.run(Duration::from_secs(long));
        assert_eq!(!sim.servers[0].up.contains_key(&sim.id(3)), voids);
        sim.mend(1);
        whole(&mut sim);
        (0..5).for_each(|_| sim.send(0, &[3, 2], 10));
        sim.send(3, &[0, 1], 10);
        sim.run(ms(500));
        for (from, to) in [(0, 3), (0, 2), (3, 0), (3, 1)] {
            sim.assert_delivered(from, to);
        }
        let downs = sim.servers[0].downs.iter().filter(|(_, id, _)| *id == sim.id(3)).count();
        assert_eq!(downs, usize::from(voids), "once, however long it was: {:?}", sim.servers[0].downs);
    }
}

#[test]
fn a_restarted_end_begins_anew_and_gets_no_old_message() {
    for seed in 0..10 {
        let mut sim = Sim::ring(seed, 5, Line { delay: ms(10), ..Line::fast() });
        whole(&mut sim);
        for _ in 0..200 {
            sim.send(0, &[2], 300);
            sim.run(ms(1));
        }
        sim.kill(2);
        (0..50).for_each(|_| sim.send(0, &[2], 300));
        sim.run(ms(30));
        sim.restart(2);
        let (me, old) = (sim.id(0), sim.id(2));
        sim.until(MOST, "it is back", |sim| {
            let instance = sim.servers[0].up.get(&old).is_some_and(|info| info.instance == sim.servers[2].instance);
            instance && sim.servers[2].up.contains_key(&me)
        });
        assert!(!sim.servers[2].received.contains_key(&me));
        (0..100).for_each(|_| sim.send(0, &[2], 300));
        sim.run(ms(2000));
        sim.assert_delivered(0, 2);
        sim.assert_no_fault();
    }
}
