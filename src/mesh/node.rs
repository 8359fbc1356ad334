//! One server's part in the mesh, put together: takes one input and the time, then is drained of outputs.

mod inward;
mod outward;
mod parcels;
mod remote;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::event::{
    DownReason, LinkId, MeshCounts, MeshLog, NodeConfig, NodeInfo, Output, PeerProof, Refused, Violation,
};
use super::outgoing::cost;
use super::packet::{BODY_MAX, Frame, HEAD_MAX};
use super::topology::Topology;
use crate::wire::vouch::NodeId;
use remote::Remote;

/// A node. After each input, or several at once, drain [`poll`](Self::poll): packets are put together there, so what is
/// given in one go leaves in few frames. Then sleep until [`next_timeout`](Self::next_timeout).
#[derive(Debug)]
pub struct Node {
    topology: Topology,
    remotes: BTreeMap<NodeId, Remote>,
    // Those that may have something to send; each is marked too.
    dirty: Vec<NodeId>,
    full: BTreeSet<LinkId>,
    deaf: bool,
    // A newer process is what we were.
    ousted: bool,
    // Nothing has come since the outputs were drained to the end.
    flushed: bool,
    // Bytes sent since all queues were summed up.
    unsummed: usize,
    outputs: VecDeque<Output>,
    now: Duration,
    // The last message's group.
    group: u64,
    // The last parcel's.
    parcel_number: u64,
    counts: MeshCounts,
    scratch: Vec<u8>,
    // What a tag is over.
    covered: Vec<u8>,
}

impl Node {
    /// A node without links. `wall_ms` is the Unix clock; `seed` spreads its timers.
    pub fn new(config: NodeConfig, now: Duration, wall_ms: u64, seed: [u8; 32]) -> Self {
        Self {
            topology: Topology::new(config, now, wall_ms, seed),
            remotes: BTreeMap::new(),
            dirty: Vec::new(),
            full: BTreeSet::new(),
            deaf: false,
            ousted: false,
            flushed: false,
            unsummed: 0,
            outputs: VecDeque::new(),
            now,
            group: 0,
            parcel_number: 0,
            counts: MeshCounts::default(),
            scratch: Vec::new(),
            covered: Vec::new(),
        }
    }

    /// A link has come up, both hellos are said. Of two links dialled at once the driver keeps one; here the second is
    /// refused unless the peer is a newer process, then the first is cut.
    pub fn link_up(&mut self, now: Duration, link: LinkId, peer: PeerProof) -> Result<(), Refused> {
        self.begin(now);
        self.topology.link_up(now, link, peer)
    }

    /// The link is gone. Unknown links are ignored.
    pub fn link_down(&mut self, now: Duration, link: LinkId) {
        self.begin(now);
        self.full.remove(&link);
        self.topology.link_down(now, link);
    }

    /// A ping on the link took this long.
    pub fn round_trip(&mut self, now: Duration, link: LinkId, rtt: Duration) {
        self.begin(now);
        self.topology.round_trip(now, link, rtt);
    }

    /// Whether the link's queue for bulk is about half full; the driver drops bulk when it is full altogether. Our own
    /// messages wait from the one to the other, which leaves room for those of others.
    pub fn link_full(&mut self, now: Duration, link: LinkId, full: bool) {
        self.begin(now);
        if full {
            self.full.insert(link);
        } else if self.full.remove(&link) {
            let waiting = self.remotes.iter_mut().filter(|(_, remote)| remote.streams.outgoing.queued() > 0);
            waiting.for_each(|(id, remote)| remote.mark(*id, &mut self.dirty));
        }
    }

    /// While the driver cannot take what is delivered: nothing is, and nothing acknowledged, so that others send it again. What
    /// is for others goes on.
    pub const fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// A frame has come on the link. Frames whose first byte is [`LINK_KIND`](super::packet::LINK_KIND) or more (hello,
    /// pings) are the driver's own and never come here.
    pub fn frame(&mut self, now: Duration, link: LinkId, bytes: &[u8]) -> Result<(), Violation> {
        self.begin(now);
        if self.topology.peer_of(link).is_none() {
            return Err(Violation::NoLink);
        }
        match Frame::read(bytes).map_err(|_| Violation::Malformed)? {
            Frame::Records(records) => self.topology.records(now, link, &records)?,
            Frame::Digest(numbers) => self.topology.digest(now, link, &numbers),
            Frame::Data(data) => self.data(now, link, &data, bytes),
            Frame::Parcel(parcel) => self.parcel(link, &parcel, bytes),
        }
        Ok(())
    }

    /// Sends to each target its head and to all the body: once, and in order for each target. Targets that are not
    /// [`Output::Up`], and ourselves, are ignored. A head has at most [`HEAD_MAX`] bytes, a body [`BODY_MAX`]; longer
    /// ones are not sent.
    pub fn send(&mut self, now: Duration, targets: &[(NodeId, Vec<u8>)], body: Arc<[u8]>) {
        self.begin(now);
        self.group += 1;
        for (id, head) in targets {
            let Some(remote) = self.remotes.get_mut(id).filter(|remote| remote.up) else { continue };
            if head.len() > HEAD_MAX || body.len() > BODY_MAX {
                self.counts.refused += 1;
                continue;
            }
            let room = self.topology.config().queue_bytes.saturating_sub(remote.streams.outgoing.queued());
            if cost(head.len(), body.len()) > room {
                remote.streams.reset(now);
                self.void(*id, DownReason::Overflow);
                continue;
            }
            remote.streams.outgoing.push(self.group, head, &body);
            remote.mark(*id, &mut self.dirty);
            self.counts.sent += 1;
            self.unsummed += cost(head.len(), body.len());
        }
        if self.unsummed >= SUM_EVERY {
            self.bound_queues();
        }
    }

    /// To be called at [`next_timeout`](Self::next_timeout), or earlier.
    pub fn timeout(&mut self, now: Duration, wall_ms: u64) {
        self.begin(now);
        self.topology.set_wall(now, wall_ms);
        self.topology.timeout(now);
        self.settle();
        let ids: Vec<NodeId> = self.remotes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.remote_timeout(id));
    }

    /// When [`timeout`](Self::timeout) must be called; right after [`poll`](Self::poll) had nothing more. At once if more
    /// is to be sent than leaves in one go: first the driver may say that a link is full.
    pub fn next_timeout(&self) -> Option<Duration> {
        if !self.dirty.is_empty() {
            return Some(self.now);
        }
        self.remotes.values().filter_map(Remote::next_timeout).chain(self.topology.next_timeout()).min()
    }

    /// The next thing to do. Call until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && !std::mem::replace(&mut self.flushed, true) {
            self.flush();
        }
        self.outputs.pop_front()
    }

    /// Other nodes that were not [`Output::Down`] since their [`Output::Up`].
    pub fn nodes(&self) -> impl Iterator<Item = NodeInfo> + '_ {
        self.remotes.iter().filter(|(_, remote)| remote.up).filter_map(|(id, _)| self.info(*id))
    }

    /// Every known link of the mesh with its round trip, each once.
    pub fn edges(&self) -> impl Iterator<Item = (NodeId, NodeId, Duration)> + '_ {
        let links = self.topology.graph().links();
        links.map(|(a, b, micros)| (a, b, Duration::from_micros(u64::from(micros))))
    }

    /// The nodes on the way to `target`, it included; none without a path.
    pub fn path(&self, target: NodeId) -> Option<Vec<NodeId>> {
        self.topology.route(target).map(|route| route.path.clone())
    }

    /// Bytes that wait or are under way for `target`: whoever sends much keeps this well below
    /// [`queue_bytes`](NodeConfig::queue_bytes).
    pub fn queued(&self, target: NodeId) -> usize {
        self.remotes.get(&target).map_or(0, |remote| remote.streams.outgoing.queued())
    }

    /// Our own id.
    pub const fn id(&self) -> NodeId {
        self.topology.id()
    }

    /// What was counted.
    pub const fn counts(&self) -> MeshCounts {
        let (records, records_refused) = (self.topology.taken, self.topology.refused);
        MeshCounts { records, records_refused, ..self.counts }
    }

    const fn begin(&mut self, now: Duration) {
        self.now = now;
        self.flushed = false;
    }

    fn log(&mut self, log: MeshLog) {
        self.topology.log(self.now, log);
    }

    /// However many destinations are slow, no more waits in all than fits into so many queues: the longest goes.
    fn bound_queues(&mut self) {
        self.unsummed = 0;
        let most = self.topology.config().queue_bytes.saturating_mul(QUEUES_FULL);
        let queued = |remote: &Remote| remote.streams.outgoing.queued();
        if self.remotes.values().map(queued).sum::<usize>() > most
            && let Some((id, remote)) = self.remotes.iter_mut().max_by_key(|(_, remote)| queued(remote))
        {
            let id = *id;
            remote.streams.reset(self.now);
            self.void(id, DownReason::Overflow);
        }
    }
}

const SUM_EVERY: usize = 1 << 20;
const QUEUES_FULL: usize = 8;
