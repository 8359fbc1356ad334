//! The file side's one thread: commands in, events out, datagrams both ways. Disks and hashes work on other threads.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::downloads::{DownloadError, Downloads};
use super::hashing::Hasher;
use super::prepare::{Prepared, Preparing};
use super::reflexive::Reflexive;
use super::run::Run;
use super::shares::SharedFolder;
use super::side::FilesConfig;
use crate::client::effects::{FilesCommand, FilesEvent};
use crate::limits::CANDIDATES_MAX;
use crate::net::received::Received;
use crate::net::udp::{Sent, UdpPort};
use crate::wire::id::TransferId;
use crate::wire::packet::FIRST_BYTE;

/// All state of the engine's thread.
pub(super) struct Engine {
    pub(super) port: UdpPort,
    pub(super) folder: Arc<SharedFolder>,
    pub(super) downloads: Downloads,
    pub(super) hasher: Hasher,
    pub(super) window: Option<u32>,
    pub(super) loopback: bool,
    origin: Instant,
    // By the connection id on datagrams to us.
    pub(super) runs: HashMap<[u8; 8], Run>,
    pub(super) prepared: HashMap<TransferId, Prepared>,
    // Events that the core has not room for yet. It grows with the core's own commands only: progress is left out.
    pub(super) outbox: VecDeque<FilesEvent>,
    // The datagram being made.
    out: Vec<u8>,
    // A datagram that the socket had no room for.
    blocked: Option<(Vec<u8>, SocketAddr)>,
    pub(super) results: mpsc::UnboundedSender<Internal>,
    pub(super) reflexive: Reflexive,
    pub(super) searches: Arc<tokio::sync::Semaphore>,
    pub(super) share_commands: Arc<tokio::sync::Mutex<()>>,
}

/// What reaches the engine's thread, apart from datagrams.
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<FilesCommand>,
    pub(super) results: mpsc::UnboundedReceiver<Internal>,
    // Resolves when the owner wants the end.
    pub(super) stopped: oneshot::Receiver<()>,
}

/// What other threads report. At most a few for each command.
#[derive(Debug)]
pub(super) enum Internal {
    /// For the core, as it is.
    Event(FilesEvent),
    /// Switches were turned.
    SharesChanged(FilesEvent),
    /// A file was opened and hashed, or not.
    Prepared(TransferId, Preparing),
    /// The server is at this host now, and answers STUN at this port, if it is not 0.
    Server(String, u16),
    /// Its addresses, looked up.
    Stun(Vec<SocketAddr>),
    /// A writer has ended.
    Written([u8; 8], Result<PathBuf, DownloadError>),
}

impl Engine {
    pub(super) fn new(
        config: &FilesConfig,
        port: UdpPort,
        folder: Arc<SharedFolder>,
        downloads: Downloads,
        hasher: Hasher,
        results: mpsc::UnboundedSender<Internal>,
    ) -> Self {
        Self {
            port,
            folder,
            downloads,
            hasher,
            window: config.window,
            loopback: config.loopback,
            origin: Instant::now(),
            runs: HashMap::new(),
            prepared: HashMap::new(),
            outbox: VecDeque::new(),
            out: Vec::with_capacity(DATAGRAM_ROOM),
            blocked: None,
            results,
            reflexive: Reflexive::default(),
            searches: Arc::new(tokio::sync::Semaphore::new(SEARCHES_WAITING)),
            share_commands: Arc::new(tokio::sync::Mutex::new(())),
        }
    }

    /// Time since the start: the clock of every channel.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(super) async fn run(mut self, inputs: Inputs, events: mpsc::Sender<FilesEvent>) {
        let Inputs { mut commands, mut results, mut stopped } = inputs;
        let mut received = Received::new(RECEIVE_BUFFERS);
        let mut leaving: Option<Duration> = None;
        loop {
            let more = self.pump();
            let now = self.now();
            if leaving.is_some_and(|until| self.runs.is_empty() || now >= until) {
                return;
            }
            let deadline = match self.blocked {
                // Deadlines that have passed cannot be met before there is room again.
                Some(_) => now + BLOCKED_TICK,
                None if more => now,
                None => self.deadline(now),
            };
            tokio::select! {
                _ = self.port.readable() => self.receive(&mut received),
                _ = self.port.writable(), if self.blocked.is_some() => self.send_blocked(),
                Some(result) = results.recv() => self.on_internal(result),
                permit = events.reserve(), if !self.outbox.is_empty() && leaving.is_none() => {
                    if let (Ok(permit), Some(event)) = (permit, self.outbox.pop_front()) {
                        permit.send(event);
                    }
                }
                Some(command) = commands.recv(), if leaving.is_none() => self.on_command(command),
                _ = &mut stopped, if leaving.is_none() => leaving = Some(self.leave()),
                () = tokio::time::sleep_until((self.origin + deadline).into()) => {}
            }
        }
    }

    /// Lets every transfer act on the time, speak, and report. Returns whether one has more to say at once.
    fn pump(&mut self) -> bool {
        let now = self.now();
        let mut more = false;
        for run in self.runs.values_mut() {
            run.on_time(now);
            for sent in 0.. {
                if self.blocked.is_some() {
                    break;
                }
                if sent == BURST {
                    more = true;
                    break;
                }
                let Some(to) = run.poll_transmit(now, &mut self.out) else { break };
                if self.port.try_send(&self.out, to) != Sent::Gone {
                    self.blocked = Some((std::mem::take(&mut self.out), to));
                }
            }
            run.report(now, self.outbox.len() < OUTBOX_WITH_PROGRESS, &mut self.outbox);
        }
        self.runs.retain(|_, run| !run.is_gone());
        while let Some((server, question)) = self.reflexive.poll(now) {
            // A question that is lost is asked again.
            self.port.try_send(&question, server);
        }
        self.forget_stale(now);
        more
    }

    fn deadline(&self, now: Duration) -> Duration {
        let runs = self.runs.values().filter_map(|run| run.deadline(now));
        runs.chain(self.reflexive.deadline()).chain([now + IDLE_TICK]).min().unwrap_or(now + IDLE_TICK)
    }

    fn receive(&mut self, received: &mut Received) {
        let now = self.now();
        // An error here concerns a datagram that we sent earlier.
        if !self.port.recv_batch(received).unwrap_or(false) {
            return;
        }
        for mut batch in received.batches() {
            let from = batch.from;
            for datagram in batch.datagrams() {
                match connection_id(datagram) {
                    Some(id) => {
                        if let Some(run) = self.runs.get_mut(&id) {
                            run.on_datagram(now, from, datagram);
                        }
                    }
                    None => self.reflexive.on_datagram(now, from, datagram),
                }
            }
        }
    }

    fn send_blocked(&mut self) {
        if let Some((datagram, to)) = self.blocked.take()
            && self.port.try_send(&datagram, to) != Sent::Gone
        {
            self.blocked = Some((datagram, to));
        }
    }

    fn on_internal(&mut self, result: Internal) {
        match result {
            Internal::Event(event) => self.outbox.push_back(event),
            Internal::SharesChanged(event) => {
                self.hasher.wake();
                self.outbox.push_back(event);
            }
            Internal::Server(host, port) => self.look_up(host, port),
            Internal::Stun(stun) => {
                self.loopback |= stun.iter().any(|addr| addr.ip().is_loopback());
                let now = self.now();
                self.reflexive.set_servers(now, stun);
            }
            Internal::Prepared(transfer, preparing) => self.on_prepared(transfer, preparing),
            Internal::Written(connection, result) => {
                let now = self.now();
                let events = self.runs.get_mut(&connection).map(|run| run.on_written(now, result));
                self.outbox.extend(events.into_iter().flatten());
            }
        }
    }

    /// Where we may be reached, at most [`CANDIDATES_MAX`] addresses: our own, and those that the server sees.
    pub(super) fn candidates(&self) -> Vec<SocketAddr> {
        let mut addrs = self.port.candidates(self.loopback);
        let seen = self.reflexive.candidates(self.loopback).filter(|seen| !addrs.contains(seen));
        let mut seen: Vec<SocketAddr> = seen.collect();
        addrs.truncate(CANDIDATES_MAX.saturating_sub(seen.len()));
        addrs.append(&mut seen);
        addrs
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

    /// Nobody listens any more: tells every peer; returns until when their answers are waited for.
    fn leave(&mut self) -> Duration {
        let now = self.now();
        self.prepared.clear();
        for run in self.runs.values_mut().filter(|run| !run.is_over()) {
            run.cancel(now, "the client leaves");
        }
        now + LEAVING
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

/// Room for the largest datagram.
const DATAGRAM_ROOM: usize = 65_536;
/// Room for what one call receives, in buffers of 64 KiB.
const RECEIVE_BUFFERS: usize = 4;
/// Datagrams in a row, before others have their turn.
const BURST: usize = 64;
/// Beyond this many events waiting, progress is not added.
const OUTBOX_WITH_PROGRESS: usize = 64;
/// Searches that may wait for their random delay; those that come on top get no answer.
const SEARCHES_WAITING: usize = 64;
/// How often the engine looks around when nothing happens.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// How often timeouts are looked at while nothing can be sent.
const BLOCKED_TICK: Duration = Duration::from_millis(10);
/// How long peers have to confirm that they heard us leave.
const LEAVING: Duration = Duration::from_millis(300);
