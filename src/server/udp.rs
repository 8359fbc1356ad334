//! The server's UDP ports: a thread that answers STUN and passes files' datagrams on between clients. IO.
//!
//! It is apart from the threads that serve the chat, so that a full relay delays no line of it; what the system does not take at once
//! is dropped, as on any busy line.

use super::forwarding::{Forwarding, ForwardingCounts, NoLeg, Place, RelayLimits};
use super::metrics::Metrics;
use crate::crypto::identity::PublicKey;
use crate::net::received::{Batch, Received};
use crate::net::stun;
use crate::net::udp::BoundPort;
use crate::wire::leg::{LegDatagram, LegId, LegKey, RELAYED_HEAD, relayed_head};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// All legs, for who registers them and for who passes datagrams on.
#[derive(Debug, Clone)]
pub struct Legs {
    origin: Instant,
    forwarding: Arc<Mutex<Forwarding>>,
}

impl Legs {
    /// None yet.
    pub fn new(limits: RelayLimits) -> Self {
        Self { origin: Instant::now(), forwarding: Arc::new(Mutex::new(Forwarding::new(limits, Duration::ZERO))) }
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

    /// What was done.
    pub fn counts(&self) -> ForwardingCounts {
        self.with(|forwarding, _| forwarding.counts())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Forwarding, Duration) -> T) -> T {
        let mut forwarding = self.forwarding.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut forwarding, self.origin.elapsed())
    }
}

/// The thread at work; it ends, and its ports are free, when this is dropped.
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
pub(super) fn start(ports: Vec<BoundPort>, legs: Legs, metrics: Arc<Metrics>) -> Serving {
    let started = std::io::pipe().and_then(|(stopped, stop)| {
        let thread =
            std::thread::Builder::new().name("udp".into()).spawn(move || run(&ports, &legs, &stopped, &metrics))?;
        Ok(Serving { stop: Some(stop), thread: Some(thread) })
    });
    started.unwrap_or_else(|error| {
        tracing::error!(%error, "UDP is not served");
        Serving { stop: None, thread: None }
    })
}

fn run(ports: &[BoundPort], legs: &Legs, stopped: &PipeReader, metrics: &Metrics) {
    let mut received = Received::new(RECEIVE_BUFFERS);
    let mut tidied = Instant::now();
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
                if !serve(ports, socket, &mut received, legs) {
                    break;
                }
            }
        }
        if tidied.elapsed() >= TIDY_EVERY {
            tidied = Instant::now();
            legs.with(|forwarding, now| forwarding.tidy(now));
            metrics.relayed(legs.counts());
        }
    }
}

/// Takes what waits at a port, as far as there is room; returns whether there may be more.
fn serve(ports: &[BoundPort], socket: usize, received: &mut Received, legs: &Legs) -> bool {
    let Some(port) = ports.get(socket) else { return false };
    // An error is an ICMP message about something that was sent earlier.
    if !port.recv_batch(received).unwrap_or(true) {
        return false;
    }
    for batch in received.batches() {
        pass(ports, socket, batch, legs);
    }
    !received.had_room()
}

/// Datagrams of one client: those of one leg in a row leave in one call.
fn pass(ports: &[BoundPort], socket: usize, batch: Batch<'_>, legs: &Legs) {
    let Batch { bytes, stride, from, .. } = batch;
    let place = Place { socket, addr: from };
    let mut rest = bytes;
    while !rest.is_empty() {
        let first = rest.get(..stride).unwrap_or(rest);
        let Some(LegDatagram::Relayed(leg)) = LegDatagram::decode(first) else {
            let (one, others) = rest.split_at_mut(stride.min(rest.len()));
            answer(ports, place, one, legs);
            rest = others;
            continue;
        };
        let head = relayed_head(leg);
        let same = rest.chunks(stride).take_while(|one| one.len() > RELAYED_HEAD && one.starts_with(&head));
        let len = same.map(<[u8]>::len).sum();
        let (run, others) = rest.split_at_mut(len);
        rest = others;
        if let Some((to, leg)) = legs.with(|forwarding, now| forwarding.forward(now, leg, run.len(), place)) {
            let head = relayed_head(leg);
            run.chunks_mut(stride).flat_map(|one| one.first_chunk_mut()).for_each(|place| *place = head);
            send(ports, to.socket, run, stride, to.addr);
        }
    }
}

fn answer(ports: &[BoundPort], place: Place, datagram: &[u8], legs: &Legs) {
    if let Some(LegDatagram::Bind(leg, counter)) = LegDatagram::decode(datagram) {
        let bound = legs.with(|forwarding, now| forwarding.bind(now, leg, counter, datagram, place));
        bound.into_iter().for_each(|bound| send(ports, place.socket, &bound, bound.len(), place.addr));
    } else if datagram.len() <= stun::REQUEST_MAX
        && let Some(answer) = stun::answer(datagram, place.addr)
    {
        send(ports, place.socket, &answer, answer.len(), place.addr);
    }
}

/// What finds no room in the socket's buffer is lost: it is sent again by whoever it matters to.
fn send(ports: &[BoundPort], socket: usize, bytes: &[u8], stride: usize, to: SocketAddr) {
    if let Some(port) = ports.get(socket) {
        port.send_batch(bytes, stride, to);
    }
}

/// Buffers of 64 KiB that one call may fill.
const RECEIVE_BUFFERS: usize = 4;
/// Calls in a row for one port.
const ROUNDS: usize = 16;
const TIDY_EVERY: Duration = Duration::from_secs(1);
