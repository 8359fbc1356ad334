//! The file side from outside: how it is started, spoken to, and ended.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::downloads::Downloads;
use super::engine::{CancelOnDrop, Direction, Engine, Inputs, Internal, Settings};
use super::fetches::{FetchLetter, Fetches, Parts};
use super::harm::Harm;
use super::hashing::{Hasher, Trees};
use super::lane;
use super::mailbox::mailbox;
use super::rates::Bucket;
use super::session::Terms;
use super::shares::{ShareError, SharedFolder};
use super::uploads::{UploadLetter, Uploads};
use super::wire::{Seen, Wire};
use crate::channel::impair::Spec;
use crate::client::effects::{Congestion, FilesCommand, FilesEvent, Reach};
use crate::net::mapping::{Mapped, Mapper};
use crate::net::udp::{BindError, BoundPort, Offload};
use crate::wire::invite::Host;
use crate::wire::packet::{BASE_DATAGRAM, MAX_DATAGRAM};

/// What the file side starts with.
#[derive(Debug, Clone)]
pub struct FilesConfig {
    /// The shared folder, if there is one. Only files directly in it are shared.
    pub share: Option<PathBuf>,
    /// Where downloads go; made if it is not there.
    pub downloads: PathBuf,
    /// Where the switches of shares are kept; must be there.
    pub data: PathBuf,
    /// The UDP port for what leaves; what comes uses the next one. Without it any, on all addresses.
    pub udp: Option<SocketAddr>,
    /// Where a router forwards to the UDP port for what leaves; the ports after these lead to the one for what comes.
    pub candidates: Vec<SocketAddr>,
    /// A fixed window for all transfers, segments; `None` follows the congestion controller.
    pub window: Option<u32>,
    /// How the controller takes loss and delay.
    pub congestion: Congestion,
    /// Limit of all uploads together, file bytes a second.
    pub up: Option<u64>,
    /// Limit of all downloads together, file bytes a second.
    pub down: Option<u64>,
    /// A test tool: what is done to our datagrams, as `--inject` has it.
    pub inject: Option<Spec>,
    /// Bytes of the largest datagram, 1,200 to 65,507; the path decides below that.
    pub max_datagram: usize,
    /// What the system is asked to do for us: all, except for measurements.
    pub offload: Offload,
    /// Peers may be on this machine: loopback addresses are offered and taken. [`FilesHandle::set_server`] can tell, too.
    pub loopback: bool,
    /// Over which ways peers may be reached, and learn where we are.
    pub reach: Reach,
    /// The router is asked for ways to our UDP ports while something is shared or travels. Never where peers may be on this machine.
    pub map_ports: bool,
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

/// The file side, running. When it is dropped, peers are told, unfinished downloads are kept, and its threads end, within
/// a second unless the disk holds them up.
#[derive(Debug)]
pub struct FilesHandle {
    commands: mpsc::Sender<FilesCommand>,
    events: mpsc::Receiver<FilesEvent>,
    // What leaves, what comes.
    local: [SocketAddr; 2],
    news: mpsc::UnboundedSender<Internal>,
    // Dropped, it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FilesHandle {
    /// The way to pass commands on beside waiting for events.
    pub fn commands(&self) -> mpsc::Sender<FilesCommand> {
        self.commands.clone()
    }

    /// The next event; `None` when the file side has ended. May be dropped and called again.
    pub async fn next(&mut self) -> Option<FilesEvent> {
        self.events.recv().await
    }

    /// Where the UDP ports are bound: what leaves, what comes.
    pub fn local_addrs(&self) -> [SocketAddr; 2] {
        self.local
    }

    /// The server's host and its STUN port, 0 for none: asked how we look from there, over each
    /// address family; what it says becomes a candidate beside our own addresses. A server on this machine means that
    /// peers may be here too.
    pub fn set_server(&self, host: &Host, stun_port: u16) {
        let host = match host {
            Host::Name(name) => name.clone(),
            Host::V4(address) => address.to_string(),
            Host::V6(address) => address.to_string(),
        };
        let _ = self.news.send(Internal::Server(host, stun_port));
    }
}

impl Drop for FilesHandle {
    fn drop(&mut self) {
        self.stop = None;
        self.events.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the file side.
pub fn start(config: FilesConfig) -> Result<FilesHandle, StartError> {
    let ports = bind(&config)?;
    let local = [ports[0].local_addr(), ports[1].local_addr()];
    let trees = Arc::new(Trees::new(&config.data));
    let folder = Arc::new(SharedFolder::open(config.share.as_deref(), &config.data, Arc::clone(&trees))?);
    let downloads = Downloads::open(&config.downloads)
        .map_err(|source| StartError::Downloads { path: config.downloads.clone(), source })?;
    if let Err(error) = downloads.clean(SystemTime::now()) {
        tracing::warn!("unfinished downloads cannot be looked through: {error}");
    }
    let hasher = Hasher::start(Arc::clone(&folder))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    let (commands, incoming) = mpsc::channel(COMMANDS_WAITING);
    let (outgoing, events) = mpsc::channel(EVENTS_WAITING);
    let (results, results_in) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel();
    let (origin, parts) = (Instant::now(), Parts::default());
    let mapped = [Mapped::default(), Mapped::default()];
    let mapper = config.map_ports.then(|| Mapper::start(local, LEASE, mapped.clone())).transpose()?.map(Arc::new);
    let (up, down, lanes) = start_lanes(&config, ports, mapped, &results, &parts, origin)?;
    let engine = Engine {
        up,
        down,
        folder,
        trees,
        parts,
        downloads,
        hasher,
        settings: Settings {
            window: config.window,
            max_datagram: config.max_datagram.clamp(BASE_DATAGRAM, MAX_DATAGRAM),
        },
        loopback: config.loopback,
        servers: Vec::new(),
        reach: config.reach,
        mapper: mapper.clone(),
        server: None,
        coming: Arc::default(),
        origin,
        prepared: HashMap::new(),
        waiting: Vec::new(),
        looked: Duration::ZERO,
        offers: HashMap::new(),
        outbox: VecDeque::new(),
        results: results.clone(),
        searches: Arc::new(tokio::sync::Semaphore::new(SEARCHES_WAITING)),
        rehashes: Arc::new(tokio::sync::Semaphore::new(REHASHES)),
        ended: CancelOnDrop(Arc::default()),
        share_commands: Arc::new(tokio::sync::Mutex::new(())),
    };
    let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
        runtime.block_on(engine.run(Inputs { commands: incoming, results: results_in, stopped }, outgoing));
        for lane in lanes {
            let _ = lane.join();
        }
        if let Some(mapper) = mapper {
            mapper.wait(RELEASE);
        }
        // A name that is still being looked up holds nobody up.
        runtime.shutdown_timeout(THREADS_END);
    })?;
    Ok(FilesHandle { commands, events, local, news: results, stop: Some(stop), thread: Some(thread) })
}

/// The port for what leaves, and the one for what comes.
fn bind(config: &FilesConfig) -> Result<[Arc<BoundPort>; 2], BindError> {
    let next = config.udp.map(|addr| match addr.port() {
        0 => addr,
        port => SocketAddr::new(addr.ip(), port.checked_add(1).unwrap_or(0)),
    });
    let up = BoundPort::bind_with(config.udp, config.offload)?;
    let down = BoundPort::bind_with(next, config.offload)?;
    Ok([Arc::new(up), Arc::new(down)])
}

fn next_port(addr: SocketAddr) -> Option<SocketAddr> {
    addr.port().checked_add(1).map(|port| SocketAddr::new(addr.ip(), port))
}

type Lanes = (Direction<UploadLetter>, Direction<FetchLetter>, [JoinHandle<()>; 2]);

/// The two threads that move datagrams.
fn start_lanes(
    config: &FilesConfig,
    [up, down]: [Arc<BoundPort>; 2],
    mapped: [Mapped; 2],
    results: &mpsc::UnboundedSender<Internal>,
    parts: &Parts,
    origin: Instant,
) -> io::Result<Lanes> {
    let terms = Terms {
        loopback: config.loopback,
        congestion: config.congestion,
        reach: config.reach,
        receive_buffer: down.receive_buffer() as u64,
    };
    let (now, seen) = (origin.elapsed(), [Seen::default(), Seen::default()]);
    let (address, letters) = mailbox()?;
    let (uploads, wire) = (
        Uploads::new(results.clone(), terms, Bucket::new(config.up, now)),
        Wire::new(Arc::clone(&up), seen[0].clone(), config.inject.as_ref().map(Harm::new), results.clone()),
    );
    let sending =
        std::thread::Builder::new().name("uploads".into()).spawn(move || lane::run(uploads, wire, letters, origin))?;
    let [mapped_up, mapped_down] = mapped;
    let (given, seen_up) = (config.candidates.clone(), seen[0].clone());
    let up = Direction { address, port: up, seen: seen_up, mapped: mapped_up, given };
    let (address, letters) = mailbox()?;
    let bucket = Bucket::new(config.down, now);
    let fetches = Fetches::new(results.clone(), Arc::clone(parts), address.clone(), terms, bucket);
    let wire = Wire::new(Arc::clone(&down), seen[1].clone(), config.inject.as_ref().map(Harm::new), results.clone());
    let receiving = std::thread::Builder::new()
        .name("downloads".into())
        .spawn(move || lane::run(fetches, wire, letters, origin))?;
    let given = config.candidates.iter().filter_map(|addr| next_port(*addr)).collect();
    let down = Direction { address, port: down, seen: seen[1].clone(), mapped: mapped_down, given };
    Ok((up, down, [sending, receiving]))
}

/// Hashes of requested files, and searches, that may run at once; more wait.
const BLOCKING_THREADS: usize = 8;
/// How many of these hash again what sessions send: the others stay free for what is quick.
const REHASHES: usize = 4;
/// How long the router is asked to keep our ports open; half of it after the last time it was, it is asked again.
const LEASE: Duration = Duration::from_secs(600);
/// How long the router has to close them, from when the lanes have ended.
const RELEASE: Duration = Duration::from_millis(300);
/// How long hashes that were given up have to notice.
const THREADS_END: Duration = Duration::from_millis(500);
/// Commands that may wait.
const COMMANDS_WAITING: usize = 256;
/// Events that the client may leave unread before progress is left out.
const EVENTS_WAITING: usize = 256;
/// Searches that may wait for their random delay; those that come on top get no answer.
const SEARCHES_WAITING: usize = 64;
