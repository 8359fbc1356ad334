//! A server's mesh at work: it listens, dials, drives the node, and serves the server through a [`MeshHandle`].

mod changes;
mod driver;
mod handle;
mod meet;
mod mishaps;
mod parcels;
mod report;
mod words;

pub use handle::{MeshEvent, MeshEvents, MeshGone, MeshHandle};
pub use parcels::{Parcel, Parcels};
pub use report::{LinkReport, MeshReport, NodeReport};

use crate::limits::{MESH_PIECES_WAITING, MESH_QUEUE_BYTES};
use crate::mesh::{NodeConfig, NodeId};
use crate::net::clock::wall_ms;
use crate::net::listen;
use crate::net::tls::{self, TlsSetupError};
use crate::wire::endpoint::Endpoint;
use crate::wire::mesh_hello::{MESH_VERSION, MeshHello};
use crate::wire::name::Name;
use crate::wire::vouch::{ServerCert, ServerTrust};
use driver::{Driver, Ears, Mouths};
use meet::Shared;
use mishaps::Mishaps;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What a server's part in a mesh is made of.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// The server's identity.
    pub identity: crate::crypto::identity::Identity,
    /// The server's name.
    pub name: Name,
    /// What an authority says of the two.
    pub vouch: Option<ServerCert>,
    /// Which other servers are believed.
    pub trust: ServerTrust,
    /// Where other servers find it; none to be found by nobody, and only dial.
    pub listen: Vec<SocketAddr>,
    /// Servers to link with.
    pub links: Vec<Endpoint>,
    /// Where clients find it, `host:port`.
    pub endpoints: Vec<String>,
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshStartError {
    /// The port is taken, or the address is not ours.
    #[error("cannot listen for servers on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS refuses the identity.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// A mesh whose sockets are bound, so that its addresses are known.
#[derive(Debug)]
pub struct Mesh {
    config: MeshConfig,
    listeners: Vec<TcpListener>,
    instance: u64,
    seed: [u8; 32],
}

/// A mesh at work. Dropped, it stops at once.
#[derive(Debug)]
pub struct Running {
    handle: MeshHandle,
    tasks: JoinSet<()>,
}

impl Mesh {
    /// Binds all sockets. Needs a tokio runtime around it.
    pub fn bind(config: MeshConfig) -> Result<Self, MeshStartError> {
        let bind = |address: &SocketAddr| {
            listen::tcp(*address).map_err(|source| MeshStartError::Listen { address: *address, source })
        };
        let listeners = config.listen.iter().map(bind).collect::<Result<_, _>>()?;
        let (mut seed, mut low) = ([0; 32], [0; 2]);
        getrandom::fill(&mut seed).and_then(|()| getrandom::fill(&mut low)).map_err(|_| MeshStartError::Random)?;
        let instance = wall_ms() << 16 | u64::from(u16::from_be_bytes(low));
        Ok(Self { config, listeners, instance, seed })
    }

    /// What it was made of.
    pub const fn config(&self) -> &MeshConfig {
        &self.config
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Starts to listen and to dial.
    pub fn start(self) -> Result<(MeshHandle, MeshEvents, Running), MeshStartError> {
        let MeshConfig { identity, name, vouch, trust, links, endpoints, .. } = self.config;
        let (server, client) = tls::mesh_configs(&identity)?;
        let hello = MeshHello {
            version: MESH_VERSION,
            name: name.clone(),
            vouch: vouch.clone(),
            instance: self.instance,
            parcels: Some(true),
        };
        let own = NodeId::of(&identity.public());
        let (frames_in, frames) = mpsc::channel(MESH_PIECES_WAITING);
        let (meetings_in, meetings) = mpsc::channel(MEETINGS);
        let (nodes_in, nodes) = watch::channel(Arc::default());
        let (linked_in, linked) = watch::channel(BTreeSet::new());
        let (parcels_in, parcels) = parcels::waiting();
        let (events_in, events) = handle::events(parcels);
        let (handle, sends, parcels, asks) = MeshHandle::new(own, nodes);
        let mishaps = Arc::new(Mishaps::default());
        let mouths = Mouths {
            events: events_in,
            parcels: parcels_in,
            nodes: nodes_in,
            linked: linked_in,
            mishaps: mishaps.clone(),
        };
        let instance = self.instance;
        let config = NodeConfig { identity, name, vouch, trust, endpoints, instance, queue_bytes: MESH_QUEUE_BYTES };
        let shared =
            Arc::new(Shared { hello, server, client, meetings: meetings_in, frames: frames_in, linked, mishaps });
        let mut doors = JoinSet::new();
        let gate = meet::gate();
        for listener in self.listeners {
            doors.spawn(meet::listen(listener, gate.clone(), shared.clone()));
        }
        for endpoint in links {
            doors.spawn(meet::keep_dialling(endpoint, shared.clone()));
        }
        let driver = Driver::new(config, self.seed, mouths);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            driver.run(Ears { frames, meetings, sends, parcels, asks }).await;
            // Nobody is left to ask whether a link may be.
            doors.shutdown().await;
        });
        Ok((handle.clone(), events, Running { handle, tasks }))
    }
}

impl Running {
    /// Says goodbye to the neighbours and stops.
    pub async fn stop(mut self) {
        let _ = timeout(STOP_DEADLINE, self.handle.stop()).await;
        self.tasks.shutdown().await;
    }
}

/// Connections that wait for a word of the driver.
const MEETINGS: usize = 256;
const STOP_DEADLINE: Duration = Duration::from_secs(1);
