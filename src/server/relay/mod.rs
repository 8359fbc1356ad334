//! What this server is for the others of its mesh: to our own clients the way to the rooms of other servers ([`access`]), to the clients
//! of others the home of our rooms ([`home`]). Whole frames pass; what they ask is the core's business.

mod access;
mod bans;
mod home;
mod listing;
mod reads;
mod sight;

use super::io::{Input, SessionId, Way};
use crate::crypto::identity::{Identity, PublicKey};
use crate::mesh::run::MeshEvent;
use crate::mesh::{DownReason, NodeId, NodeInfo};
use crate::wire::name::Name;
use crate::wire::relay::Head;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a relay is made of.
#[derive(Debug)]
pub struct RelayConfig {
    /// This server's name.
    pub name: Name,
    /// Signs for servers that are listed by their fingerprint.
    pub identity: Identity,
    /// Whom clients believe on other servers: the mesh's authorities.
    pub authorities: Vec<PublicKey>,
    /// Random: what other servers learn of where our clients are is hashed with it.
    pub secret: [u8; 32],
}

/// How much other servers may ask of this one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    /// Sessions of clients of other servers.
    pub(super) guests: usize,
    /// Of those, through one server.
    pub(super) guests_of_one: usize,
}

/// What happened in the relay since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// Sessions of our clients at other servers, now.
    pub away: usize,
    /// Sessions of clients of other servers here, now.
    pub guests: usize,
    /// Frames passed on to other servers, counted once for each of them.
    pub sent: u64,
    /// Frames of other servers taken.
    pub taken: u64,
    /// Of those that made no sense: for a client that is not there, or no frame at all. A few follow the end of each session.
    pub ignored: u64,
    /// Clients of other servers that were not let in: no pass, or too many.
    pub refused: u64,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Act {
    /// To other servers: a head for each, and one body.
    Mesh(Vec<(NodeId, Vec<u8>)>, Arc<[u8]>),
    /// An encoded frame to one of our clients.
    Client(SessionId, Arc<[u8]>),
    /// What another server says to one of our clients, with its number there.
    From { session: SessionId, client: u64, frame: Arc<[u8]> },
    /// For what passes beside the core.
    Way(Way),
    /// Something for the core.
    Core(Box<Input>),
}

/// Both roles. Takes what happened, then is asked what is to be done until that is nothing.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    pub(super) caps: Caps,
    now: Duration,
    wall_ms: u64,
    nodes: BTreeMap<NodeId, NodeInfo>,
    by_name: BTreeMap<Name, NodeId>,
    access: access::Access,
    home: home::Home,
    listing: listing::Listing,
    reads: reads::Reads,
    sight: sight::Sight,
    acts: VecDeque<Act>,
    counts: RelayCounts,
}

impl Relay {
    /// Before the mesh says anything.
    pub fn new(config: RelayConfig) -> Self {
        Self {
            config,
            caps: Caps { guests: GUESTS_MAX, guests_of_one: GUESTS_OF_ONE_MAX },
            now: Duration::ZERO,
            wall_ms: 0,
            nodes: BTreeMap::new(),
            by_name: BTreeMap::new(),
            access: access::Access::default(),
            home: home::Home::default(),
            listing: listing::Listing::default(),
            reads: reads::Reads::default(),
            sight: sight::Sight::default(),
            acts: VecDeque::new(),
            counts: RelayCounts::default(),
        }
    }

    /// What was counted.
    pub fn counts(&self) -> RelayCounts {
        RelayCounts { away: self.access.open(), guests: self.home.len(), ..self.counts }
    }

    /// The present time, before anything else.
    pub(super) fn at(&mut self, now: Duration, wall_ms: u64) {
        (self.now, self.wall_ms) = (self.now.max(now), wall_ms);
        self.lose_sight();
        self.tell_servers();
        self.begin_all_reads();
    }

    /// When [`Relay::at`] is wanted.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        [self.listing.due(), self.reads.due(), self.sight.due()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    pub(super) fn event(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Up(info) => {
                self.lost(info.id, DownReason::Reset);
                self.list(info.clone());
                self.tell_core(Input::ServerUp(Box::new(info)));
            }
            MeshEvent::Changed(info) if self.nodes.contains_key(&info.id) => self.list(info),
            MeshEvent::Changed(_) => {}
            MeshEvent::Full(node, full) => self.filled(node, full),
            MeshEvent::Down(node, why) => self.lost(node, why),
            MeshEvent::Delivered { from, head, body } => self.delivered(from, &head, body),
        }
    }

    fn list(&mut self, info: NodeInfo) {
        self.looked(&info);
        self.listing.change(self.nodes.get(&info.id), &info, self.now);
        if let Some(old) = self.nodes.get(&info.id).filter(|old| old.name != info.name) {
            self.by_name.remove(&old.name);
        }
        self.by_name.insert(info.name.clone(), info.id);
        self.nodes.insert(info.id, info);
        self.tell_servers();
    }

    fn lost(&mut self, node: NodeId, why: DownReason) {
        let Some(info) = self.nodes.remove(&node) else { return };
        if self.by_name.get(&info.name) == Some(&node) {
            self.by_name.remove(&info.name);
        }
        self.reads.forget(node);
        self.sight.forget(&node);
        self.node_down(node, &info.name, why);
        for (client, session) in self.home.all_of(node) {
            self.way(Way::NotIn { node, client });
            self.tell_core(Input::Disconnected(session));
        }
        self.listing.gone(self.now);
        self.tell_servers();
    }

    fn delivered(&mut self, from: NodeId, head: &[u8], body: Arc<[u8]>) {
        let (Some(node), Ok(head)) = (self.nodes.get(&from), Head::from_bytes(head)) else {
            self.counts.ignored += 1;
            return;
        };
        self.counts.taken += 1;
        match head {
            Head::Open { client, source } => {
                let (key, name) = (node.key, node.name.clone());
                self.opened(home::Opening { node: from, key, name, client, source: *source }, &body);
            }
            Head::Frame { client } => self.client_frame(from, client, &body),
            Head::Gone { client } => self.client_gone(from, client),
            Head::ToClients { clients } => self.told(from, &clients, &body),
            Head::Closed { client } => self.closed_there(from, client),
            Head::BansKnown => self.bans(from, true, body),
            Head::Bans => self.bans(from, false, body),
        }
    }

    fn tell_core(&mut self, input: Input) {
        self.acts.push_back(Act::Core(Box::new(input)));
    }

    fn way(&mut self, way: Way) {
        self.acts.push_back(Act::Way(way));
    }

    /// One message to one server.
    fn send_one(&mut self, node: NodeId, head: &Head, body: Arc<[u8]>) {
        self.counts.sent += 1;
        self.acts.push_back(Act::Mesh(vec![(node, head.to_bytes())], body));
    }
}

/// Whether a session's number is one of a client of another server.
pub(super) const fn is_guest(session: SessionId) -> bool {
    session >= GUESTS
}

/// What stands for a network at a server, in 16 bytes that say nothing else.
fn veiled(secret: &[u8; 32], node: NodeId, ip: IpAddr) -> [u8; 16] {
    let network = super::attempts::source(ip);
    *crate::crypto::kdf::expand(secret, &network, "secchat/1 relay source", &[&node.0])
}

/// Sessions of clients of other servers have numbers from here on; those of our own never get so far.
const GUESTS: SessionId = 1 << 63;
/// Sessions of clients of other servers in all.
const GUESTS_MAX: usize = 20_000;
/// Sessions through one other server.
const GUESTS_OF_ONE_MAX: usize = 5_000;
