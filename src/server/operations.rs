//! What an operator sees of a running server: metrics, the admin socket, the console.

use super::Settings;
use super::actor::CoreHandle;
use super::desk::{self, Desk, Parting};
use super::metrics::{self, Metrics};
use super::run::StartError;
use crate::mesh::run::MeshHandle;
use crate::net::listen;
use crate::wire::admin::{Answer, Ask};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;

/// The sockets for it, bound, and what is shown through them.
#[derive(Default)]
pub struct Operations {
    metrics: Option<TcpListener>,
    #[cfg(unix)]
    admin: Option<tokio::net::UnixListener>,
    mesh: Option<MeshHandle>,
    console: Option<Console>,
    pub(super) data: Option<PathBuf>,
    pub(super) settings: Option<Settings>,
}

/// The terminal of a server, as far as the server is concerned.
#[derive(Debug)]
pub struct Console {
    /// Questions from there, and where their answers go.
    pub asks: mpsc::Receiver<(Ask, oneshot::Sender<Told>)>,
    /// Lines of users to the operator, harmless.
    pub heard: mpsc::Sender<String>,
}

/// An answer for the console; a server that stops waits a little until it is shown and dropped.
#[derive(Debug)]
pub struct Told {
    /// What came of the question.
    pub answer: Answer,
    _place: OwnedSemaphorePermit,
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
            console: None,
            data: Some(data.to_owned()),
            settings: None,
        })
    }

    /// With settings that can be read again.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings: Some(settings), ..self }
    }

    /// With somebody, or a program, at the server's own terminal.
    #[must_use]
    pub fn with_console(self, console: Option<Console>) -> Self {
        Self { console, ..self }
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Where lines to the operator go.
    pub(super) fn heard(&self) -> Option<mpsc::Sender<String>> {
        self.console.as_ref().map(|console| console.heard.clone())
    }

    /// Serves all until the tasks are dropped; answers that are on their way then are waited for by what is returned.
    pub(super) fn start(self, counted: Arc<Metrics>, core: CoreHandle, tasks: &mut JoinSet<()>) -> Parting {
        let desk = Desk::new(core);
        if let Some(listener) = self.metrics {
            tasks.spawn(metrics::serve(listener, counted, self.mesh));
        }
        #[cfg(unix)]
        if let Some(listener) = self.admin {
            tasks.spawn(desk::serve(listener, desk.clone()));
        }
        if let Some(console) = self.console {
            tasks.spawn(attend(console.asks, desk.clone()));
        }
        desk.parting()
    }
}

/// One question after the other.
async fn attend(mut asks: mpsc::Receiver<(Ask, oneshot::Sender<Told>)>, desk: Desk) {
    while let Some((ask, answered)) = asks.recv().await {
        // A stop ends this task, but not the one that tells of it.
        let desk = desk.clone();
        let told = async move {
            let Some(place) = desk.place().await else { return };
            let _ = answered.send(Told { answer: desk.answer(ask).await, _place: place });
        };
        let _ = tokio::spawn(told).await;
    }
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").field("metrics", &self.metrics).field("data", &self.data).finish_non_exhaustive()
    }
}
