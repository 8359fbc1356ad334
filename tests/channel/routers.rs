//! Two ends behind routers that translate addresses: what can be had is found, soon, and found again when it is lost.

use std::net::SocketAddr;
use std::time::Duration;

use secchat::channel::{Config, Event, Failure, MAX_CANDIDATES};

use crate::sim::{ASKER, HOLDER, Link, START, Sim, addr};

const HOUR: Duration = Duration::from_secs(3600);
/// How long a router keeps a mapping that nobody uses.
const KEPT: Duration = Duration::from_secs(30);

/// How a router translates and filters (RFC 4787).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One port for all, open to all.
    FullCone,
    /// One port for all, open to whom something was sent.
    Cone,
    /// A port for each peer, open to it.
    Symmetric,
}

/// A router with one host behind it.
#[derive(Debug, Clone)]
pub struct Router {
    kind: Kind,
    pub outside: SocketAddr,
    mappings: Vec<Mapping>,
    next_port: u16,
}

#[derive(Debug, Clone)]
struct Mapping {
    port: u16,
    // Of a symmetric router: for whom it is.
    only: Option<SocketAddr>,
    // Whom something was sent, and when last.
    sent: Vec<(SocketAddr, Duration)>,
}

impl Router {
    pub fn new(kind: Kind, outside: SocketAddr) -> Self {
        Self { kind, outside, mappings: Vec::new(), next_port: outside.port() }
    }

    /// How a datagram of the host looks outside.
    pub fn out(&mut self, now: Duration, to: SocketAddr) -> SocketAddr {
        self.mappings.retain(|mapping| mapping.sent.iter().any(|(_, at)| now < *at + KEPT));
        let only = (self.kind == Kind::Symmetric).then_some(to);
        let found = self.mappings.iter().position(|mapping| mapping.only == only);
        let at = found.unwrap_or_else(|| {
            self.next_port += 7;
            self.mappings.push(Mapping { port: self.next_port, only, sent: Vec::new() });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[at];
        mapping.sent.retain(|(peer, _)| *peer != to);
        mapping.sent.push((to, now));
        SocketAddr::new(self.outside.ip(), mapping.port)
    }

    /// Whether a datagram comes through to the host.
    pub fn lets_in(&self, now: Duration, from: SocketAddr, to: SocketAddr) -> bool {
        let mapping = self.mappings.iter().find(|mapping| mapping.port == to.port());
        let knows = |mapping: &Mapping| {
            let fresh = mapping.sent.iter().filter(|(_, at)| now < *at + KEPT);
            fresh.into_iter().any(|(peer, _)| self.kind == Kind::FullCone || *peer == from)
        };
        to.ip() == self.outside.ip() && mapping.is_some_and(knows)
    }

    /// The line was given another address: nothing of before counts.
    pub fn moves(&mut self, outside: SocketAddr) {
        *self = Self::new(self.kind, outside);
    }
}

fn server() -> SocketAddr {
    addr("198.18.0.1:7443")
}

/// A slow transfer between ends behind such routers, each of which knows the other's address in its network and as the server sees it.
pub fn behind(seed: u64, kinds: [Option<Kind>; 2], link: Link, len: usize) -> Sim {
    with(seed, kinds, link, Config { window: Some(4), max_datagram: 1_200, ..Config::default() }, len)
}

/// The same with these settings.
pub fn with(seed: u64, kinds: [Option<Kind>; 2], link: Link, config: Config, len: usize) -> Sim {
    let mut sim = Sim::without_candidates(seed, link, config, len);
    let outside = [addr("198.18.0.10:5000"), addr("198.18.0.20:6000")];
    let mut seen = Vec::new();
    for end in [HOLDER, ASKER] {
        sim.routers[end] = kinds[end].map(|kind| Router::new(kind, outside[end]));
        seen.push(sim.routers[end].as_mut().map_or(sim.addrs[end], |router| router.out(START, server())));
    }
    for end in [HOLDER, ASKER] {
        let inside = addr(if end == HOLDER { "192.168.7.2:2000" } else { "192.168.7.1:1000" });
        sim.ends[end].add_candidate(START, inside);
        sim.ends[end].add_candidate(START, seen[1 - end]);
    }
    sim
}

pub fn works(kinds: [Option<Kind>; 2]) -> bool {
    let [a, b] = kinds.map(|kind| kind.unwrap_or(Kind::FullCone));
    let hard = |kind| matches!(kind, Kind::Cone | Kind::Symmetric);
    !(a == Kind::Symmetric && hard(b) || b == Kind::Symmetric && hard(a))
}

pub fn pairings() -> Vec<[Option<Kind>; 2]> {
    let all = [None, Some(Kind::FullCone), Some(Kind::Cone), Some(Kind::Symmetric)];
    all.into_iter().flat_map(|a| all.map(|b| [a, b])).collect()
}

#[test]
fn whatever_can_be_punched_is_within_a_second_and_a_half() {
    for (seed, kinds) in (0..1_008).zip(pairings().into_iter().cycle()) {
        let link = if seed < 504 { Link::clean() } else { Link { loss: 50, ..Link::clean() } };
        let mut sim = behind(seed, kinds, link, 20_000);
        sim.run(Duration::from_millis(1_500));
        let began = !sim.received[ASKER].is_empty();
        assert_eq!(began, works(kinds), "seed {seed}: {kinds:?} {:?}", sim.events);
        sim.run(HOUR);
        if began {
            assert!(sim.is_whole(), "seed {seed}: {kinds:?} {:?}", sim.events);
        } else {
            assert_eq!(sim.events[ASKER].last(), Some(&Event::Failed(Failure::NoPath)));
        }
    }
}

#[test]
fn mappings_that_ended_while_both_slept_are_made_anew() {
    let mut working = pairings();
    working.retain(|kinds| works(*kinds));
    for (seed, kinds) in (0..160).zip(working.into_iter().cycle()) {
        let mut sim = behind(seed, kinds, Link::clean(), 300_000);
        sim.run(Duration::from_millis(400 + seed));
        // As if nobody had run for long: nothing moved, and the routers forgot.
        for router in sim.routers.iter_mut().flatten() {
            let outside = router.outside;
            let keeps_ports = router.kind != Kind::Symmetric;
            let mappings = std::mem::take(&mut router.mappings);
            if keeps_ports {
                // The host's own port is taken again.
                router.next_port = mappings.first().map_or(outside.port(), |mapping| mapping.port - 7);
            }
        }
        sim.run(HOUR);
        assert!(sim.is_whole(), "seed {seed}: {kinds:?} {:?}", sim.events);
        assert!(sim.now < START + Duration::from_secs(30), "seed {seed}: {kinds:?} took until {:?}", sim.now);
    }
}

#[test]
fn who_moves_is_followed_where_a_router_lets_strangers_in() {
    for (seed, moving) in (0..100).zip([HOLDER, ASKER].into_iter().cycle()) {
        let mut kinds = [Some(Kind::FullCone); 2];
        kinds[moving] = Some(Kind::Cone);
        let mut sim = behind(seed, kinds, Link::clean(), 300_000);
        sim.run(Duration::from_millis(400));
        sim.routers[moving].as_mut().unwrap().moves(addr("203.0.113.77:7700"));
        sim.run(HOUR);
        assert!(sim.is_whole(), "seed {seed}: {:?}", sim.events);
    }
}

#[test]
fn a_peer_that_moves_every_second_costs_little_and_comes_through() {
    for moving in [HOLDER, ASKER] {
        let mut sim = behind(7, [Some(Kind::FullCone); 2], Link::clean(), 3_000_000);
        for turn in 0..40_u16 {
            sim.run(Duration::from_secs(1));
            let outside = SocketAddr::new([203, 0, 113, turn as u8 + 1].into(), 7_000 + turn * 20);
            sim.routers[moving].as_mut().unwrap().moves(outside);
        }
        sim.run(HOUR);
        assert!(sim.is_whole(), "{moving}: {:?}", sim.events);
        let challenges = sim.sent.iter().filter(|(to, _)| to.ip() == addr("192.168.7.2:1").ip()).count();
        assert!(challenges < 200, "an address that never answers got {challenges}");
    }
}

#[test]
fn a_list_of_addresses_is_no_fast_scan() {
    let mut sim = behind(7, [None, None], Link::clean(), 1_000);
    sim.link.outages = std::iter::once(START..START + HOUR).collect();
    let taken = (1..=200).filter(|host| sim.ends[HOLDER].add_candidate(START, ([192, 168, 7, *host], 445).into()));
    assert!(taken.count() < MAX_CANDIDATES);
    sim.run(Duration::from_millis(100));
    let holders = |sim: &Sim| sim.sent.iter().filter(|(to, _)| to.port() == 445).count();
    assert!(holders(&sim) <= 25, "{} in a tenth of a second", holders(&sim));
    sim.run(HOUR);
    assert!(holders(&sim) <= MAX_CANDIDATES * 24, "{}", holders(&sim));
}
