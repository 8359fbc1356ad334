//! Servers, the links between them, and what goes wrong: in virtual time and from one seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use secchat::crypto::identity::Identity;
use secchat::mesh::packet::Frame;
use secchat::mesh::record::number_at;
use secchat::mesh::{
    Class, DownReason, LinkId, MeshLog, Node, NodeConfig, NodeId, NodeInfo, Output, PeerProof, Refused, Violation,
};
use secchat::wire::name::Name;
use secchat::wire::vouch::{ServerCert, ServerTrust};

/// The Unix clock at time zero.
pub const WALL: u64 = 1_800_000_000_000;

pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a link is like.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub delay: Duration,
    /// Bytes a second.
    pub rate: u64,
    /// Bytes of bulk that may wait at its end.
    pub queue: u64,
    /// Of a thousand frames so many are lost, of records none.
    pub loss: u32,
}

impl Line {
    /// A millisecond each way, as fast as anybody sends.
    pub fn fast() -> Self {
        Self { delay: ms(1), rate: 1 << 30, queue: 8 << 20, loss: 0 }
    }
}

/// One server.
pub struct Server {
    pub identity: Identity,
    pub name: Name,
    pub vouch: Option<ServerCert>,
    /// None while it is dead.
    pub node: Option<Node>,
    pub instance: u64,
    /// Milliseconds that its clock is behind.
    pub behind: u64,
    /// It has left the mesh to a newer process of the same server.
    pub ousted: bool,
    frozen: bool,
    held: Vec<Event>,
    timer: Option<Duration>,
    spins: u32,
    pub up: BTreeMap<NodeId, NodeInfo>,
    /// By sender: the numbers of its messages since it last came up, and their heads.
    pub received: BTreeMap<NodeId, Vec<u64>>,
    pub downs: Vec<(Duration, NodeId, DownReason)>,
    pub logs: Vec<MeshLog>,
    pub parcels: Vec<(NodeId, Arc<[u8]>)>,
    /// An earlier build, which knows no parcels.
    pub old: bool,
    /// By receiver: messages sent since it last came up.
    pub sent: BTreeMap<NodeId, u64>,
}

/// A link between two servers: the ends, and what has crossed it.
pub struct Link {
    pub ends: [usize; 2],
    pub line: Line,
    /// While it is up, its id at both ends.
    pub id: Option<LinkId>,
    wanted: bool,
    busy: [Duration; 2],
    full: [bool; 2],
    /// Bytes and frames that each end has sent.
    pub bytes: [u64; 2],
    pub frames: [u64; 2],
    pub bulk: [u64; 2],
    pub dropped: u64,
}

#[derive(Debug, Clone)]
enum Event {
    Frame { link: usize, id: LinkId, to: usize, bytes: Arc<[u8]> },
    LinkDown { link: LinkId, at: usize },
    Timeout { at: usize },
    Connect { link: usize },
    Room { link: usize, id: LinkId, side: usize },
    CutFrozen { at: usize, since: Duration },
    Ping { link: usize, id: LinkId },
}

/// The network.
pub struct Sim {
    pub seed: u64,
    pub now: Duration,
    pub authority: Identity,
    pub servers: Vec<Server>,
    pub links: Vec<Link>,
    queue: BTreeMap<(Duration, u64), Event>,
    count: u64,
    next_link: u64,
    pub rng: ChaCha8Rng,
    pub queue_bytes: usize,
    pub violations: Vec<(usize, Violation)>,
    pub refusals: Vec<(usize, Refused)>,
    frozen_since: BTreeMap<usize, Duration>,
    /// Frames and who they went to, while somebody wants to know.
    pub tap: Option<Vec<(usize, Arc<[u8]>)>>,
}

impl Sim {
    pub fn new(seed: u64, servers: usize) -> Self {
        let mut sim = Self {
            seed,
            now: Duration::from_secs(1000),
            authority: Identity::from_seed(&[255; 32]),
            servers: Vec::new(),
            links: Vec::new(),
            queue: BTreeMap::new(),
            count: 0,
            next_link: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue_bytes: 8 << 20,
            violations: Vec::new(),
            refusals: Vec::new(),
            frozen_since: BTreeMap::new(),
            tap: None,
        };
        (0..servers).for_each(|_| sim.add_numbered());
        sim
    }

    pub fn chain(seed: u64, servers: usize, line: Line) -> Self {
        let mut sim = Self::new(seed, servers);
        (1..servers).for_each(|at| sim.link(at - 1, at, line));
        sim
    }

    pub fn ring(seed: u64, servers: usize, line: Line) -> Self {
        let mut sim = Self::chain(seed, servers, line);
        sim.link(servers - 1, 0, line);
        sim
    }

    /// A tree with as many links again, each with a delay of its own.
    pub fn random(seed: u64, servers: usize) -> Self {
        let mut sim = Self::new(seed, servers);
        for at in 1..servers {
            let other = sim.below(at);
            let line = sim.any_line();
            sim.link(other, at, line);
        }
        for _ in 0..servers {
            let (a, b) = (sim.below(servers), sim.below(servers));
            let line = sim.any_line();
            if a != b && !sim.links.iter().any(|link| link.ends == [a, b] || link.ends == [b, a]) {
                sim.link(a, b, line);
            }
        }
        sim
    }

    fn any_line(&mut self) -> Line {
        Line { delay: Duration::from_micros(500 + self.below(20_000) as u64), ..Line::fast() }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n
    }

    fn add_numbered(&mut self) {
        let number = self.servers.len();
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
        let name = Name::parse(&format!("s{number}")).unwrap();
        self.add_named(Identity::from_seed(&seed), name);
    }

    /// A server with this name, on the authority's word.
    pub fn add_named(&mut self, identity: Identity, name: Name) -> usize {
        let vouch = Some(ServerCert::issue(&self.authority, name.clone(), identity.public(), u64::MAX));
        self.servers.push(Server {
            identity,
            name,
            vouch,
            node: None,
            instance: 0,
            behind: 0,
            ousted: false,
            frozen: false,
            held: Vec::new(),
            timer: None,
            spins: 0,
            up: BTreeMap::new(),
            received: BTreeMap::new(),
            downs: Vec::new(),
            logs: Vec::new(),
            parcels: Vec::new(),
            old: false,
            sent: BTreeMap::new(),
        });
        let at = self.servers.len() - 1;
        self.start(at);
        at
    }

    pub fn wall(&self) -> u64 {
        WALL + self.now.as_millis() as u64
    }

    fn start(&mut self, at: usize) {
        let (now, wall, authority) = (self.now, self.wall() - self.servers[at].behind, self.authority.public());
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let instance = number_at(wall) + u64::from(self.rng.next_u32() >> 16);
        let server = &mut self.servers[at];
        server.instance = instance;
        server.ousted = false;
        let config = NodeConfig {
            identity: server.identity.clone(),
            name: server.name.clone(),
            vouch: server.vouch.clone(),
            trust: ServerTrust { authorities: vec![authority], listed: Vec::new() },
            endpoints: vec![format!("{}.example:7000", server.name)],
            instance,
            queue_bytes: self.queue_bytes,
        };
        server.node = Some(Node::new(config, now, wall, seed));
        (server.up, server.received, server.sent) = Default::default();
    }

    pub fn id(&self, at: usize) -> NodeId {
        NodeId::of(&self.servers[at].identity.public())
    }

    pub fn node(&mut self, at: usize) -> &mut Node {
        self.servers[at].node.as_mut().unwrap()
    }

    pub fn path(&self, from: usize, to: usize) -> Vec<NodeId> {
        self.servers[from].node.as_ref().unwrap().path(self.id(to)).unwrap()
    }

    pub fn link(&mut self, a: usize, b: usize, line: Line) {
        self.links.push(Link {
            ends: [a, b],
            line,
            id: None,
            wanted: true,
            busy: [Duration::ZERO; 2],
            full: [false; 2],
            bytes: [0; 2],
            frames: [0; 2],
            bulk: [0; 2],
            dropped: 0,
        });
        let wait = ms(self.below(50) as u64);
        self.push(wait, Event::Connect { link: self.links.len() - 1 });
    }

    fn push(&mut self, wait: Duration, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + wait, self.count), event);
    }

    /// Lets time pass.
    pub fn run(&mut self, long: Duration) {
        let until = self.now + long;
        while let Some(due) = self.queue.first_entry().filter(|due| due.key().0 <= until) {
            self.now = self.now.max(due.key().0);
            let event = due.remove();
            self.handle(event);
        }
        self.now = until;
    }

    /// Lets time pass until something holds; fails when that takes too long.
    #[track_caller]
    pub fn until(&mut self, most: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !holds(self) {
            assert!(self.now < began + most, "seed {}: {what} not within {most:?}", self.seed);
            self.run(ms(5));
        }
        self.now - began
    }

    fn handle(&mut self, event: Event) {
        let at = match &event {
            Event::Frame { to, .. } => *to,
            Event::LinkDown { at, .. } | Event::Timeout { at } => *at,
            Event::Room { link, side, .. } => self.links[*link].ends[*side],
            Event::Connect { link } => return self.connect(*link),
            Event::Ping { link, id } => return self.ping(*link, *id),
            Event::CutFrozen { at, since } => return self.cut_frozen(*at, *since),
        };
        let server = &mut self.servers[at];
        if server.frozen {
            server.held.push(event);
            return;
        }
        let (now, wall) = (self.now, WALL + self.now.as_millis() as u64 - server.behind);
        let Some(node) = &mut server.node else {
            server.timer = None;
            return;
        };
        match event {
            Event::Frame { link, id, bytes, .. } => {
                if self.links[link].id == Some(id)
                    && let Err(violation) = node.frame(now, id, &bytes)
                {
                    self.violations.push((at, violation));
                    self.cut(link);
                }
            }
            Event::LinkDown { link, .. } => node.link_down(now, link),
            Event::Timeout { .. } => {
                if server.timer.is_some_and(|timer| timer <= now) {
                    server.timer = None;
                }
                if node.next_timeout().is_some_and(|due| due <= now) {
                    node.timeout(now, wall);
                    self.drain(at);
                    let due = self.servers[at].node.as_ref().and_then(Node::next_timeout);
                    self.servers[at].spins =
                        if due.is_some_and(|due| due <= now) { self.servers[at].spins + 1 } else { 0 };
                    assert!(self.servers[at].spins < 1000, "seed {}: a node never rests", self.seed);
                }
            }
            Event::Room { link, id, side } => {
                let room = self.links[link].id == Some(id) && std::mem::take(&mut self.links[link].full[side]);
                if room {
                    node.link_full(now, id, false);
                }
            }
            _ => {}
        }
        self.drain(at);
    }

    /// Does what the server's node wants done.
    pub fn drain(&mut self, at: usize) {
        let mut seen = 0;
        while let Some(output) = self.servers[at].node.as_mut().and_then(Node::poll) {
            seen += 1;
            assert!(seen < 1_000_000, "seed {}: a node never rests", self.seed);
            match output {
                Output::Transmit { link, frame, class } => self.transmit(at, link, frame, class),
                other => self.told(at, other),
            }
        }
        let Some(due) = self.servers[at].node.as_ref().and_then(Node::next_timeout) else { return };
        let due = due.max(self.now + Duration::from_micros(100));
        if self.servers[at].timer.is_none_or(|timer| due < timer) {
            self.servers[at].timer = Some(due);
            self.push(due - self.now, Event::Timeout { at });
        }
    }

    fn told(&mut self, at: usize, output: Output) {
        let now = self.now;
        let server = &mut self.servers[at];
        match output {
            Output::Delivered { from, head, body } => {
                assert_eq!(head, from.0[..4], "a head for somebody else");
                assert!(server.up.contains_key(&from), "seed {}: from a node that is down", self.seed);
                let number = u64::from_le_bytes(body[..8].try_into().unwrap());
                server.received.entry(from).or_default().push(number);
            }
            Output::Parcel { from, body } => server.parcels.push((from, body)),
            Output::Up(info) => {
                server.received.remove(&info.id);
                server.sent.remove(&info.id);
                assert!(server.up.insert(info.id, info).is_none(), "seed {}: up twice", self.seed);
            }
            Output::Changed(info) => {
                assert!(server.up.insert(info.id, info).is_some(), "seed {}: changed while down", self.seed);
            }
            Output::Down(id, why) => {
                assert!(server.up.remove(&id).is_some(), "seed {}: down twice", self.seed);
                server.downs.push((now, id, why));
            }
            Output::CutLink { link, why } => {
                self.refusals.push((at, why));
                if let Some(index) = self.links.iter().position(|l| l.id == Some(link)) {
                    self.links[index].wanted = false;
                    self.cut(index);
                }
            }
            Output::Log(log) => server.logs.push(log),
            Output::Ousted => {
                assert!(server.up.is_empty());
                server.ousted = true;
                self.kill(at);
            }
            Output::Transmit { .. } => {}
        }
    }

    fn transmit(&mut self, at: usize, id: LinkId, bytes: Arc<[u8]>, class: Class) {
        let now = self.now;
        let Some(index) = self.links.iter().position(|link| link.id == Some(id)) else { return };
        let link = &mut self.links[index];
        let side = usize::from(link.ends[1] == at);
        let (rate, size) = (link.line.rate, bytes.len() as u64);
        let takes = Duration::from_nanos(size * 1_000_000_000 / rate);
        let waits = link.busy[side].saturating_sub(now);
        let queued = (waits.as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
        let data = matches!(Frame::read(&bytes), Ok(Frame::Data(_) | Frame::Parcel(_)));
        let lost = data && self.rng.next_u32() % 1000 < link.line.loss;
        if lost || (class != Class::Control && queued > link.line.queue) {
            link.dropped += 1;
            return;
        }
        link.bytes[side] += size;
        link.frames[side] += 1;
        // Control goes before what waits.
        let leaves = match class {
            Class::Control => takes,
            Class::Bulk | Class::Parcel => {
                link.bulk[side] += 1;
                link.busy[side] = now.max(link.busy[side]) + takes;
                waits + takes
            }
        };
        let (wait, to) = (leaves + link.line.delay, link.ends[1 - side]);
        if let Some(tap) = &mut self.tap {
            tap.push((to, bytes.clone()));
        }
        let fill = queued > link.line.queue / 2 && !link.full[side];
        link.full[side] |= fill;
        self.push(wait, Event::Frame { link: index, id, to, bytes });
        if fill {
            self.node(at).link_full(now, id, true);
            self.push(waits / 2, Event::Room { link: index, id, side });
        }
    }

    fn connect(&mut self, index: usize) {
        let link = &self.links[index];
        let [a, b] = link.ends;
        let ready = |at: usize| self.servers[at].node.is_some() && !self.servers[at].frozen;
        if link.id.is_some() || !link.wanted {
            return;
        }
        if !ready(a) || !ready(b) {
            return self.push(ms(100), Event::Connect { link: index });
        }
        self.next_link += 1;
        let (id, now) = (LinkId(self.next_link), self.now);
        let proofs = [b, a].map(|at| self.proof(at));
        for (at, proof) in [a, b].into_iter().zip(proofs) {
            if let Err(why) = self.node(at).link_up(now, id, proof) {
                self.refusals.push((at, why));
                [a, b].into_iter().for_each(|at| self.node(at).link_down(now, id));
                [a, b].into_iter().for_each(|at| self.drain(at));
                return;
            }
        }
        let link = &mut self.links[index];
        (link.id, link.full, link.busy) = (Some(id), [false; 2], [now; 2]);
        self.ping(index, id);
    }

    pub fn proof(&self, at: usize) -> PeerProof {
        let server = &self.servers[at];
        let (name, vouch) = (server.name.clone(), server.vouch.clone());
        PeerProof { key: server.identity.public(), name, vouch, instance: server.instance, parcels: !server.old }
    }

    fn ping(&mut self, index: usize, id: LinkId) {
        if self.links[index].id != Some(id) {
            return;
        }
        let (ends, now) = (self.links[index].ends, self.now);
        for at in ends {
            let noise = Duration::from_micros(self.below(400) as u64);
            let rtt = self.links[index].line.delay * 2 + noise;
            if !self.servers[at].frozen && self.servers[at].node.is_some() {
                self.node(at).round_trip(now, id, rtt);
                self.drain(at);
            }
        }
        self.push(ms(1000), Event::Ping { link: index, id });
    }

    /// The link breaks; both ends see it soon. It is not mended by itself.
    pub fn cut(&mut self, index: usize) {
        let Some(id) = self.links[index].id.take() else { return };
        for at in self.links[index].ends {
            self.push(ms(1), Event::LinkDown { link: id, at });
        }
    }

    pub fn mend(&mut self, index: usize) {
        self.links[index].wanted = true;
        self.push(ms(100), Event::Connect { link: index });
    }

    fn links_of(&self, at: usize) -> Vec<usize> {
        (0..self.links.len()).filter(|index| self.links[*index].ends.contains(&at)).collect()
    }

    pub fn kill(&mut self, at: usize) {
        self.servers[at].node = None;
        self.links_of(at).into_iter().for_each(|index| self.cut(index));
    }

    /// A new process of a server that was killed.
    pub fn restart(&mut self, at: usize) {
        self.start(at);
        self.links_of(at).into_iter().for_each(|index| self.mend(index));
    }

    /// Stands still; after three seconds its neighbours have enough.
    pub fn freeze(&mut self, at: usize) {
        self.servers[at].frozen = true;
        self.frozen_since.insert(at, self.now);
        self.push(ms(3000), Event::CutFrozen { at, since: self.now });
    }

    fn cut_frozen(&mut self, at: usize, since: Duration) {
        if self.frozen_since.get(&at) == Some(&since) {
            self.links_of(at).into_iter().for_each(|index| self.cut(index));
        }
    }

    /// Goes on with what came meanwhile.
    pub fn thaw(&mut self, at: usize) {
        self.frozen_since.remove(&at);
        self.servers[at].frozen = false;
        for event in std::mem::take(&mut self.servers[at].held) {
            self.handle(event);
        }
        self.links_of(at).into_iter().for_each(|index| self.mend(index));
    }

    /// One message for several servers, `len` bytes long. Only those that are up get one.
    pub fn send(&mut self, from: usize, to: &[usize], len: usize) {
        let (me, now) = (self.id(from), self.now);
        let targets: Vec<NodeId> = to.iter().map(|at| self.id(*at)).collect();
        let server = &mut self.servers[from];
        if server.node.is_none() || server.frozen {
            return;
        }
        let mut by_number: BTreeMap<u64, Vec<(NodeId, Vec<u8>)>> = BTreeMap::new();
        for id in targets.into_iter().filter(|id| server.up.contains_key(id)) {
            let number = server.sent.entry(id).or_default();
            by_number.entry(*number).or_default().push((id, me.0[..4].to_vec()));
            *number += 1;
        }
        for (number, targets) in by_number {
            let mut body = number.to_le_bytes().to_vec();
            body.resize(len.max(8), 0x5a);
            self.node(from).send(now, &targets, body.into());
        }
        self.drain(from);
    }

    /// Whether all servers of a set see each other with a path.
    pub fn is_whole(&self, set: &[usize]) -> bool {
        set.iter().all(|a| {
            let up = &self.servers[*a].up;
            set.iter().all(|b| a == b || up.get(&self.id(*b)).is_some_and(|info| info.reachable))
        })
    }

    pub fn all(&self) -> Vec<usize> {
        (0..self.servers.len()).collect()
    }

    /// Everything that was sent between two servers since they came up has arrived: once, in order.
    #[track_caller]
    pub fn assert_delivered(&self, from: usize, to: usize) {
        let sent = self.servers[from].sent.get(&self.id(to)).copied().unwrap_or(0);
        let empty = Vec::new();
        let got = self.servers[to].received.get(&self.id(from)).unwrap_or(&empty);
        let right = got.iter().copied().eq(0..sent);
        let wrong = got.iter().zip(0..).find(|(got, want)| *got != want);
        assert!(right, "seed {}: {from} -> {to}: {} of {sent}, first wrong {wrong:?}", self.seed, got.len());
    }

    #[track_caller]
    pub fn assert_no_fault(&self) {
        assert!(self.violations.is_empty(), "seed {}: {:?}", self.seed, self.violations);
        assert!(self.refusals.is_empty(), "seed {}: {:?}", self.seed, self.refusals);
    }
}
