//! One direction's UDP port at work: batches in and out, its address as the server sees it, and the wait for what comes
//! next.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::engine::Internal;
use super::harm::Harm;
use super::legs::{Due, Legs, Ticket, Way, is_alias};
use super::reflexive::Reflexive;
use crate::channel::Batch;
use crate::limits::RELAY_BATCHES;
use crate::net::received::Received;
use crate::net::udp::{BoundPort, Sent};
use crate::wire::id::TransferId;
use crate::wire::leg::{BOUND, LinkData, PROVE, RELAYED, RELAYED_HEAD};
use crate::wire::name::Name;
use crate::wire::packet::FIRST_BYTE;

/// The port, and what waits to leave by it.
#[derive(Debug)]
pub(super) struct Wire {
    port: Arc<BoundPort>,
    received: Received,
    // Bytes that came since the last wait, and how long the next ones may lie.
    came: usize,
    lull: Duration,
    // What is being sent.
    batch: Batch,
    // The system had no room for what comes after these bytes of the batch.
    blocked: Option<(usize, SocketAddr)>,
    legs: Legs,
    // The batch as it leaves by a leg; empty while it leaves as it is.
    wrapped: Vec<u8>,
    // For what goes over the link, and a mark for each batch of it that waits.
    news: UnboundedSender<Internal>,
    leaving: Arc<()>,
    reflexive: Reflexive,
    // Our addresses as the server sees them, for who makes candidates of them.
    seen: Seen,
    // A test tool.
    harm: Option<Box<Harm>>,
}

/// Our addresses as the server sees them, and when it said so.
pub(super) type Seen = Arc<Mutex<(Vec<SocketAddr>, Option<Duration>)>>;

/// A datagram of a channel.
#[derive(Debug)]
pub(super) struct Incoming<'d> {
    /// The connection id on it.
    pub(super) id: [u8; 8],
    pub(super) from: SocketAddr,
    pub(super) bytes: &'d mut [u8],
    /// Marked for congestion on its way.
    pub(super) ce: bool,
    /// Came over the link to a server.
    pub(super) linked: bool,
}

impl Wire {
    pub(super) fn new(port: Arc<BoundPort>, seen: Seen, harm: Option<Harm>, news: UnboundedSender<Internal>) -> Self {
        Self {
            port,
            received: Received::new(RECEIVE_BUFFERS),
            came: 0,
            lull: Duration::ZERO,
            batch: Batch::new(crate::channel::MAX_BATCH),
            blocked: None,
            legs: Legs::default(),
            wrapped: Vec::new(),
            news,
            leaving: Arc::default(),
            reflexive: Reflexive::default(),
            seen,
            harm: harm.map(Box::new),
        }
    }

    /// The server's addresses, asked how we look from there.
    pub(super) fn set_servers(&mut self, now: Duration, servers: Vec<SocketAddr>) {
        self.reflexive.set_servers(now, servers);
    }

    /// Somebody wants to know how we look from the servers.
    pub(super) fn look_outside(&mut self, now: Duration) {
        self.reflexive.wake(now);
    }

    /// From now on a session may be reached over a server too, at the address that this gives.
    pub(super) fn add_leg(&mut self, now: Duration, ticket: Ticket) -> SocketAddr {
        self.legs.add(now, ticket, self.reflexive.is_in_vain())
    }

    /// A session whose leg has just been bound where it was not, and the leg's address.
    pub(super) fn take_opened(&mut self) -> Option<(TransferId, SocketAddr)> {
        self.legs.take_opened()
    }

    /// Hands over what has come over the link, if it is for a leg of ours.
    pub(super) fn came_by_link(&mut self, data: &LinkData, mut take: impl FnMut(Incoming<'_>)) {
        let Some(from) = self.legs.at_link(data) else { return };
        for datagram in data.datagrams() {
            let mut bytes = datagram.to_vec();
            if let Some(id) = connection_id(&bytes) {
                take(Incoming { id, from, bytes: &mut bytes, ce: false, linked: true });
            }
        }
    }

    /// Forgets the legs of sessions that are over.
    pub(super) fn keep_legs(&mut self, is_live: impl FnMut(TransferId) -> bool) {
        self.legs.keep(is_live);
    }

    /// Hands over what has come; returns whether there is more.
    pub(super) fn receive(&mut self, now: Duration, mut take: impl FnMut(Incoming<'_>)) -> bool {
        while let Some((from, mut bytes)) = self.harm.as_mut().and_then(|harm| harm.came(now)) {
            if let Some(id) = connection_id(&bytes) {
                take(Incoming { id, from, bytes: &mut bytes, ce: false, linked: false });
            }
        }
        // An error concerns a datagram that we sent earlier.
        if !self.port.recv_batch(&mut self.received).unwrap_or(true) {
            return false;
        }
        for mut batch in self.received.batches() {
            let (sender, ce) = (batch.from, batch.ce);
            // Asked for each datagram it would wait each time until what was opened before is stored.
            let false_alias = is_alias(sender);
            for bytes in batch.datagrams() {
                let (from, bytes) = match bytes.first() {
                    Some(&FIRST_BYTE) if false_alias => continue,
                    Some(&(RELAYED | BOUND | PROVE)) => match self.legs.open(now, sender, bytes) {
                        Some(opened) => opened,
                        None => continue,
                    },
                    _ => (sender, bytes),
                };
                if let Some(id) = connection_id(bytes) {
                    match &mut self.harm {
                        Some(harm) => harm.comes(now, from, bytes),
                        None => take(Incoming { id, from, bytes, ce, linked: false }),
                    }
                } else if self.reflexive.on_datagram(now, from, bytes) {
                    let seen = self.reflexive.candidates(true).collect();
                    *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (seen, Some(now));
                    let _ = self.news.send(Internal::LookedOutside);
                }
            }
        }
        self.came += self.received.len();
        !self.received.had_room()
    }

    /// Lets `fill` fill the batch, and sends it to where that says. Returns the bytes that were filled in, 0 if there was nothing to
    /// send; must not be called while [`Self::is_blocked`].
    pub(super) fn send(&mut self, now: Duration, fill: impl FnOnce(&mut Batch) -> Option<SocketAddr>) -> usize {
        let Some(to) = fill(&mut self.batch) else { return 0 };
        match &mut self.harm {
            Some(harm) => self.batch.datagrams().for_each(|datagram| harm.leaves(now, to, datagram)),
            None => {
                self.wrapped.clear();
                let len = self.batch.bytes().len();
                match is_alias(to).then(|| self.legs.way(to, len)).flatten() {
                    Some(Way::Udp(server, head)) => {
                        for datagram in self.batch.datagrams() {
                            self.wrapped.extend_from_slice(&head);
                            self.wrapped.extend_from_slice(datagram);
                        }
                        self.send_from(0, server);
                    }
                    Some(Way::Link(server, leg)) => self.over_link(server, LinkData::new(leg, self.batch.datagrams())),
                    None if is_alias(to) => {}
                    None => self.send_from(0, to),
                }
            }
        }
        self.batch.bytes().len()
    }

    /// The system had no room: nothing more can be sent until [`Self::retry`] has found some.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Sends what the system had no room for, and questions that are due.
    pub(super) fn retry(&mut self, now: Duration) {
        if let Some((taken, to)) = self.blocked.take() {
            self.send_from(taken, to);
        }
        while let Some((to, datagram)) = self.harm.as_mut().and_then(|harm| harm.left(now)) {
            // What the system has no room for is lost on the bad path.
            let (to, datagram) = match self.legs.way(to, datagram.len()) {
                Some(Way::Udp(server, head)) => (server, [&head[..], &datagram].concat()),
                Some(Way::Link(server, leg)) => {
                    self.over_link(server, LinkData::new(leg, std::iter::once(&*datagram)));
                    continue;
                }
                None if is_alias(to) => continue,
                None => (to, datagram.to_vec()),
            };
            self.port.send_batch(&datagram, datagram.len(), to);
        }
        while let Some(due) = self.legs.poll(now) {
            match due {
                Due::Bind(server, bind) => drop(self.port.send_batch(&bind, bind.len(), server)),
                Due::Link(server, leg) => self.over_link(server, LinkData::new(leg, std::iter::empty())),
            }
        }
        while let Some((server, question)) = self.reflexive.poll(now) {
            // A question that is lost is asked again.
            self.port.send_batch(&question, question.len(), server);
        }
    }

    /// When [`Self::retry`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let harm = self.harm.as_ref().and_then(|harm| harm.next_at());
        [self.reflexive.deadline(), self.legs.deadline(), harm].into_iter().flatten().min()
    }

    /// Of what is received at once from now on, each batch is to be answered by itself.
    pub(super) fn hurry(&mut self) {
        self.received.take_one();
    }

    /// Whether anything has come since this was asked, or since the last wait.
    pub(super) fn has_come(&mut self) -> bool {
        std::mem::take(&mut self.came) > 0
    }

    /// Waits until something has come, the bell rings, there is room again where there was none, or `timeout` is over.
    /// What comes may lie for up to `patience`, so that one look finds many datagrams.
    pub(super) fn wait(&mut self, bell: &impl AsFd, patience: Duration, timeout: Duration) {
        let timeout = timeout.min(LONGEST_WAIT);
        if std::mem::take(&mut self.came) > LULL_BYTES {
            self.lull /= 2;
        } else {
            self.lull += LULL_STEP;
        }
        self.lull = self.lull.min(patience);
        if self.lull > LULL_STEP && !self.is_blocked() {
            let lull = Timespec::try_from(self.lull.min(timeout)).ok();
            if poll(&mut [PollFd::new(bell, PollFlags::IN)], lull.as_ref()) != Ok(0) || self.lull >= timeout {
                return;
            }
        }
        let timeout = timeout - self.lull.min(timeout);
        let flags = if self.is_blocked() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&*self.port, flags), PollFd::new(bell, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        // After an error or a signal the caller looks around, as after a timeout.
        let _: Result<usize, io::Error> = poll(&mut fds, timeout.as_ref()).map_err(io::Error::from);
    }

    /// What the link is not ready for is lost, as in a socket's buffer.
    fn over_link(&self, server: Name, data: LinkData) {
        if Arc::strong_count(&self.leaving) <= RELAY_BATCHES {
            let _ = self.news.send(Internal::RelayOut(server, data, Arc::clone(&self.leaving)));
        }
    }

    fn send_from(&mut self, taken: usize, to: SocketAddr) {
        let (bytes, stride) = match self.wrapped.as_slice() {
            [] => (self.batch.bytes(), self.batch.stride()),
            wrapped => (wrapped, self.batch.stride() + RELAYED_HEAD),
        };
        let rest = bytes.get(taken..).unwrap_or_default();
        if let Sent::Full { taken: more } = self.port.send_batch(rest, stride, to) {
            self.blocked = Some((taken + more, to));
        }
    }
}

/// The connection id of a file datagram.
fn connection_id(datagram: &[u8]) -> Option<[u8; 8]> {
    let (first, rest) = datagram.split_first()?;
    if *first != FIRST_BYTE {
        return None;
    }
    rest.first_chunk().copied()
}

/// Room for what one call receives, in buffers of 64 KiB: more does not stay in the processor's cache.
const RECEIVE_BUFFERS: usize = 4;
/// While more comes than this between two waits, what comes lies for a shorter time: far below what the system holds for us.
const LULL_BYTES: usize = 64 << 10;
/// How fast the lull grows while little comes.
const LULL_STEP: Duration = Duration::from_micros(50);
/// How often somebody looks around when nothing happens.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
