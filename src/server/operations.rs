//! What an operator sees of a running server: metrics and the admin socket.

use super::actor::CoreHandle;
use super::desk::{self, Desk};
use super::metrics::{self, Metrics};
use super::run::StartError;
use crate::mesh::run::MeshHandle;
use crate::net::listen;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The sockets for it, bound, and what is shown through them.
#[derive(Debug, Default)]
pub struct Operations {
    metrics: Option<TcpListener>,
    #[cfg(unix)]
    admin: Option<tokio::net::UnixListener>,
    mesh: Option<MeshHandle>,
}

impl Operations {
    /// `data` is the data directory, which must be ours. Without an admin socket a server runs all the same.
    pub fn bind(metrics: Option<SocketAddr>, data: &Path, mesh: Option<MeshHandle>) -> Result<Self, StartError> {
        let bind = |address| {
            listen::tcp(address).map_err(|source| StartError::Listen { address, protocol: "metrics", source })
        };
        Ok(Self {
            metrics: metrics.map(bind).transpose()?,
            #[cfg(unix)]
            admin: desk::bind(data)
                .inspect_err(|error| tracing::warn!(%error, "there is no admin socket; `secchat admin` will not work"))
                .ok(),
            mesh,
        })
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves both until the tasks are dropped.
    pub(super) fn start(self, counted: Arc<Metrics>, core: CoreHandle, tasks: &mut JoinSet<()>) {
        if let Some(listener) = self.metrics {
            tasks.spawn(metrics::serve(listener, counted, self.mesh.clone()));
        }
        #[cfg(unix)]
        if let Some(listener) = self.admin {
            tasks.spawn(desk::serve(listener, Desk { core }));
        }
    }
}
