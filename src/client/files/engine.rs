//! The file side's own thread: commands in, events out. Datagrams are the business of two others, one for each direction;
//! disks and hashes work on more.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::content::Content;
use super::downloads::Downloads;
use super::fetches::{FetchLetter, Parts};
use super::hashing::{Hasher, Trees};
use super::legs::Ticket;
use super::mailbox::Address;
use super::offering::Offer;
use super::prepare::{Prepared, Waiting};
use super::reflexive::FRESH;
use super::shares::SharedFolder;
use super::uploads::UploadLetter;
use super::wire::Seen;
use crate::client::effects::{FilesCommand, FilesEvent, LegHost, OfferReady, OfferRefusal, Reach, ShareCommand};
use crate::limits::{CANDIDATES_MAX, RELAY_BATCHES};
use crate::net::mapping::{Mapped, Mapper};
use crate::net::udp::{BoundPort, canonical, is_candidate};
use crate::wire::id::{OfferId, TransferId};
use crate::wire::leg::LinkData;
use crate::wire::name::Name;
use crate::wire::payload::FileRefusal;

/// All state of the engine's thread.
pub(super) struct Engine {
    pub(super) up: Direction<UploadLetter>,
    pub(super) down: Direction<FetchLetter>,
    pub(super) folder: Arc<SharedFolder>,
    pub(super) trees: Arc<Trees>,
    pub(super) parts: Parts,
    pub(super) downloads: Downloads,
    pub(super) hasher: Hasher,
    pub(super) settings: Settings,
    pub(super) loopback: bool,
    // Where the server answers STUN.
    pub(super) servers: Vec<SocketAddr>,
    pub(super) reach: Reach,
    // Asks the router for ways to our ports.
    pub(super) mapper: Option<Arc<Mapper>>,
    // The host of the server that we are linked with.
    pub(super) server: Option<String>,
    // A mark for each batch that has come over the link and waits for its lane.
    pub(super) coming: Arc<()>,
    pub(super) origin: Instant,
    pub(super) prepared: HashMap<TransferId, Prepared>,
    // What is ready but for our addresses outside, and until when they are waited for.
    pub(super) waiting: Vec<(Duration, Waiting)>,
    // When lanes were last told that somebody wants these addresses.
    pub(super) looked: Duration,
    pub(super) offers: HashMap<OfferId, Offer>,
    // Events that the core has not room for yet. It grows with the core's own commands only: progress is left out.
    pub(super) outbox: VecDeque<FilesEvent>,
    pub(super) results: mpsc::UnboundedSender<Internal>,
    pub(super) searches: Arc<tokio::sync::Semaphore>,
    // Hashes for sessions that are under way, and what ends them with the engine.
    pub(super) rehashes: Arc<tokio::sync::Semaphore>,
    pub(super) ended: CancelOnDrop,
    pub(super) share_commands: Arc<tokio::sync::Mutex<()>>,
}

/// What new transfers are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// A fixed window, segments.
    pub(super) window: Option<u32>,
    /// Bytes of the largest datagram.
    pub(super) max_datagram: usize,
}

/// One of the two threads that move datagrams, from here.
#[derive(Debug)]
pub(super) struct Direction<T> {
    pub(super) address: Address<T>,
    pub(super) port: Arc<BoundPort>,
    pub(super) seen: Seen,
    // Where the router leads to the port, if it does.
    pub(super) mapped: Mapped,
    // Addresses outside that the user says lead to the port.
    pub(super) given: Vec<SocketAddr>,
}

/// What reaches the engine's thread.
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<FilesCommand>,
    pub(super) results: mpsc::UnboundedReceiver<Internal>,
    // Resolves when the owner wants the end.
    pub(super) stopped: oneshot::Receiver<()>,
}

/// What other threads report.
#[derive(Debug)]
pub(super) enum Internal {
    /// For the core, as it is.
    Event(FilesEvent),
    /// Switches were turned.
    SharesChanged(FilesEvent),
    /// Whether any is on.
    Sharing(bool),
    /// Something was opened and hashed to be sent, or not.
    Prepared(TransferId, Result<Arc<Content>, FileRefusal>),
    /// A session waits for this item of a folder, until this is true.
    Open(TransferId, u32, Arc<AtomicBool>, Arc<Content>),
    /// Something was opened and hashed to be offered, or not.
    Offered(OfferId, Result<(Arc<Content>, OfferReady), OfferRefusal>),
    /// A rule is against what was opened.
    Restricted(TransferId, String),
    /// The server is at this host now, and answers STUN at this port, if it is not 0.
    Server(String, u16),
    /// Its addresses, looked up.
    Stun(Vec<SocketAddr>),
    /// A server has said how we look from there.
    LookedOutside,
    /// A leg at a server whose addresses were looked up.
    Relay(Ticket),
    /// Datagrams that are to go over the link; the mark goes with them.
    RelayOut(Name, LinkData, Arc<()>),
}

/// Datagrams that came over the link, and the mark that says that they wait.
pub(super) type Relayed = Arc<(LinkData, Arc<()>)>;

/// Ends a hash that nobody waits for any more.
#[derive(Debug)]
pub(super) struct CancelOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Engine {
    /// Time since the start: the clock of every channel.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(super) async fn run(mut self, inputs: Inputs, events: mpsc::Sender<FilesEvent>) {
        let Inputs { mut commands, mut results, mut stopped } = inputs;
        loop {
            let now = self.now();
            self.forget_stale(now);
            self.keep_looking(now);
            self.go_on(now);
            let due = self.waiting.iter().map(|(until, _)| until.saturating_sub(now)).min();
            let tick = tokio::time::sleep(due.unwrap_or(IDLE_TICK).min(IDLE_TICK));
            tokio::select! {
                biased;
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    match (permit, self.outbox.pop_front()) {
                        (Ok(permit), Some(event)) => permit.send(event),
                        _ => break,
                    }
                }
                _ = &mut stopped => break,
                Some(command) = commands.recv() => self.on_command(command),
                Some(result) = results.recv() => self.on_internal(result),
                () = tick => {}
            }
        }
        if let Some(mapper) = &self.mapper {
            mapper.end();
        }
        self.up.address.send(UploadLetter::Leave);
        self.down.address.send(FetchLetter::Leave);
    }

    fn on_internal(&mut self, result: Internal) {
        match result {
            Internal::Event(FilesEvent::Progress { .. } | FilesEvent::Hashing { .. } | FilesEvent::Rerouted { .. })
                if self.outbox.len() >= OUTBOX_WITH_PROGRESS => {}
            Internal::Event(event) => {
                self.use_ports();
                if matches!(event, FilesEvent::SourceLost { .. } | FilesEvent::Failed { .. }) {
                    // The next session should know where we are by then.
                    self.look_outside();
                }
                self.outbox.push_back(event);
            }
            Internal::Sharing(on) => self.hold_ports(on),
            Internal::SharesChanged(event) => {
                if let FilesEvent::Shares { global, files, .. } = &event {
                    self.hold_ports(*global || files.iter().any(|(_, shared)| *shared));
                }
                self.hasher.wake();
                self.outbox.push_back(event);
            }
            Internal::Server(host, port) => {
                self.server = Some(host.clone());
                self.look_up(host, port);
            }
            Internal::RelayOut(server, data, mark) => {
                drop(mark);
                if self.outbox.len() < OUTBOX_WITH_PROGRESS {
                    self.outbox.push_back(FilesEvent::RelayOut { server, data });
                }
            }
            Internal::Relay(ticket) => {
                // Whichever direction the session is in.
                self.up.address.send(UploadLetter::Relay(ticket.clone()));
                self.down.address.send(FetchLetter::Relay(ticket));
            }
            // What waits for it is looked at in any case.
            Internal::LookedOutside => {}
            Internal::Stun(mut servers) => {
                if servers.iter().any(|addr| addr.ip().is_loopback()) {
                    self.loopback = true;
                    self.up.address.send(UploadLetter::Loopback);
                    self.down.address.send(FetchLetter::Loopback);
                }
                servers.retain(|addr| addr.port() != 0);
                self.servers = servers;
                self.look_outside();
                self.look_at_shares();
            }
            Internal::Open(transfer, item, gone, content) => self.open_item(transfer, item, gone, content),
            Internal::Restricted(transfer, detail) => self.on_restricted(transfer, detail),
            Internal::Prepared(transfer, result) => self.on_prepared(transfer, result),
            Internal::Offered(offer, result) => self.on_offered(offer, result),
        }
    }

    /// Asks the server how we look from there, now.
    fn look_outside(&self) {
        if self.reach == Reach::Relayed {
            // Nobody is told.
            return;
        }
        self.up.address.send(UploadLetter::Servers(self.servers.clone()));
        self.down.address.send(FetchLetter::Servers(self.servers.clone()));
    }

    /// While a request is under way or in line our addresses outside are kept.
    fn keep_looking(&mut self, now: Duration) {
        if !self.prepared.is_empty() && now >= self.looked + LOOK_EVERY {
            self.looked = now;
            self.up.address.send(UploadLetter::LookOutside);
            self.down.address.send(FetchLetter::LookOutside);
        }
    }

    /// Whether the addresses that a lane has for its peers are as the servers see them now, as far as there are servers to ask.
    fn is_fresh(&self, now: Duration, seen: &Seen) -> bool {
        let (_, answered) = *seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answered.is_some_and(|at| now < at + FRESH);
        known || self.servers.is_empty() || self.reach == Reach::Relayed
    }

    /// Until when what is ready has to wait for our addresses outside; `None` where they are fresh.
    pub(super) fn waits_until(&self, seen: &Seen) -> Option<Duration> {
        let now = self.now();
        (!self.is_fresh(now, seen)).then_some(now + LOOK_AT_MOST)
    }

    /// Goes on with what has waited for our addresses outside, or for long enough.
    fn go_on(&mut self, now: Duration) {
        for (until, waiting) in std::mem::take(&mut self.waiting) {
            let seen = if waiting.is_upload() { &self.up.seen } else { &self.down.seen };
            if until <= now || self.is_fresh(now, seen) {
                self.is_ready(waiting);
            } else {
                self.waiting.push((until, waiting));
            }
        }
    }

    /// Something travels, or soon will: the router should let it in.
    pub(super) fn use_ports(&self) {
        if let Some(mapper) = self.mapper.as_ref().filter(|_| !self.loopback) {
            mapper.touch();
        }
    }

    /// Somebody may ask for what is shared at any time.
    fn hold_ports(&self, on: bool) {
        if let Some(mapper) = self.mapper.as_ref() {
            mapper.hold(on && !self.loopback && !self.servers.is_empty());
        }
    }

    /// Finds out whether anything is shared.
    fn look_at_shares(&self) {
        let (folder, results) = (Arc::clone(&self.folder), self.results.clone());
        tokio::task::spawn_blocking(move || {
            let status = folder.command(&ShareCommand::Status);
            let _ = results.send(Internal::Sharing(status.global || status.files.iter().any(|(_, shared)| *shared)));
        });
    }

    /// Finds the addresses of the server, each of which sees us in its own way.
    fn look_up(&self, host: String, port: u16) {
        let results = self.results.clone();
        tokio::spawn(async move {
            let found = tokio::net::lookup_host((host, port)).await;
            let addrs = found.map(|addrs| addrs.collect()).unwrap_or_default();
            let _ = results.send(Internal::Stun(addrs));
        });
    }

    /// Finds the server that gave us a leg. Where it is not found there is the link.
    pub(super) fn relay(&self, host: LegHost, port: u16, ticket: Ticket) {
        let host = match host {
            LegHost::Linked => self.server.clone(),
            LegHost::At(host) => Some(host),
            LegHost::Unknown => None,
        };
        let results = self.results.clone();
        tokio::spawn(async move {
            let mut addrs = Vec::new();
            if let Some(host) = host
                && let Ok(Ok(found)) = timeout(LOOK_UP, tokio::net::lookup_host((host, port))).await
            {
                let hosts = found.map(canonical).filter(|addr| is_candidate(*addr, true));
                addrs.extend(hosts.take(RELAY_ADDRESSES));
            }
            let _ = results.send(Internal::Relay(Ticket { addrs, ..ticket }));
        });
    }

    /// What has come over the link, for whichever direction it is.
    pub(super) fn came_over_link(&self, data: LinkData) {
        if Arc::strong_count(&self.coming) <= RELAY_BATCHES {
            let data = Arc::new((data, Arc::clone(&self.coming)));
            self.up.address.send(UploadLetter::Relayed(Arc::clone(&data)));
            self.down.address.send(FetchLetter::Relayed(data));
        }
    }

    pub(super) fn fail(&mut self, transfer: TransferId, reason: &str, detail: &str) {
        let (reason, detail) = (reason.to_owned(), detail.to_owned());
        self.outbox.push_back(FilesEvent::Failed { transfer, reason, detail });
    }
}

impl<T> Direction<T> {
    /// Where we may be reached, at most [`CANDIDATES_MAX`] addresses: our own, those that the user gave, that which the router
    /// opened, and those that the server sees.
    pub(super) fn candidates(&self, loopback: bool, reach: Reach) -> Vec<SocketAddr> {
        if reach == Reach::Relayed {
            return Vec::new();
        }
        let mut addrs = self.port.candidates(loopback);
        let (seen, _) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut outside: Vec<SocketAddr> = Vec::new();
        let mapped = *self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        for addr in self.given.iter().chain(&mapped).chain(&seen) {
            if is_candidate(*addr, loopback) && !addrs.contains(addr) && !outside.contains(addr) {
                outside.push(*addr);
            }
        }
        outside.truncate(CANDIDATES_MAX);
        addrs.truncate(CANDIDATES_MAX.saturating_sub(outside.len()));
        addrs.append(&mut outside);
        addrs
    }
}

/// How long a request or an answer waits for our addresses outside: a round trip to a far server.
const LOOK_AT_MOST: Duration = Duration::from_millis(300);
/// How often lanes are told that these are still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Addresses of one server that are tried.
const RELAY_ADDRESSES: usize = 4;
/// A name that is not found by then is not waited for: there is the link.
const LOOK_UP: Duration = Duration::from_secs(2);
/// Beyond this many events waiting, progress is not added.
const OUTBOX_WITH_PROGRESS: usize = 64;
/// How often the engine looks around when nothing happens.
const IDLE_TICK: Duration = Duration::from_secs(1);
