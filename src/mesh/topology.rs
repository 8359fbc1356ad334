//! Who is in the mesh and which way leads where: records are kept, judged, passed on and aged; our own is told.

mod judge;
mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::event::{LinkId, MeshLog, NodeConfig, PeerProof, Refused, Violation};
use super::packet::{write_digest, write_records};
use super::record::{MAX_AGE, Record};
use super::routes::{Graph, Route};
use super::{NEIGHBOURS_MAX, NodeId};
use crate::crypto::pair::{Pair, Standing};
use judge::Told;
use own::Own;

/// The mesh as known here.
#[derive(Debug)]
pub(super) struct Topology {
    config: NodeConfig,
    id: NodeId,
    standing: Standing,
    began: Duration,
    // Processes of ours before us whose numbers were greater.
    successions: u32,
    // The Unix clock, milliseconds, at a time of ours.
    wall: (Duration, u64),
    links: BTreeMap<LinkId, Link>,
    // One link for each neighbour.
    by_peer: BTreeMap<NodeId, LinkId>,
    known: BTreeMap<NodeId, Known>,
    // Nodes that were forgotten: an old record brings none back.
    gone: BTreeMap<NodeId, Gone>,
    own: Own,
    // Records to be passed on.
    flood: BTreeMap<NodeId, Flood>,
    frames: Vec<(LinkId, Vec<u8>)>,
    graph: Graph,
    routes: BTreeMap<NodeId, Route>,
    // The routes are not what the records say.
    stale: bool,
    events: Vec<Event>,
    told: Told,
    rng: ChaCha8Rng,
    pub(super) taken: u64,
    pub(super) refused: u64,
}

#[derive(Debug)]
struct Link {
    peer: NodeId,
    instance: u64,
    parcels: bool,
    // The last ones, microseconds; the least of them is what the link can do when nothing waits.
    samples: [u32; SAMPLES],
    next_sample: usize,
    // What our record says, and since when.
    published: u32,
    published_at: Option<Duration>,
    // Its digest was answered.
    answered: bool,
}

#[derive(Debug)]
struct Known {
    record: Record,
    // By the keys of the record and ours.
    pair: Pair,
    // When it was signed, by our clock.
    since: Duration,
    // Records that it may still send, in thousandths, at `refilled`.
    allowance: u64,
    refilled: Duration,
}

#[derive(Debug)]
struct Gone {
    record: Record,
    since: Duration,
    at: Duration,
}

#[derive(Debug)]
struct Flood {
    due: Duration,
    // These neighbours have it.
    except: BTreeSet<LinkId>,
}

/// What has happened to the mesh.
#[derive(Debug)]
pub(super) enum Event {
    /// A record was taken: the node is new, or says something new of itself.
    Known(NodeId),
    /// It is another process now.
    Restarted(NodeId),
    /// Nothing was heard of it for long.
    Forgotten(NodeId),
    /// An older node has its name.
    Evicted(NodeId),
    /// A link must be cut; it is down here already.
    Cut(LinkId, Refused),
    /// For the log.
    Log(MeshLog),
    /// We are another process from now on, as others see it.
    Renumbered,
    /// A newer process is what we were.
    Ousted,
}

/// How the way to a node has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rerouted {
    /// There is a way now.
    Found(NodeId),
    /// There is none any more.
    Lost(NodeId),
    /// There is another, for the old one is broken.
    Broken(NodeId),
    /// There is a better one.
    Better(NodeId),
}

impl Topology {
    pub(super) fn new(config: NodeConfig, now: Duration, wall_ms: u64, seed: [u8; 32]) -> Self {
        let id = NodeId::of(&config.identity.public());
        let own = Own::new(&config, now, wall_ms);
        let standing = Standing::of(&config.identity);
        Self {
            config,
            id,
            standing,
            began: now,
            successions: 0,
            wall: (now, wall_ms),
            links: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            known: BTreeMap::new(),
            gone: BTreeMap::new(),
            own,
            flood: BTreeMap::new(),
            frames: Vec::new(),
            graph: Graph::default(),
            routes: BTreeMap::new(),
            stale: false,
            events: Vec::new(),
            told: Told::default(),
            rng: ChaCha8Rng::from_seed(seed),
            taken: 0,
            refused: 0,
        }
    }

    pub(super) const fn config(&self) -> &NodeConfig {
        &self.config
    }

    pub(super) const fn id(&self) -> NodeId {
        self.id
    }

    fn wall_ms(&self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.wall.0).as_millis();
        self.wall.1.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    pub(super) fn set_wall(&mut self, now: Duration, wall_ms: u64) {
        self.wall = (now, wall_ms);
    }

    /// Takes a neighbour, and says what we know.
    pub(super) fn link_up(&mut self, now: Duration, link: LinkId, peer: PeerProof) -> Result<(), Refused> {
        let id = NodeId::of(&peer.key);
        if id == self.id {
            return Err(Refused::Ourselves);
        }
        self.config.trust.check_server(&peer.name, &peer.key, peer.vouch.as_ref(), self.wall_ms(now))?;
        if let Some(holder) = self.holder_of(&peer.name).filter(|holder| *holder != id) {
            self.log(now, MeshLog::NameTaken { name: peer.name.clone(), holder, refused: id });
            return Err(Refused::NameTaken { name: peer.name, holder });
        }
        if let Some(old) = self.by_peer.get(&id).copied() {
            let instance = self.links.get(&old).map_or(0, |link| link.instance);
            if peer.instance <= instance {
                return Err(if peer.instance < instance { Refused::Former(id) } else { Refused::Twice(id) });
            }
            self.cut(now, old, Refused::Replaced(id));
        }
        if self.links.len() >= NEIGHBOURS_MAX {
            return Err(Refused::TooMany);
        }
        let samples = [u32::MAX; SAMPLES];
        let state = Link {
            peer: id,
            instance: peer.instance,
            parcels: peer.parcels,
            samples,
            next_sample: 0,
            published: FIRST_RTT,
            published_at: None,
            answered: false,
        };
        self.links.insert(link, state);
        self.by_peer.insert(id, link);
        self.stale = true;
        self.own.changed(now);
        let numbers = self.known.iter().map(|(id, known)| (*id, known.record.said().number));
        let ours = self.own.number().map(|number| (self.id, number));
        self.frames.push((link, write_digest(numbers.chain(ours))));
        Ok(())
    }

    pub(super) fn link_down(&mut self, now: Duration, link: LinkId) {
        let Some(state) = self.links.remove(&link) else { return };
        self.by_peer.remove(&state.peer);
        self.stale = true;
        self.own.changed(now);
    }

    fn cut(&mut self, now: Duration, link: LinkId, why: Refused) {
        self.link_down(now, link);
        self.events.push(Event::Cut(link, why));
    }

    /// Takes a measurement. Our record says it anew only when it is clearly another, and not often: what flutters must
    /// not move the paths of the whole mesh.
    pub(super) fn round_trip(&mut self, now: Duration, link: LinkId, rtt: Duration) {
        let Some(link) = self.links.get_mut(&link) else { return };
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(MAX_RTT).clamp(1, MAX_RTT);
        if let Some(sample) = link.samples.get_mut(link.next_sample) {
            *sample = micros;
        }
        link.next_sample = (link.next_sample + 1) % SAMPLES;
        let least = link.samples.iter().copied().min().unwrap_or(micros);
        let clearly = least.abs_diff(link.published) > (link.published / 4).max(RTT_STEP);
        if clearly && link.published_at.is_none_or(|at| now >= at + RTT_HOLD) {
            (link.published, link.published_at) = (least, Some(now));
            self.stale = true;
            self.own.changed(now);
        }
    }

    /// Whether the neighbour at the link knows parcels.
    pub(super) fn takes_parcels(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.parcels)
    }

    pub(super) fn peer_of(&self, link: LinkId) -> Option<NodeId> {
        self.links.get(&link).map(|link| link.peer)
    }

    /// Records from a neighbour.
    pub(super) fn records(&mut self, now: Duration, link: LinkId, records: &[(u32, &[u8])]) -> Result<(), Violation> {
        records.iter().try_for_each(|(age, bytes)| {
            let age = Duration::from_millis(u64::from(*age)).min(MAX_AGE);
            let record = Record::read(bytes).map_err(|_| Violation::Malformed)?;
            self.judge(now, link, record, age)
        })
    }

    /// The neighbour says which records it has: it gets those that it lacks. It says so once, when the link comes up.
    pub(super) fn digest(&mut self, now: Duration, link: LinkId, numbers: &[(NodeId, u64)]) {
        if self.links.get_mut(&link).is_none_or(|state| std::mem::replace(&mut state.answered, true)) {
            return;
        }
        let has: BTreeMap<NodeId, u64> = numbers.iter().copied().collect();
        let lacks = |id: &NodeId, number: u64| has.get(id).is_none_or(|theirs| *theirs < number);
        let others = self.known.iter().filter(|(id, known)| lacks(id, known.record.said().number));
        let others = others.map(|(_, known)| (age(now, known.since), &**known.record.bytes()));
        let ours = self.own.record().filter(|record| lacks(&self.id, record.said().number));
        let ours = ours.map(|record| (age(now, self.own.signed_at()), &**record.bytes()));
        let frames = write_records(others.chain(ours), CHUNK);
        self.frames.extend(frames.into_iter().map(|frame| (link, frame)));
    }

    /// What has to leave for the neighbours now.
    pub(super) fn frames(&mut self, now: Duration) -> Vec<(LinkId, Vec<u8>)> {
        if self.own.is_due(now) && (self.own.record().is_some() || !self.links.is_empty()) {
            let wall_ms = self.wall_ms(now);
            let links = self.links.values().map(|link| (link.peer, link.published));
            self.own.sign(&self.config, now, wall_ms, links, self.rng.next_u32());
            self.flood.insert(self.id, Flood { due: now, except: BTreeSet::new() });
        }
        let due: Vec<NodeId> = self.flood.iter().filter(|(_, flood)| flood.due <= now).map(|(id, _)| *id).collect();
        if !due.is_empty() {
            let floods: Vec<(NodeId, Flood)> =
                due.into_iter().filter_map(|id| Some((id, self.flood.remove(&id)?))).collect();
            for link in self.links.keys() {
                let wanted = floods.iter().filter(|(_, flood)| !flood.except.contains(link));
                let records = wanted.filter_map(|(id, _)| self.record(now, *id));
                let frames = write_records(records, CHUNK);
                self.frames.extend(frames.into_iter().map(|frame| (*link, frame)));
            }
        }
        std::mem::take(&mut self.frames)
    }

    fn record(&self, now: Duration, id: NodeId) -> Option<(u32, &[u8])> {
        if id == self.id {
            return self.own.record().map(|record| (age(now, self.own.signed_at()), &**record.bytes()));
        }
        self.known.get(&id).map(|known| (age(now, known.since), &**known.record.bytes()))
    }

    /// What a node says of itself.
    pub(super) fn said(&self, id: NodeId) -> Option<&Record> {
        self.known.get(&id).map(|known| &known.record)
    }

    /// What we share with a node.
    pub(super) fn pair(&self, id: NodeId) -> Option<&Pair> {
        self.known.get(&id).map(|known| &known.pair)
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn log(&mut self, now: Duration, log: MeshLog) {
        if self.told.is_news(now, &log) {
            self.events.push(Event::Log(log));
        }
    }

    pub(super) fn route(&self, to: NodeId) -> Option<&Route> {
        self.routes.get(&to)
    }

    pub(super) const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Finds the ways anew if they may have changed.
    pub(super) fn reroute(&mut self) -> Vec<Rerouted> {
        if !std::mem::take(&mut self.stale) {
            return Vec::new();
        }
        let mut graph = Graph::default();
        for (id, known) in &self.known {
            graph.tell(*id, known.record.said().neighbours.iter().map(|link| (link.id(), link.rtt_micros.max(1))));
        }
        graph.tell(self.id, self.links.values().map(|link| (link.peer, link.published)));
        let routes = graph.routes(self.id, &self.by_peer);
        let old = std::mem::replace(&mut self.routes, routes);
        self.graph = graph;
        let lost = old.keys().filter(|id| !self.routes.contains_key(id)).map(|id| Rerouted::Lost(*id));
        let found = self.routes.iter().filter_map(|(id, route)| {
            let Some(before) = old.get(id) else { return Some(Rerouted::Found(*id)) };
            if before.link != route.link {
                let link_holds = self.links.contains_key(&before.link);
                let holds = link_holds && self.graph.holds(self.id, &before.path);
                return Some(if holds { Rerouted::Better(*id) } else { Rerouted::Broken(*id) });
            }
            let same = before == route;
            let holds = same || self.graph.holds(self.id, &before.path);
            (!same).then_some(if holds { Rerouted::Better(*id) } else { Rerouted::Broken(*id) })
        });
        lost.chain(found).collect()
    }

    /// Forgets what was not heard of for long.
    pub(super) fn timeout(&mut self, now: Duration) {
        let over = |known: &Known| now >= known.since + MAX_AGE;
        let old: Vec<NodeId> = self.known.iter().filter(|(_, known)| over(known)).map(|(id, _)| *id).collect();
        for id in old {
            self.forget(now, id);
            self.events.push(Event::Forgotten(id));
        }
    }

    fn forget(&mut self, now: Duration, id: NodeId) {
        let Some(known) = self.known.remove(&id) else { return };
        self.flood.remove(&id);
        self.stale = true;
        self.gone.insert(id, Gone { record: known.record, since: known.since, at: now });
        if self.gone.len() > GONE_MAX {
            let oldest = self.gone.iter().min_by_key(|(_, gone)| gone.at).map(|(id, _)| *id);
            oldest.map(|id| self.gone.remove(&id));
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let old = self.known.values().map(|known| known.since + MAX_AGE);
        let flood = self.flood.values().map(|flood| flood.due);
        let own = (self.own.record().is_some() || !self.links.is_empty()).then(|| self.own.due());
        old.chain(flood).chain(own).min()
    }
}

fn age(now: Duration, since: Duration) -> u32 {
    u32::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u32::MAX)
}

/// Of so many pings the fastest counts.
const SAMPLES: usize = 8;
/// What a link's round trip is thought to be before it is measured, microseconds.
const FIRST_RTT: u32 = 10_000;
const MAX_RTT: u32 = 60_000_000;
/// Smaller changes of a round trip are not told, microseconds.
const RTT_STEP: u32 = 300;
const RTT_HOLD: Duration = Duration::from_secs(10);
/// Records leave in frames of about this size, bytes.
const CHUNK: usize = 32 * 1024;
const GONE_MAX: usize = 1024;
