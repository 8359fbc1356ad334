//! A whole server: listen, accept, serve, stop.

use super::accept::{Caps, Gate};
use super::actor::{Beside, CoreHandle, MeshPort, actor};
use super::chores::{Chores, Tools};
use super::connection::{self, SessionEnd, Shared};
use super::engine::Engine;
use super::forwarding::RelayLimits;
use super::listen;
use super::metrics::Metrics;
use super::operations::Operations;
use super::reload::{Certificate, CertificateFiles, ReloadError};
use super::udp::{self, Legs};
use super::{SessionId, Task};
use crate::crypto::identity::Identity;
use crate::limits::ADMIN_WAITING;
use crate::mesh::run::{Parcel, Parcels};
use crate::net::udp::BoundPort;
use crate::store::{ServerStore, StoreError};
use crate::wire::admin::Answer;
use crate::wire::name::Name;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet, yield_now};
use tokio::time::{sleep, timeout};

/// What a server is made of.
#[derive(Debug)]
pub struct ServerConfig {
    /// Where to listen; empty for every address at the default port.
    pub listen: Vec<SocketAddr>,
    /// Where STUN is answered; the listening addresses if not said.
    pub udp: Option<SocketAddr>,
    /// The TLS certificate.
    pub certificate: CertificateFiles,
    /// The server's identity.
    pub identity: Identity,
    /// The server's name.
    pub name: Name,
    /// Bounds on connections.
    pub caps: Caps,
    /// How many files' bytes are passed on between clients.
    pub relay: RelayLimits,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or the address is not ours.
    #[error("cannot listen on {address} ({protocol}): {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// TCP or UDP.
        protocol: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] ReloadError),
}

/// What its owner tells a running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Read the certificate again.
    Reload,
    /// Tell members, flush, stop.
    Stop,
}

/// A server whose sockets are bound, so that its addresses are known.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    legs: Legs,
    certificate: Arc<Certificate>,
    identity: Identity,
    name: Name,
    gate: Gate,
    operations: Operations,
    mesh: Option<MeshPort>,
}

impl Server {
    /// Reads the certificate and binds all sockets. Needs a tokio runtime around it.
    pub fn bind(config: ServerConfig) -> Result<Self, StartError> {
        let ServerConfig { listen, udp, certificate, identity, name, caps, relay } = config;
        let certificate = Arc::new(Certificate::load(certificate)?);
        let listeners = bind_tcp(&listen)?;
        let udp = bind_udp(udp, &listen, &listeners)?;
        Ok(Self {
            listeners,
            legs: Legs::new(relay, udp),
            certificate,
            identity,
            name,
            gate: Gate::new(caps),
            operations: Operations::default(),
            mesh: None,
        })
    }

    /// With metrics and an admin socket.
    #[must_use]
    pub fn operated(self, operations: Operations) -> Self {
        Self { operations, ..self }
    }

    /// In a mesh: for an engine that is a [`super::meshed::Meshed`].
    #[must_use]
    pub fn linked(self, port: MeshPort) -> Self {
        Self { mesh: Some(port), ..self }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    /// The UDP port that answers STUN, 0 for none.
    pub fn stun_port(&self) -> u16 {
        self.legs.port()
    }

    /// Serves until [`Control::Stop`] or the end of `control`; at most twice [`DRAIN_DEADLINE`] after that all is over. Ends with an
    /// error when the store fails, since nothing can be promised any more.
    pub async fn run<E: Engine>(
        self,
        engine: E,
        store: ServerStore,
        mut control: mpsc::Receiver<Control>,
    ) -> Result<(), StoreError> {
        let mut tasks = JoinSet::new();
        let (port, legs) = meet(self.mesh, self.legs, &mut tasks);
        let metrics = Arc::<Metrics>::default();
        let (jobs, mut asked) = mpsc::channel(ADMIN_WAITING);
        let mesh = port.as_ref().map(|port| port.handle.clone());
        let beside = Beside { jobs, console: self.operations.heard(), legs: legs.clone() };
        let (core, deciding) = actor(engine, store, metrics.clone(), port, beside);
        let mut deciding = tokio::spawn(deciding);
        // A core that is gone is noticed below.
        let _ = core.relays(legs.limits()).await;
        let chores = Arc::new(Chores::new(Tools {
            name: self.name.clone(),
            data: self.operations.data.clone(),
            settings: self.operations.settings.clone(),
            certificate: self.certificate.clone(),
            metrics: metrics.clone(),
            mesh,
            core: core.clone(),
            legs: legs.clone(),
        }));
        let shared = Arc::new(Shared::new(self.identity, self.name, core.clone(), legs.clone()));
        let datagrams = udp::start(legs, metrics.clone());
        let (accepted, mut arrivals) = mpsc::channel(ARRIVALS);
        for listener in self.listeners {
            tasks.spawn(accept(listener, accepted.clone()));
        }
        drop(accepted);
        let parting = self.operations.start(metrics.clone(), core.clone(), &mut tasks);
        let mut sessions = Sessions {
            next: 0,
            shared,
            gate: self.gate,
            certificate: self.certificate,
            running: JoinSet::new(),
            metrics,
        };
        loop {
            tokio::select! {
                Some((tcp, address)) = arrivals.recv() => sessions.start(tcp, address),
                Some(_) = sessions.running.join_next() => {}
                command = control.recv() => match command {
                    Some(Control::Reload) => {
                        let chores = chores.clone();
                        sessions.running.spawn(async move { _ = chores.reload().await });
                    }
                    Some(Control::Stop) | None => break,
                },
                Some(job) = asked.recv() => match job.task {
                    Task::Stop => {
                        job.done(Answer::done("the server stops"));
                        break;
                    }
                    _ => _ = sessions.running.spawn(chores.clone().job(job)),
                },
                ended = &mut deciding => return decided(ended),
            }
        }
        chores.give_up();
        drop(chores);
        tasks.shutdown().await;
        drop(datagrams);
        let Sessions { running, shared, .. } = sessions;
        drop(shared);
        let stopped = stop(core, running, deciding).await;
        parting.over().await;
        stopped
    }
}

/// What is relayed goes through the mesh too, if there is one.
fn meet(port: Option<MeshPort>, legs: Legs, tasks: &mut JoinSet<()>) -> (Option<MeshPort>, Legs) {
    let Some(mut port) = port else { return (None, legs) };
    let legs = legs.linked(port.handle.clone());
    if let Some(parcels) = port.events.parcels() {
        tasks.spawn(carry(legs.clone(), parcels));
    }
    (Some(port), legs)
}

/// Takes what other servers pass on, until the mesh ends.
async fn carry(legs: Legs, mut parcels: Parcels) {
    while let Some(Parcel { peer, body }) = parcels.recv().await {
        legs.came_by_mesh(peer, &body);
        // Of the chat nothing waits for more than one.
        yield_now().await;
    }
}

/// Members are told, sessions end, what waits is written. A core that stands still or is far behind delays none of it beyond its
/// deadline.
async fn stop(
    core: CoreHandle,
    mut sessions: JoinSet<()>,
    mut deciding: JoinHandle<Result<(), StoreError>>,
) -> Result<(), StoreError> {
    let drained = async {
        let _ = core.drain().await;
        while sessions.join_next().await.is_some() {}
    };
    if timeout(DRAIN_DEADLINE, drained).await.is_err() {
        sessions.shutdown().await;
    }
    // With the last handle the core ends even if the word to stop did not reach it.
    drop(core);
    match timeout(DRAIN_DEADLINE, &mut deciding).await {
        Ok(ended) => decided(ended),
        Err(_) => {
            deciding.abort();
            Err(StoreError::Damaged("it did not finish its writes in time"))
        }
    }
}

struct Sessions {
    next: SessionId,
    shared: Arc<Shared>,
    gate: Gate,
    certificate: Arc<Certificate>,
    running: JoinSet<()>,
    metrics: Arc<Metrics>,
}

impl Sessions {
    fn start(&mut self, tcp: TcpStream, address: SocketAddr) {
        let Some((ticket, evicted)) = self.gate.admit(address.ip()) else {
            self.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%address, "too many connections; one was refused");
            return;
        };
        let id = self.next;
        self.next += 1;
        let (acceptor, shared) = (self.certificate.acceptor(), self.shared.clone());
        let metrics = self.metrics.clone();
        self.running.spawn(async move {
            let end = connection::run(id, tcp, address, acceptor, shared, ticket, evicted).await;
            if end.before_login() {
                metrics.turned_away.fetch_add(1, Ordering::Relaxed);
            }
            // What strangers do is no news, or a flood of them would flood the log.
            match end {
                SessionEnd::Flooding | SessionEnd::Malformed | SessionEnd::Frame(_) | SessionEnd::Writing(_) => {
                    tracing::info!(session = id, %address, %end, "a session ended");
                }
                end => tracing::debug!(session = id, %address, %end, "a session ended"),
            }
        });
    }
}

fn decided(ended: Result<Result<(), StoreError>, JoinError>) -> Result<(), StoreError> {
    ended.unwrap_or(Err(StoreError::Damaged("the server's core panicked")))
}

fn bind_tcp(listen: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let bind = |address| listen::tcp(address).map_err(|source| StartError::Listen { address, protocol: "TCP", source });
    if !listen.is_empty() {
        return listen.iter().copied().map(bind).collect();
    }
    let [v4, v6] = listen::everywhere(crate::wire::endpoint::DEFAULT_PORT);
    let mut listeners = vec![bind(v4)?];
    match bind(v6) {
        Ok(listener) => listeners.push(listener),
        Err(StartError::Listen { source, .. }) if source.kind() != io::ErrorKind::AddrInUse => {
            tracing::warn!(%source, "no IPv6 here; listening on IPv4 only");
        }
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

/// Beside each listener, on its port; where the system chose that port, on another one if UDP has none free there.
fn bind_udp(
    udp: Option<SocketAddr>,
    listen: &[SocketAddr],
    listeners: &[TcpListener],
) -> Result<Vec<BoundPort>, StartError> {
    let bind = |address| {
        BoundPort::bind_beside(address).map_err(|source| StartError::Listen { address, protocol: "UDP", source })
    };
    if let Some(address) = udp {
        return Ok(vec![bind(address)?]);
    }
    let chosen = listen.iter().any(|address| address.port() == 0);
    let beside = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    beside
        .map(|address| match bind(address) {
            Err(_) if chosen => bind(SocketAddr::new(address.ip(), 0)),
            bound => bound,
        })
        .collect()
}

async fn accept(listener: TcpListener, accepted: mpsc::Sender<(TcpStream, SocketAddr)>) {
    loop {
        match listener.accept().await {
            Ok(arrival) => {
                if accepted.send(arrival).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: accepting at once again would only burn the processor.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Sessions and then the core have this long to end; together they stay below the 5 s that a stop may take.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ARRIVALS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CORE_QUEUE_BYTES;
    use crate::server::{Input, Output};
    use crate::wire::frame::ToServer;
    use std::sync::mpsc::{Receiver, channel};

    /// Stands still at the first frame until it is let go, as on a disk that does not answer.
    struct Stuck(Receiver<()>);

    impl Engine for Stuck {
        fn handle(&mut self, _: Duration, _: u64, input: Input) {
            if matches!(input, Input::Frame(..)) {
                let _ = self.0.recv();
            }
        }

        fn poll_output(&mut self) -> Option<Output> {
            None
        }

        fn next_timeout(&self) -> Option<Duration> {
            None
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_core_that_stands_still_with_a_full_queue_does_not_keep_the_server_from_stopping() {
        let (let_go, release) = channel();
        let beside =
            Beside { jobs: mpsc::channel(1).0, console: None, legs: Legs::new(RelayLimits::default(), Vec::new()) };
        let (core, deciding) = actor(Stuck(release), ServerStore::in_memory().unwrap(), Arc::default(), None, beside);
        let deciding = tokio::spawn(deciding);
        // The queue is full with it until it is done with, so that not even the word to stop finds a place.
        core.frame(1, ToServer::Alive, CORE_QUEUE_BYTES - 1).await.unwrap();
        let mut sessions = JoinSet::new();
        sessions.spawn(std::future::pending());
        let ended = timeout(Duration::from_secs(20), stop(core, sessions, deciding)).await.expect("it stops");
        assert!(ended.is_err(), "what waited may not be written, and that is said");
        drop(let_go);
    }
}
