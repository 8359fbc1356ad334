//! The server's UDP ports: a thread that answers STUN and passes files' datagrams on between clients. IO.
//!
//! It is apart from the threads that serve the chat, so that a full relay delays no line of it; what the system does not take at once
//! is dropped, as on any busy line.

use super::SessionId;
use super::forwarding::{Forwarding, ForwardingCounts, NoLeg, Place, RelayLimits, Stay};
use super::metrics::Metrics;
use super::ways::Ways;
use crate::crypto::identity::PublicKey;
use crate::limits::{RELAY_LINK_BATCH, RELAY_LINK_BYTES};
use crate::mesh::NodeId;
use crate::mesh::run::MeshHandle;
use crate::net::queue::FrameSender;
use crate::net::received::{Batch, Received};
use crate::net::stun;
use crate::net::udp::BoundPort;
use crate::wire::frame::{Push, ToClient};
use crate::wire::leg::{LegDatagram, LegId, LegKey, LinkData, RELAYED_HEAD, relayed_head};
use crate::wire::relay::Passing;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::io::{PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// All legs, for who registers them and for who passes datagrams on.
#[derive(Debug, Clone)]
pub struct Legs {
    origin: Instant,
    forwarding: Arc<Mutex<Forwarding>>,
    ports: Arc<Vec<BoundPort>>,
    // Of legs that are at a link, the way to their clients.
    lines: Arc<Mutex<HashMap<LegId, Line>>>,
    // Of clients between two servers.
    ways: Arc<Mutex<Ways>>,
    pub(super) mesh: Option<MeshHandle>,
}

/// The way to a client that has its leg at a link.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// At its link to us.
    Link(FrameSender),
    /// At its link to another server.
    Mesh {
        /// Which.
        node: NodeId,
        /// Its number there.
        client: u64,
    },
}

impl Legs {
    /// None yet; datagrams go by these ports.
    pub fn new(limits: RelayLimits, ports: Vec<BoundPort>) -> Self {
        let forwarding = Arc::new(Mutex::new(Forwarding::new(limits, Duration::ZERO)));
        Self {
            origin: Instant::now(),
            forwarding,
            ports: Arc::new(ports),
            lines: Arc::default(),
            ways: Arc::default(),
            mesh: None,
        }
    }

    /// In a mesh.
    #[must_use]
    pub(super) fn linked(self, mesh: MeshHandle) -> Self {
        Self { mesh: Some(mesh), ..self }
    }

    /// From now on so much is relayed; what was today counts.
    pub(super) fn set_limits(&self, limits: RelayLimits) {
        self.with(|forwarding, now| forwarding.set_limits(now, limits));
    }

    /// How much is relayed.
    pub(super) fn limits(&self) -> RelayLimits {
        self.with(|forwarding, _| forwarding.limits())
    }

    /// The number of the port that clients are told, 0 for none.
    pub fn port(&self) -> u16 {
        self.ports.first().map_or(0, |port| port.local_addr().port())
    }

    /// Datagrams of a client whose UDP does not get through.
    pub fn came_by_link(&self, user: PublicKey, session: SessionId, sender: &FrameSender, mut data: LinkData) {
        match data.server.take() {
            Some(server) => self.pass_out((user, session), sender, server, data),
            None => self.came((user, session), Line::Link(sender.clone()), &data),
        }
    }

    /// Datagrams of a leg that is at a link.
    pub(super) fn came(&self, (user, session): (PublicKey, SessionId), line: Line, data: &LinkData) {
        let leg = *data.leg;
        let fits = data.datagrams.len() <= RELAY_LINK_BATCH;
        if !fits || !self.with(|forwarding, now| forwarding.bind_link(now, leg, user, session)) {
            return;
        }
        self.lines().insert(leg, line);
        let len = data.cost();
        if len == 0 {
            return;
        }
        match self.with(|forwarding, now| forwarding.forward(now, leg, len, Place::Link(session))) {
            Some((Place::Udp { socket, addr }, leg)) => {
                for datagram in data.datagrams() {
                    let wrapped = [&relayed_head(leg)[..], datagram].concat();
                    self.send(socket, &wrapped, wrapped.len(), addr);
                }
            }
            Some((Place::Link(_), leg)) => {
                self.to_link(LinkData { leg: leg.into(), server: None, datagrams: data.datagrams.clone() });
            }
            None => {}
        }
    }

    /// Behind a link that is busy nothing is put.
    fn to_link(&self, data: LinkData) {
        let line = self.lines().get(&*data.leg).cloned();
        match line {
            Some(Line::Link(link)) => {
                // One that is gone is forgotten with its leg.
                link.send_behind(ToClient::Push(Push::RelayData(data)).to_bytes().into(), RELAY_LINK_BYTES);
            }
            Some(Line::Mesh { node, client }) => self.parcel(node, &Passing::ToAccess { client, data }),
            None => {}
        }
    }

    /// What finds no room in the socket's buffer is lost: it is sent again by whoever it matters to.
    fn send(&self, socket: usize, bytes: &[u8], stride: usize, to: SocketAddr) {
        if let Some(port) = self.ports.get(socket) {
            port.send_batch(bytes, stride, to);
        }
    }

    fn tidy(&self) {
        let mut lines = self.lines();
        self.with(|forwarding, now| {
            forwarding.tidy(now);
            lines.retain(|leg, _| forwarding.has(leg));
        });
    }

    pub(super) fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<LegId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leg of random number and key.
    pub fn register(&self, user: PublicKey, tokens: ([u8; 32], [u8; 32])) -> Result<(LegId, LegKey), NoLeg> {
        let (mut id, mut key) = (LegId::default(), Zeroizing::new([0; 32]));
        // Without randomness there is no leg.
        getrandom::fill(&mut id).and_then(|()| getrandom::fill(&mut *key)).map_err(|_| NoLeg::Off)?;
        let key = LegKey::new(*key);
        self.with(|forwarding, now| forwarding.register(now, user, tokens, (id, key.clone())))?;
        Ok((id, key))
    }

    /// What becomes of the legs of a user.
    pub(super) fn stay(&self, user: PublicKey, stay: Stay) {
        self.with(|forwarding, now| forwarding.stay(now, user, stay));
    }

    /// What was done.
    pub fn counts(&self) -> ForwardingCounts {
        self.with(|forwarding, _| forwarding.counts())
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Forwarding, Duration) -> T) -> T {
        let mut forwarding = self.forwarding.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut forwarding, self.origin.elapsed())
    }
}

/// The thread at work; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Serving {
    // Dropped, it wakes the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but datagrams.
            let _ = thread.join();
        }
    }
}

/// Serves these ports. Without a thread there is no STUN and no relay, which is said in the log.
pub(super) fn start(legs: Legs, metrics: Arc<Metrics>) -> Serving {
    let started = std::io::pipe().and_then(|(stopped, stop)| {
        let thread = std::thread::Builder::new().name("udp".into()).spawn(move || run(&legs, &stopped, &metrics))?;
        Ok(Serving { stop: Some(stop), thread: Some(thread) })
    });
    started.unwrap_or_else(|error| {
        tracing::error!(%error, "UDP is not served");
        Serving { stop: None, thread: None }
    })
}

fn run(legs: &Legs, stopped: &PipeReader, metrics: &Metrics) {
    let mut received = Received::new(RECEIVE_BUFFERS);
    let (ports, mut tidied) = (&*legs.ports, Instant::now());
    loop {
        let mut fds: Vec<PollFd<'_>> = ports.iter().map(|port| PollFd::new(port, PollFlags::IN)).collect();
        fds.push(PollFd::new(stopped, PollFlags::IN));
        // After an error or a signal everything is looked at, as after a timeout.
        let ready = poll(&mut fds, Timespec::try_from(TIDY_EVERY).ok().as_ref()).is_ok();
        if ready && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
            return;
        }
        for socket in 0..ports.len() {
            // One port's flood does not keep the others waiting for long.
            for _ in 0..ROUNDS {
                if !serve(socket, &mut received, legs) {
                    break;
                }
            }
        }
        if tidied.elapsed() >= TIDY_EVERY {
            tidied = Instant::now();
            legs.tidy();
            metrics.relayed(legs.counts());
        }
    }
}

/// Takes what waits at a port, as far as there is room; returns whether there may be more.
fn serve(socket: usize, received: &mut Received, legs: &Legs) -> bool {
    let Some(port) = legs.ports.get(socket) else { return false };
    // An error is an ICMP message about something that was sent earlier.
    if !port.recv_batch(received).unwrap_or(true) {
        return false;
    }
    for batch in received.batches() {
        pass(socket, batch, legs);
    }
    !received.had_room()
}

/// Datagrams of one client: those of one leg in a row leave in one call.
fn pass(socket: usize, batch: Batch<'_>, legs: &Legs) {
    let Batch { bytes, stride, from, .. } = batch;
    let place = Place::Udp { socket, addr: from };
    let mut rest = bytes;
    while !rest.is_empty() {
        let first = rest.get(..stride).unwrap_or(rest);
        let Some(LegDatagram::Relayed(leg)) = LegDatagram::decode(first) else {
            let (one, others) = rest.split_at_mut(stride.min(rest.len()));
            answer((socket, from), one, legs);
            rest = others;
            continue;
        };
        let head = relayed_head(leg);
        let same = rest.chunks(stride).take_while(|one| one.len() > RELAYED_HEAD && one.starts_with(&head));
        let len = same.map(<[u8]>::len).sum();
        let (run, others) = rest.split_at_mut(len);
        rest = others;
        match legs.with(|forwarding, now| forwarding.forward(now, leg, run.len(), place)) {
            Some((Place::Udp { socket, addr }, leg)) => {
                let head = relayed_head(leg);
                run.chunks_mut(stride).flat_map(|one| one.first_chunk_mut()).for_each(|place| *place = head);
                legs.send(socket, run, stride, addr);
            }
            Some((Place::Link(_), leg)) => {
                let datagrams = run.chunks(stride).filter_map(|one| one.get(RELAYED_HEAD..));
                legs.to_link(LinkData::new(leg, datagrams));
            }
            None => {}
        }
    }
}

fn answer((socket, addr): (usize, SocketAddr), datagram: &[u8], legs: &Legs) {
    if let Some(LegDatagram::Bind(leg, counter)) = LegDatagram::decode(datagram) {
        let place = Place::Udp { socket, addr };
        let mut random = [0; 8];
        // Without randomness no leg is bound.
        if getrandom::fill(&mut random).is_err() {
            return;
        }
        let random = u64::from_ne_bytes(random);
        let answer = legs.with(|forwarding, now| forwarding.bind(now, leg, counter, datagram, place, random));
        answer.into_iter().for_each(|answer| legs.send(socket, &answer, answer.len(), addr));
    } else if datagram.len() <= stun::REQUEST_MAX
        && let Some(answer) = stun::answer(datagram, addr)
    {
        legs.with(|forwarding, _| forwarding.told_address());
        legs.send(socket, &answer, answer.len(), addr);
    }
}

/// Buffers of 64 KiB that one call may fill.
const RECEIVE_BUFFERS: usize = 4;
/// Calls in a row for one port.
const ROUNDS: usize = 16;
const TIDY_EVERY: Duration = Duration::from_secs(1);
