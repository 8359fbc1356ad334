//! The file side from outside: how it is started, spoken to, and ended.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::downloads::Downloads;
use super::engine::{Engine, Inputs, Internal};
use super::hashing::Hasher;
use super::shares::{ShareError, SharedFolder};
use crate::client::effects::{Congestion, FilesCommand, FilesEvent};
use crate::net::udp::{BindError, BoundPort};
use crate::wire::invite::Host;

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
    /// A fixed window for all transfers, segments; `None` follows the congestion controller.
    pub window: Option<u32>,
    /// How the controller takes loss and delay.
    pub congestion: Congestion,
    /// Limit of all uploads together, file bytes a second.
    pub up: Option<u64>,
    /// Limit of all downloads together, file bytes a second.
    pub down: Option<u64>,
    /// A test tool: what is done to our datagrams, as `--inject` has it.
    pub inject: Option<String>,
    /// Peers may be on this machine: loopback addresses are offered and taken. [`FilesHandle::set_server`] can tell, too.
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

/// The file side, running. When it is dropped, peers are told, unfinished downloads are removed, and its thread ends, within
/// a second unless the disk holds it up.
#[derive(Debug)]
pub struct FilesHandle {
    commands: mpsc::Sender<FilesCommand>,
    events: mpsc::Receiver<FilesEvent>,
    local: SocketAddr,
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

    /// Where the UDP port is bound.
    pub fn local_addr(&self) -> SocketAddr {
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
        // A name that is still being looked up holds nobody up.
        runtime.shutdown_timeout(THREADS_END);
    })?;
    Ok(FilesHandle { commands, events, local, news: results, stop: Some(stop), thread: Some(thread) })
}

/// Hashes of requested files, and searches, that may run at once; more wait.
const BLOCKING_THREADS: usize = 8;
/// How long hashes that were given up have to notice.
const THREADS_END: Duration = Duration::from_millis(500);
/// Commands that may wait.
const COMMANDS_WAITING: usize = 256;
/// Events that the client may leave unread before progress is left out.
const EVENTS_WAITING: usize = 256;
