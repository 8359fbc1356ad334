//! The way changes while a file travels: to a better one, to a detour, and back; nothing is lost and nothing stands still.

use std::net::SocketAddr;
use std::time::Duration;

use secchat::channel::{Arq, Config, Event};

use crate::routers::{pairings, with, works};
use crate::sim::{ASKER, HOLDER, Link, START, Sim, detour};

const HOUR: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_millis(100);

/// A transfer that takes about so many seconds, by a small window or by a rate; as it comes, with either scheme.
fn config(seed: u64) -> Config {
    let arq = [Arq::Auto, Arq::SelectiveRepeat, Arq::GoBackN][seed as usize % 3];
    let idle_timeout = Duration::from_secs(8);
    let config = Config { max_datagram: 1_452, arq, idle_timeout, ..Config::default() };
    if seed.is_multiple_of(2) {
        Config { window: Some(1), ..config }
    } else {
        Config { rate_limit: Some(30_000), ..config }
    }
}

/// Ends behind routers through which there is a way.
fn ends(seed: u64, link: Link, len: usize) -> Sim {
    let mut kinds = pairings();
    kinds.retain(|kinds| works(*kinds));
    with(seed, kinds[seed as usize % kinds.len()], link, config(seed), len)
}

/// Where the streams of this end go.
fn is_direct(sim: &Sim, end: usize) -> bool {
    sim.ends[end].path().is_some_and(|path| path != detour(end))
}

fn failed(sim: &Sim) -> bool {
    sim.events.iter().flatten().any(|event| matches!(event, Event::Failed(_) | Event::Closed { .. }))
}

/// Runs in steps, and adds detours where an end is silent. Returns the longest time in which the asker got nothing.
fn drive(sim: &mut Sim, for_long: Duration, detours: bool) -> Duration {
    let until = sim.now + for_long;
    let (mut at, mut longest) = (sim.now, Duration::ZERO);
    let mut added = [None; 2];
    while sim.now < until && !sim.ends.iter().all(|end| end.is_drained()) {
        let before = sim.received[ASKER].len();
        let next = sim.now + STEP;
        sim.run(STEP);
        sim.now = sim.now.max(next);
        if sim.received[ASKER].len() > before || sim.is_whole() {
            at = sim.now;
        }
        longest = longest.max(sim.now - at);
        for end in [HOLDER, ASKER] {
            let now = sim.now;
            let due = added[end].is_none_or(|at| now > at + Duration::from_secs(5));
            if detours && due && sim.ends[end].is_silent() {
                added[end] = Some(now);
                sim.ends[end].add_detour(now, detour(end));
            }
        }
    }
    longest
}

#[test]
fn a_file_moves_from_its_detour_to_the_way_that_opens_later_and_never_stands_still() {
    for seed in 0..120 {
        let opens = Duration::from_millis(4_000 + seed * 191 % 20_000);
        let mut sim = ends(seed, Link::clean().with_outage(Duration::ZERO, opens), 1_800_000);
        for end in [HOLDER, ASKER] {
            sim.run(Duration::from_millis(3_000 + seed * 7 % 400) - (sim.now - START));
            let now = sim.now;
            sim.ends[end].add_detour(now, detour(end));
        }
        sim.run(Duration::from_millis(600));
        assert!([HOLDER, ASKER].iter().all(|end| sim.ends[*end].path() == Some(detour(*end))), "seed {seed}");
        let left = opens + Duration::from_secs(21) - (sim.now - START);
        let pause = drive(&mut sim, left, false);
        let direct = [HOLDER, ASKER].iter().all(|end| is_direct(&sim, *end));
        assert!(direct && !sim.is_whole(), "seed {seed}: {:?} of {}", sim.events, sim.received[ASKER].len());
        let after = drive(&mut sim, HOUR, false);
        assert!(pause.max(after) <= Duration::from_millis(500), "seed {seed}: nothing came for {pause:?}, {after:?}");
        assert!(sim.is_whole() && !failed(&sim), "seed {seed}: {:?}", sim.events);
        let moves = sim.events[ASKER].iter().filter(|event| matches!(event, Event::PathValidated(_))).count();
        assert_eq!(moves, 2, "seed {seed}: {:?}", sim.events);
    }
}

#[test]
fn a_way_that_dies_is_replaced_by_a_detour_and_taken_again_when_it_is_back() {
    for seed in 0..120 {
        let (dies, long) = (Duration::from_millis(600 + seed * 37), Duration::from_secs(15 + seed % 10));
        let mut sim = ends(seed, Link::clean().with_outage(dies, long), 1_800_000);
        let mut pause = drive(&mut sim, dies + Duration::from_secs(6), true);
        let over = [HOLDER, ASKER].iter().all(|end| sim.ends[*end].path() == Some(detour(*end)));
        assert!(over, "seed {seed}: {:?}", sim.events);
        pause = pause.max(drive(&mut sim, long + Duration::from_secs(16), true));
        let back = [HOLDER, ASKER].iter().all(|end| is_direct(&sim, *end));
        assert!(back && !sim.is_whole(), "seed {seed}: {:?}", sim.events);
        pause = pause.max(drive(&mut sim, HOUR, true));
        assert!(sim.is_whole() && !failed(&sim), "seed {seed}: {:?}", sim.events);
        assert!(pause <= Duration::from_secs(5), "seed {seed}: nothing came for {pause:?}");
    }
}

#[test]
fn a_way_that_works_in_one_direction_only_is_left_by_both() {
    for seed in 0..60 {
        let mute = [HOLDER, ASKER][seed as usize / 2 % 2];
        let dies = Duration::from_millis(600 + seed * 37);
        let link = Link { mute: Some((mute, START + dies..START + HOUR)), ..Link::clean() };
        let mut sim = ends(seed, link, 600_000);
        let pause = drive(&mut sim, HOUR, true);
        assert!(sim.is_whole() && !failed(&sim), "seed {seed}: {:?}", sim.events);
        assert!(pause <= Duration::from_secs(6), "seed {seed}: nothing came for {pause:?}");
    }
}

#[test]
fn who_moves_every_second_beside_a_detour_costs_little_and_the_file_comes() {
    for (seed, moving) in (0..20).zip([HOLDER, ASKER].into_iter().cycle()) {
        let mut sim = ends(seed, Link::clean(), 1_000_000);
        for end in [HOLDER, ASKER] {
            sim.ends[end].add_detour(START, detour(end));
        }
        for turn in 0..30_u8 {
            drive(&mut sim, Duration::from_secs(1), true);
            let outside = SocketAddr::new([203, 0, 113, turn + 1].into(), 7_000 + u16::from(turn) * 20);
            sim.addrs[moving] = outside;
            if let Some(router) = &mut sim.routers[moving] {
                router.moves(outside);
            }
        }
        drive(&mut sim, HOUR, true);
        assert!(sim.is_whole() && !failed(&sim), "seed {seed}: {:?}", sim.events);
        for strange in ["192.168.7.1", "192.168.7.2"] {
            let sent = sim.sent.iter().filter(|(to, _)| to.ip().to_string() == strange).count();
            assert!(sent < 300, "seed {seed}: {strange} got {sent} in {:?}", sim.now - START);
        }
    }
}

#[test]
fn where_no_other_way_opens_the_others_are_asked_seldom_and_not_for_ever() {
    let mut sim = with(8, [None, None], Link::clean().with_outage(Duration::ZERO, HOUR * 9), config(8), 90_000_000);
    for end in [HOLDER, ASKER] {
        sim.ends[end].add_detour(START, detour(end));
    }
    let strangers = |sim: &Sim| sim.sent.iter().filter(|(to, _)| *to != detour(HOLDER) && *to != detour(ASKER)).count();
    sim.run(Duration::from_secs(60));
    let first = strangers(&sim);
    sim.run(Duration::from_secs(60));
    let second = strangers(&sim) - first;
    // Two ends with two addresses each.
    assert!(first <= 4 * (24 + 15) && second <= 4 * 12, "{first}, {second}");
    sim.sent.clear();
    sim.run(Duration::from_secs(1_800));
    sim.sent.clear();
    sim.run(Duration::from_secs(120));
    assert_eq!(strangers(&sim), 0);
    assert!(!failed(&sim), "{:?}", sim.events);
}
