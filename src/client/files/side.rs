//! The file side from outside: how it is started, spoken to, and ended.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::downloads::Downloads;
use super::engine::{Engine, Inputs, Internal};
use super::hashing::Hasher;
use super::shares::{ShareError, SharedFolder};
use crate::client::effects::{FilesCommand, FilesEvent};
use crate::net::udp::{BindError, BoundPort};

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
    /// Peers may be on this machine: loopback addresses are offered and taken. [`FilesThread::set_server`] can tell, too.
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

/// The file side, running.
#[derive(Debug)]
pub struct Files {
    /// What it is asked to do. Each command is answered by a few events at most, and only the client's own core asks.
    pub commands: mpsc::UnboundedSender<FilesCommand>,
    /// What it tells.
    pub events: mpsc::Receiver<FilesEvent>,
    /// Dropped, it ends.
    pub thread: FilesThread,
}

/// The thread of the file side. When it is dropped, peers are told, unfinished downloads are removed, and the thread ends,
/// within a second unless the disk holds it up.
#[derive(Debug)]
pub struct FilesThread {
    local: SocketAddr,
    results: mpsc::UnboundedSender<Internal>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FilesThread {
    /// Where the UDP port is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The STUN port of the server, with each of the server's addresses: asked how we look from there, which becomes a
    /// candidate beside our own addresses. A server on this machine means that peers may be here too.
    pub fn set_server(&self, stun: Vec<SocketAddr>) {
        let _ = self.results.send(Internal::Server(stun));
    }
}

impl Drop for FilesThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the file side.
pub fn start(config: FilesConfig) -> Result<Files, StartError> {
    let port = BoundPort::bind(config.udp)?;
    let local = port.local_addr();
    let folder = Arc::new(SharedFolder::open(config.share.as_deref(), &config.data)?);
    let downloads = Downloads::open(&config.downloads)
        .map_err(|source| StartError::Downloads { path: config.downloads.clone(), source })?;
    let hasher = Hasher::start(Arc::clone(&folder))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    let (commands, incoming) = mpsc::unbounded_channel();
    let (outgoing, events) = mpsc::channel(EVENTS_WAITING);
    let (results, results_in) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel();
    let for_engine = results.clone();
    let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
        runtime.block_on(async move {
            match port.attach() {
                Ok(port) => {
                    let engine = Engine::new(&config, port, folder, downloads, hasher, for_engine);
                    engine.run(Inputs { commands: incoming, results: results_in, stopped }, outgoing).await;
                }
                Err(error) => tracing::error!("the UDP port cannot be used: {error}"),
            }
        });
    })?;
    let thread = FilesThread { local, results, stop: Some(stop), thread: Some(thread) };
    Ok(Files { commands, events, thread })
}

/// Hashes of requested files, and searches, that may run at once; more wait.
const BLOCKING_THREADS: usize = 8;
/// Events that the client may leave unread before progress is left out.
const EVENTS_WAITING: usize = 256;
