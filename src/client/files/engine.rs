//! The file side's one thread: commands in, events out, datagrams both ways. Disks and hashes work on other threads.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::mpsc;

use super::downloads::{DownloadError, Downloads};
use super::hashing::Hasher;
use super::prepare::{Prepared, Preparing};
use super::run::Run;
use super::shares::{ShareError, SharedFolder};
use crate::channel::MAX_WINDOW;
use crate::client::effects::{FilesCommand, FilesEvent};
use crate::net::udp::{BindError, BoundPort, Sent, UdpPort};
use crate::transfer::slots::Slots;
use crate::wire::id::TransferId;
use crate::wire::packet::FIRST_BYTE;

/// What the file side starts with.
#[derive(Debug, Clone)]
pub struct FilesConfig {
    /// The shared folder, if there is one. Only files directly in it are shared.
    pub share: Option<PathBuf>,
    /// Where downloads go; made if it is not there.
    pub downloads: PathBuf,
    /// Where the switches of shares are kept; must be there.
    pub data: PathBuf,
    /// The UDP port; without one, any, on all addresses.
    pub udp: Option<SocketAddr>,
    /// Upload slots.
    pub uploads: u32,
    /// Segments under way at once; 1 to 2,048, else the nearest.
    pub window: u32,
    /// Peers may be on this machine (the server is): loopback addresses are offered and taken.
    pub loopback: bool,
}

/// Why the file side does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The UDP port.
    #[error(transparent)]
    Port(#[from] BindError),
    /// The shared folder or its switches.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The downloads directory.
    #[error("the downloads directory {path} cannot be opened: {source}")]
    Downloads {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No thread or no event loop could be had.
    #[error("the file side cannot start: {0}")]
    System(#[from] io::Error),
}

/// The file side, running. Dropped, it tells peers, removes unfinished downloads and ends.
#[derive(Debug)]
pub struct FilesHandle {
    commands: Option<mpsc::Sender<FilesCommand>>,
    events: mpsc::Receiver<FilesEvent>,
    local: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// The file side has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the file side has ended")]
pub struct Ended;

impl FilesHandle {
    /// Passes a command on. Waits only while very many are under way.
    pub async fn send(&self, command: FilesCommand) -> Result<(), Ended> {
        let commands = self.commands.as_ref().ok_or(Ended)?;
        commands.send(command).await.map_err(|_| Ended)
    }

    /// A way to pass commands on beside waiting for events; to be dropped before the handle is.
    pub fn commands(&self) -> Option<mpsc::Sender<FilesCommand>> {
        self.commands.clone()
    }

    /// The next event; `None` when the file side has ended. May be dropped and called again.
    pub async fn next(&mut self) -> Option<FilesEvent> {
        self.events.recv().await
    }

    /// Where the UDP port is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for FilesHandle {
    fn drop(&mut self) {
        self.commands = None;
        self.events.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the file side.
pub fn start(config: FilesConfig) -> Result<FilesHandle, StartError> {
    let port = BoundPort::bind(config.udp)?;
    let local = port.local_addr();
    let folder = Arc::new(SharedFolder::open(config.share.as_deref(), &config.data)?);
    let downloads = Downloads::open(&config.downloads)
        .map_err(|source| StartError::Downloads { path: config.downloads.clone(), source })?;
    let hasher = Hasher::start(Arc::clone(&folder))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    let (commands, incoming) = mpsc::channel(COMMANDS_WAITING);
    let (outgoing, events) = mpsc::channel(EVENTS_WAITING);
    let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
        runtime.block_on(async move {
            match port.attach() {
                Ok(port) => Engine::new(&config, port, folder, downloads, hasher).run(incoming, outgoing).await,
                Err(error) => tracing::error!("the UDP port cannot be used: {error}"),
            }
        });
    })?;
    Ok(FilesHandle { commands: Some(commands), events, local, thread: Some(thread) })
}

/// All state of the engine's thread.
pub(super) struct Engine {
    pub(super) port: UdpPort,
    pub(super) folder: Arc<SharedFolder>,
    pub(super) downloads: Downloads,
    pub(super) hasher: Hasher,
    pub(super) slots: Slots,
    pub(super) window: u32,
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
    results_in: mpsc::UnboundedReceiver<Internal>,
    pub(super) searches: Arc<tokio::sync::Semaphore>,
    pub(super) share_commands: Arc<tokio::sync::Mutex<()>>,
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
    /// A writer has ended.
    Written([u8; 8], Result<PathBuf, DownloadError>),
}

impl Engine {
    fn new(
        config: &FilesConfig,
        port: UdpPort,
        folder: Arc<SharedFolder>,
        downloads: Downloads,
        hasher: Hasher,
    ) -> Self {
        let (results, results_in) = mpsc::unbounded_channel();
        Self {
            port,
            folder,
            downloads,
            hasher,
            slots: Slots::new(config.uploads),
            window: config.window.clamp(1, MAX_WINDOW),
            loopback: config.loopback,
            origin: Instant::now(),
            runs: HashMap::new(),
            prepared: HashMap::new(),
            outbox: VecDeque::new(),
            out: Vec::with_capacity(DATAGRAM_ROOM),
            blocked: None,
            results,
            results_in,
            searches: Arc::new(tokio::sync::Semaphore::new(SEARCHES_WAITING)),
            share_commands: Arc::new(tokio::sync::Mutex::new(())),
        }
    }

    /// Time since the start: the clock of every channel.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn run(mut self, mut commands: mpsc::Receiver<FilesCommand>, events: mpsc::Sender<FilesEvent>) {
        let mut buffer = vec![0; DATAGRAM_ROOM];
        let mut leaving: Option<Duration> = None;
        loop {
            let more = self.pump();
            let now = self.now();
            if leaving.is_some_and(|until| self.runs.is_empty() || now >= until) {
                return;
            }
            let deadline = if more { now } else { self.deadline(now) };
            tokio::select! {
                _ = self.port.readable() => self.receive(&mut buffer),
                _ = self.port.writable(), if self.blocked.is_some() => self.send_blocked(),
                Some(result) = self.results_in.recv() => self.on_internal(result),
                permit = events.reserve(), if !self.outbox.is_empty() && leaving.is_none() => {
                    if let (Ok(permit), Some(event)) = (permit, self.outbox.pop_front()) {
                        permit.send(event);
                    }
                }
                command = commands.recv(), if leaving.is_none() => match command {
                    Some(command) => self.on_command(command),
                    None => leaving = Some(self.leave()),
                },
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
                if self.port.try_send(&self.out, to) == Sent::Full {
                    self.blocked = Some((std::mem::take(&mut self.out), to));
                }
            }
            run.report(now, self.outbox.len() < OUTBOX_WITH_PROGRESS, &mut self.outbox);
            if run.is_over() {
                self.slots.release(run.transfer());
            }
        }
        self.runs.retain(|_, run| !run.is_gone());
        self.forget_stale(now);
        more
    }

    fn deadline(&self, now: Duration) -> Duration {
        let runs = self.runs.values().filter_map(|run| run.deadline(now));
        runs.chain([now + IDLE_TICK]).min().unwrap_or(now + IDLE_TICK)
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let now = self.now();
        for _ in 0..BURST {
            // An error here concerns a datagram that we sent earlier.
            let Ok(Some((len, from))) = self.port.try_recv(buffer) else { return };
            let Some(datagram) = buffer.get_mut(..len) else { continue };
            if let Some(run) = connection_id(datagram).and_then(|id| self.runs.get_mut(&id)) {
                run.on_datagram(now, from, datagram);
            }
        }
    }

    fn send_blocked(&mut self) {
        if let Some((datagram, to)) = self.blocked.take()
            && self.port.try_send(&datagram, to) == Sent::Full
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
            Internal::Prepared(transfer, preparing) => self.on_prepared(transfer, preparing),
            Internal::Written(connection, result) => {
                let now = self.now();
                let event = self.runs.get_mut(&connection).and_then(|run| run.on_written(now, result));
                self.outbox.extend(event);
            }
        }
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
/// Datagrams in a row, before others have their turn.
const BURST: usize = 64;
/// Hashes of requested files, and searches, that may run at once; more wait.
const BLOCKING_THREADS: usize = 8;
const COMMANDS_WAITING: usize = 256;
const EVENTS_WAITING: usize = 256;
/// Beyond this many events waiting, progress is not added.
const OUTBOX_WITH_PROGRESS: usize = 64;
/// Searches that may wait for their random delay; those that come on top get no answer.
const SEARCHES_WAITING: usize = 64;
/// How often the engine looks around when nothing happens.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// How long peers have to confirm that they heard us leave.
const LEAVING: Duration = Duration::from_millis(300);
