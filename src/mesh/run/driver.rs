//! The one task that owns the node: links, the server and the clock feed it; what it puts out goes to the links and the server.
//!
//! It waits for nobody. What a link has no room for is dropped or cuts the link, and what the server does not take is not
//! acknowledged; so no ring of servers can stand still.

use super::STOP_DEADLINE;
use super::changes::{Changes, What};
use super::handle::{Ask, EventSender, MeshEvent, Sending};
use super::mishaps::{Mishap, Mishaps};
use super::parcels::{Parcel, Parcels};
use super::report::{LinkReport, MeshReport, NodeReport};
use super::words::{describe, refusal_of};
use crate::limits::{MESH_FULL_BYTES, MESH_LOG_PAUSE};
use crate::mesh::link::{Cut, FromLink, LinkEnd, Outgoing, next_node};
use crate::mesh::{Class, DownReason, LinkId, MeshLog, Node, NodeConfig, NodeId, NodeInfo, Output, PeerProof, Refused};
use crate::net::clock::wall_ms;
use crate::wire::mesh_hello::MeshRefusal;
use crate::wire::name::Name;
use crate::wire::vouch::ServerTrust;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{sleep_until, timeout};

/// Why a peer is not linked: for our log, and for the peer.
pub(super) type Refusal = (String, MeshRefusal);

/// What a connection asks of the driver.
#[derive(Debug)]
pub(super) enum Meeting {
    /// Whether there may be a link with this peer at all.
    Consider(Candidate, oneshot::Sender<Result<(), Refusal>>),
    /// Both ends have agreed.
    Admit(Candidate, Outgoing, Arc<AtomicU64>, oneshot::Sender<Result<LinkId, Refusal>>),
    /// It is over.
    Ended(LinkId, LinkEnd),
}

/// A peer that has proved its key.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub peer: PeerProof,
    pub address: SocketAddr,
    /// We have dialled it.
    pub dialled: bool,
}

/// What the driver hears.
#[derive(Debug)]
pub(super) struct Ears {
    pub frames: mpsc::Receiver<FromLink>,
    pub meetings: mpsc::Receiver<Meeting>,
    pub sends: mpsc::UnboundedReceiver<Sending>,
    pub parcels: Parcels,
    pub asks: mpsc::Receiver<Ask>,
}

/// Whom it tells.
#[derive(Debug)]
pub(super) struct Mouths {
    pub events: EventSender,
    pub parcels: mpsc::Sender<Parcel>,
    pub nodes: watch::Sender<Arc<[NodeInfo]>>,
    pub linked: watch::Sender<BTreeSet<NodeId>>,
    pub mishaps: Arc<Mishaps>,
}

pub(super) struct Driver {
    node: Node,
    own: NodeId,
    name: Name,
    trust: ServerTrust,
    started: Instant,
    next_link: u64,
    links: BTreeMap<LinkId, Link>,
    mouths: Mouths,
    /// Not handed over yet.
    events: Vec<MeshEvent>,
    nodes_changed: bool,
    /// Servers for which more than [`MESH_FULL_BYTES`] wait.
    full: BTreeSet<NodeId>,
    /// Other servers that are in the mesh, and how they are called.
    up: BTreeMap<NodeId, Name>,
    /// Neighbours whose last word was that they were stopped.
    stopped: BTreeSet<NodeId>,
    changes: Changes,
    told: BTreeMap<String, Instant>,
    /// A newer process of this server is in the mesh.
    ousted: bool,
}

struct Link {
    candidate: Candidate,
    outgoing: Outgoing,
    received: Arc<AtomicU64>,
    up: Instant,
    round_trip: Option<Duration>,
    /// Not handed over yet.
    frames: Vec<(Class, Arc<[u8]>)>,
}

impl Driver {
    pub(super) fn new(config: NodeConfig, seed: [u8; 32], mouths: Mouths) -> Self {
        let (name, trust) = (config.name.clone(), config.trust.clone());
        let node = Node::new(config, Duration::ZERO, wall_ms(), seed);
        Self {
            own: node.id(),
            node,
            name,
            trust,
            started: Instant::now(),
            next_link: 0,
            links: BTreeMap::new(),
            mouths,
            events: Vec::new(),
            nodes_changed: false,
            full: BTreeSet::new(),
            up: BTreeMap::new(),
            stopped: BTreeSet::new(),
            changes: Changes::default(),
            told: BTreeMap::new(),
            ousted: false,
        }
    }

    /// Until it is told to stop, or dropped.
    pub(super) async fn run(mut self, mut ears: Ears) {
        loop {
            let due = self.node.next_timeout().and_then(|due| self.started.checked_add(due));
            tokio::select! {
                Some(heard) = ears.frames.recv() => {
                    self.heard(heard);
                    for _ in 0..BATCH {
                        let Ok(heard) = ears.frames.try_recv() else { break };
                        self.heard(heard);
                    }
                }
                Some(meeting) = ears.meetings.recv() => self.meet(meeting),
                Some(sending) = ears.sends.recv() => {
                    self.send(&sending);
                    for _ in 0..BATCH * BATCH {
                        let Ok(sending) = ears.sends.try_recv() else { break };
                        self.send(&sending);
                    }
                }
                // One at a time: what people say never waits behind many.
                Some(parcel) = ears.parcels.recv() => {
                    let now = self.now();
                    self.node.send_parcel(now, parcel.peer, &parcel.body);
                }
                Some(ask) = ears.asks.recv() => match ask {
                    // Whoever asked may be gone.
                    Ask::Report(answer) => _ = answer.send(self.report()),
                    Ask::Stop(done) => {
                        self.stop(&mut ears.meetings).await;
                        _ = done.send(());
                        return;
                    }
                },
                () = self.mouths.events.emptied() => {}
                () = wait_until(due) => {
                    let now = self.now();
                    self.node.timeout(now, wall_ms());
                }
            }
            self.carry_out();
            if self.ousted {
                tracing::error!(
                    "this server's identity also runs elsewhere: a newer process with it is in the mesh, so this one leaves the \
                     mesh; end one of the two and start the other again, or give them an identity each"
                );
                let _ = timeout(STOP_DEADLINE, self.stop(&mut ears.meetings)).await;
                return;
            }
        }
    }

    /// Ends all links. May wait for long for one of them.
    async fn stop(&mut self, meetings: &mut mpsc::Receiver<Meeting>) {
        self.links.values().for_each(|link| link.outgoing.cut(Cut::Stopping));
        while !self.links.is_empty() {
            match meetings.recv().await {
                Some(Meeting::Ended(id, _)) => _ = self.links.remove(&id),
                Some(_) => {}
                None => return,
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn send(&mut self, sending: &Sending) {
        let now = self.now();
        self.node.send(now, &sending.targets, sending.body.clone());
        for (target, _) in &sending.targets {
            if self.node.queued(*target) > MESH_FULL_BYTES && self.full.insert(*target) {
                self.events.push(MeshEvent::Full(*target, true));
            }
        }
    }

    /// What comes of a link that is down for the node already is worth nothing.
    fn heard(&mut self, heard: FromLink) {
        let now = self.now();
        match heard {
            FromLink::Frames(id, frames) => self.frames(id, &frames),
            FromLink::RoundTrip(id, rtt) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.round_trip = Some(rtt);
                    self.node.round_trip(now, id, rtt);
                }
            }
            FromLink::Room(id) if self.links.contains_key(&id) => self.node.link_full(now, id, false),
            FromLink::Room(_) => {}
        }
    }

    fn frames(&mut self, id: LinkId, mut frames: &[u8]) {
        let now = self.now();
        while let Some((frame, rest)) = next_node(frames) {
            frames = rest;
            if !self.links.contains_key(&id) {
                return;
            }
            if let Err(violation) = self.node.frame(now, id, frame) {
                self.cut(id, Mishap::Violation, violation.to_string(), None);
                self.node.link_down(now, id);
                return;
            }
        }
    }

    fn meet(&mut self, meeting: Meeting) {
        match meeting {
            Meeting::Consider(candidate, answer) => _ = answer.send(self.consider(&candidate).map(|_| ())),
            Meeting::Admit(candidate, outgoing, received, answer) => {
                _ = answer.send(self.admit(candidate, outgoing, received));
            }
            Meeting::Ended(id, end) => self.ended(id, &end),
        }
    }

    /// `Ok` with the link that it would replace.
    fn consider(&self, candidate: &Candidate) -> Result<Option<LinkId>, Refusal> {
        let PeerProof { key, name, vouch, instance, .. } = &candidate.peer;
        let peer = NodeId::of(key);
        if peer == self.own {
            return Err((Refused::Ourselves.to_string(), MeshRefusal::Itself));
        }
        self.trust
            .check_server(name, key, vouch.as_ref(), wall_ms())
            .map_err(|doubt| (doubt.to_string(), MeshRefusal::NotTrusted))?;
        let taken = |holder| (Refused::NameTaken { name: name.clone(), holder }.to_string(), MeshRefusal::NameTaken);
        if *name == self.name {
            return Err(taken(self.own));
        }
        if let Some(holder) = self.node.nodes().find(|node| node.name == *name && node.id != peer) {
            return Err(taken(holder.id));
        }
        let Some((id, link)) = self.links.iter().find(|(_, link)| NodeId::of(&link.candidate.peer.key) == peer) else {
            return Ok(None);
        };
        // Both ends judge alike: of two links dialled at once that of the smaller node stays. Whoever dials anew has lost the
        // earlier one.
        let preferred = |dialled: bool| dialled == (self.own < peer);
        let earlier = link.candidate.peer.instance;
        if earlier > *instance {
            return Err((Refused::Former(peer).to_string(), MeshRefusal::Former));
        }
        if earlier < *instance || preferred(candidate.dialled) || !preferred(link.candidate.dialled) {
            Ok(Some(*id))
        } else {
            Err((Refused::Twice(peer).to_string(), MeshRefusal::Linked))
        }
    }

    fn admit(&mut self, candidate: Candidate, outgoing: Outgoing, received: Arc<AtomicU64>) -> Result<LinkId, Refusal> {
        let now = self.now();
        if let Some(earlier) = self.consider(&candidate)?
            && let Some(link) = self.links.remove(&earlier)
        {
            link.outgoing.cut(Cut::Refused("a newer link has taken its place".into(), Some(MeshRefusal::Linked)));
            self.node.link_down(now, earlier);
        }
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let up = self.node.link_up(now, id, candidate.peer.clone());
        let outcome = up.map(|()| {
            let (name, address, dialled) = (&candidate.peer.name, candidate.address, candidate.dialled);
            if self.changes.tells(What::Link, NodeId::of(&candidate.peer.key), Instant::now()) {
                tracing::info!(%name, %address, dialled, "linked with a server");
            }
            let link = Link { candidate, outgoing, received, up: Instant::now(), round_trip: None, frames: Vec::new() };
            self.links.insert(id, link);
            id
        });
        self.tell_linked();
        outcome.map_err(|refused| (refused.to_string(), refusal_of(&refused)))
    }

    fn ended(&mut self, id: LinkId, end: &LinkEnd) {
        let Some(link) = self.links.remove(&id) else { return };
        let now = self.now();
        self.node.link_down(now, id);
        self.tell_linked();
        let (name, address) = (&link.candidate.peer.name, link.candidate.address);
        if matches!(end, LinkEnd::Left) {
            self.stopped.insert(NodeId::of(&link.candidate.peer.key));
        }
        match Mishap::of_end(end) {
            Some(mishap) => {
                if let Some(untold) = self.mouths.mishaps.count(mishap, address.ip()) {
                    tracing::warn!(%name, %address, untold, "a link with a server was cut: {end}");
                }
            }
            None => {
                if self.changes.tells(What::Link, NodeId::of(&link.candidate.peer.key), Instant::now()) {
                    tracing::info!(%name, %address, "a link with a server is gone: {end}");
                }
            }
        }
    }

    /// For the node it is down already, or told so by the caller.
    fn cut(&mut self, id: LinkId, mishap: Mishap, why: String, word: Option<MeshRefusal>) {
        let Some(link) = self.links.remove(&id) else { return };
        let (name, address) = (&link.candidate.peer.name, link.candidate.address);
        if let Some(untold) = self.mouths.mishaps.count(mishap, address.ip()) {
            tracing::warn!(%name, %address, untold, "a link with a server was cut: {why}");
        }
        link.outgoing.cut(Cut::Refused(why, word));
        self.tell_linked();
    }

    fn tell_linked(&self) {
        let peers = self.links.values().map(|link| NodeId::of(&link.candidate.peer.key)).collect();
        self.mouths.linked.send_replace(peers);
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.node.poll() {
            match output {
                Output::Transmit { link, frame, class } => {
                    if let Some(link) = self.links.get_mut(&link) {
                        link.frames.push((class, frame));
                    }
                }
                Output::Delivered { from, head, body } => self.events.push(MeshEvent::Delivered { from, head, body }),
                Output::Parcel { from, body } => {
                    // What the server does not take at once is lost.
                    let _ = self.mouths.parcels.try_send(Parcel { peer: from, body });
                }
                Output::Up(info) => self.changed(MeshEvent::Up(info)),
                Output::Changed(info) => self.changed(MeshEvent::Changed(info)),
                Output::Down(id, why) => self.changed(MeshEvent::Down(id, why)),
                Output::CutLink { link, why } => {
                    let word = refusal_of(&why);
                    self.cut(link, Mishap::of_refusal(word), why.to_string(), Some(word));
                }
                Output::Log(log) => self.log(&log),
                Output::Ousted => self.ousted = true,
            }
        }
        self.hand_over();
    }

    fn changed(&mut self, event: MeshEvent) {
        match &event {
            MeshEvent::Up(info) => {
                self.up.insert(info.id, info.name.clone());
                self.stopped.remove(&info.id);
                if self.changes.tells(What::Server, info.id, Instant::now()) {
                    tracing::info!(name = %info.name, node = %info.id, "a server is in the mesh");
                }
            }
            MeshEvent::Down(node, why) => {
                let name = self.up.remove(node).map(|name| name.to_string()).unwrap_or_default();
                let stopped = self.stopped.remove(node);
                if self.changes.tells(What::Server, *node, Instant::now()) {
                    match why {
                        DownReason::Unreachable if stopped => {
                            tracing::info!(%name, %node, "a server has left the mesh: it was stopped");
                        }
                        DownReason::Unreachable => tracing::info!(%name, %node, "a server is out of reach: {why}"),
                        _ => tracing::info!(%name, %node, "a server has left the mesh: {why}"),
                    }
                }
            }
            MeshEvent::Changed(_) | MeshEvent::Full(..) | MeshEvent::Delivered { .. } => {}
        }
        self.nodes_changed = true;
        self.events.push(event);
    }

    fn hand_over(&mut self) {
        let now = self.now();
        for (id, link) in &mut self.links {
            if !link.frames.is_empty() && link.outgoing.push(&mut link.frames) {
                self.node.link_full(now, *id, true);
            }
        }
        let Self { full, node, events, .. } = self;
        full.retain(|target| {
            let full = node.queued(*target) > MESH_FULL_BYTES / 2;
            if !full {
                events.push(MeshEvent::Full(*target, false));
            }
            full
        });
        if std::mem::take(&mut self.nodes_changed) {
            self.mouths.nodes.send_replace(self.node.nodes().collect());
        }
        if !self.events.is_empty() {
            self.mouths.events.push(&mut self.events);
        }
        self.tell_changes();
        self.node.set_deaf(self.mouths.events.is_full());
    }

    /// What has come and gone too often to be told each time.
    fn tell_changes(&mut self) {
        for (what, node, untold) in self.changes.due(Instant::now()) {
            match what {
                What::Link => {
                    let linked = self.links.values().any(|link| NodeId::of(&link.candidate.peer.key) == node);
                    tracing::info!(%node, linked, untold, "links with a server come and go");
                }
                What::Server => {
                    let present = self.up.contains_key(&node);
                    tracing::info!(%node, present, untold, "a server comes and goes in the mesh");
                }
            }
        }
    }

    /// The same line again and again says nothing new.
    fn log(&mut self, log: &MeshLog) {
        let (text, grave) = describe(log, self.own);
        let now = Instant::now();
        self.told.retain(|_, at| now.duration_since(*at) < MESH_LOG_PAUSE);
        if self.told.len() >= TOLD_MAX || self.told.contains_key(&text) {
            return;
        }
        self.told.insert(text.clone(), now);
        if grave { tracing::error!("{text}") } else { tracing::warn!("{text}") }
    }

    fn report(&self) -> MeshReport {
        let nodes = self.node.nodes().map(|info| {
            let path = self.node.path(info.id).unwrap_or_default();
            NodeReport { info, path }
        });
        let links = self.links.values().map(|link| {
            let counts = link.outgoing.counts();
            LinkReport {
                peer: NodeId::of(&link.candidate.peer.key),
                name: link.candidate.peer.name.clone(),
                address: link.candidate.address,
                dialled: link.candidate.dialled,
                up: link.up.elapsed(),
                round_trip: link.round_trip,
                control_bytes: counts.control_bytes,
                bulk_bytes: counts.bulk_bytes,
                dropped: counts.dropped_frames,
                parcels_dropped: counts.dropped_parcels,
                sent_frames: counts.sent_frames,
                sent_bytes: counts.sent_bytes,
                received_bytes: link.received.load(Ordering::Relaxed),
            }
        });
        MeshReport {
            name: self.name.clone(),
            id: self.own,
            nodes: nodes.collect(),
            links: links.collect(),
            edges: self.node.edges().collect(),
            counts: self.node.counts(),
            refusals: self.mouths.mishaps.counts(),
            waiting: self.mouths.events.waiting(),
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        // A timer rounds up to whole milliseconds, and what is due now is the next burst of messages.
        Some(due) if due <= Instant::now() => yield_now().await,
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// What waits on one side is worked on in runs of at most so many pieces, or the square of it where they are small.
const BATCH: usize = 16;
/// Different lines that are remembered.
const TOLD_MAX: usize = 64;
