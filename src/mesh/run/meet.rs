//! From a connection to a link and to its end, for both sides.

use super::driver::{Candidate, Meeting, Refusal};
use super::mishaps::{Mishap, Mishaps};
use crate::limits::{
    MESH_BACKOFF_MAX, MESH_BACKOFF_MIN, MESH_BACKOFF_SOON, MESH_CONNECTIONS_MAX, MESH_LONG_GONE, MESH_PENDING_MAX,
    MESH_PENDING_PER_ADDRESS,
};
use crate::mesh::NodeId;
use crate::mesh::link::{self, FromLink, Greeting, HandshakeError, Outgoing};
use crate::net::accept::{Caps, Gate, Ticket};
use crate::net::dial;
use crate::wire::endpoint::Endpoint;
use crate::wire::mesh_hello::{MeshHello, MeshRefusal};
use rustls::{ClientConfig, ServerConfig};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub hello: MeshHello,
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    pub meetings: mpsc::Sender<Meeting>,
    pub frames: mpsc::Sender<FromLink>,
    pub linked: watch::Receiver<BTreeSet<NodeId>>,
    pub mishaps: Arc<Mishaps>,
}

/// Takes connections of other servers, and of everybody else who finds the port. All listeners share a gate.
pub(super) fn gate() -> Gate {
    Gate::new(Caps {
        connections: MESH_CONNECTIONS_MAX,
        per_address: MESH_CONNECTIONS_MAX,
        pending: MESH_PENDING_MAX,
        pending_per_address: MESH_PENDING_PER_ADDRESS,
    })
}

/// Accepts until it is dropped, and all that was accepted with it.
pub(super) async fn listen(listener: TcpListener, gate: Gate, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            arrival = listener.accept() => match arrival {
                Ok((tcp, address)) => match gate.admit(address.ip()) {
                    Some((ticket, evicted)) => {
                        let shared = shared.clone();
                        connections.spawn(async move {
                            tokio::select! {
                                () = accepted(tcp, address, &shared, &ticket) => {}
                                () = leave_place(evicted) => {
                                    shared.mishap(Mishap::Evicted, address, "it makes room for a newer one");
                                }
                            }
                        });
                    }
                    None => shared.mishap(Mishap::Busy, address, "there are too many"),
                },
                Err(error) => {
                    // Out of descriptors, most likely: accepting at once again would only burn the processor.
                    tracing::warn!(%error, "a connection of a server could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Resolves on an eviction; a connection that has found its place is never evicted.
async fn leave_place(evicted: oneshot::Receiver<()>) {
    if evicted.await.is_err() {
        std::future::pending().await
    }
}

async fn accepted(tcp: TcpStream, address: SocketAddr, shared: &Shared, ticket: &Ticket) {
    match link::accept(tcp, shared.server.clone()).await {
        Ok(greeting) => match link(greeting, address, false, shared, Some(ticket)).await {
            // Told before the peer was.
            Ok(()) | Err(HandshakeError::WeRefuse(..)) => {}
            Err(error) => shared.failed(&error, address),
        },
        Err(error) => shared.failed(&error, address),
    }
}

/// Keeps a link with the server at an address, for ever; only one that turns out to be ourselves is given up.
pub(super) async fn keep_dialling(endpoint: Endpoint, shared: Arc<Shared>) {
    let (mut pause, mut lost, mut told) = (MESH_BACKOFF_MIN, Instant::now(), None);
    let mut known = None;
    loop {
        if let Some(peer) = known {
            shared.until_gone(peer).await;
        }
        let began = Instant::now();
        let Err(error) = dialled(&endpoint, &shared, &mut known).await else {
            if began.elapsed() > STEADY {
                (pause, lost) = (MESH_BACKOFF_MIN, Instant::now());
            }
            told = None;
            sleep(jittered(pause)).await;
            continue;
        };
        match &error {
            HandshakeError::WeRefuse(_, MeshRefusal::Itself) | HandshakeError::TheyRefuse(MeshRefusal::Itself) => {
                return tracing::warn!("--link {endpoint} is this server itself");
            }
            HandshakeError::WeRefuse(_, MeshRefusal::Linked) | HandshakeError::TheyRefuse(MeshRefusal::Linked) => {
                tracing::debug!(%endpoint, "{error}");
            }
            error => tell_once(&endpoint, error, &mut told),
        }
        sleep(jittered(pause)).await;
        let longest = if lost.elapsed() < MESH_LONG_GONE { MESH_BACKOFF_SOON } else { MESH_BACKOFF_MAX };
        pause = (2 * pause).min(longest);
    }
}

async fn dialled(endpoint: &Endpoint, shared: &Shared, known: &mut Option<NodeId>) -> Result<(), HandshakeError> {
    let tcp = dial::tcp(endpoint).await.map_err(HandshakeError::Io)?;
    let address = tcp.peer_addr().map_err(HandshakeError::Io)?;
    let greeting = link::dial(tcp, shared.client.clone(), &shared.hello, known).await?;
    link(greeting, address, true, shared, None).await
}

/// The same failure is told once, and again after a while.
fn tell_once(endpoint: &Endpoint, error: &HandshakeError, told: &mut Option<(String, Instant)>) {
    let text = error.to_string();
    if told.as_ref().is_none_or(|(last, at)| *last != text || at.elapsed() > TELL_AGAIN) {
        match error {
            HandshakeError::TheyRefuse(MeshRefusal::NameTaken | MeshRefusal::NotTrusted | MeshRefusal::Former) => {
                tracing::error!("the server at {endpoint} refuses this one: {text}");
            }
            _ => tracing::warn!("no link with the server at {endpoint}: {text}"),
        }
        *told = Some((text, Instant::now()));
    }
}

async fn link(
    greeting: Greeting,
    address: SocketAddr,
    dialled: bool,
    shared: &Shared,
    ticket: Option<&Ticket>,
) -> Result<(), HandshakeError> {
    let candidate = Candidate { peer: greeting.peer.clone(), address, dialled };
    if let Err((why, refusal)) = shared.ask(|answer| Meeting::Consider(candidate.clone(), answer)).await {
        let error = shared.refusing(&candidate, &why, refusal);
        greeting.refuse(refusal).await;
        return Err(error);
    }
    let met = greeting.agree(&shared.hello).await?;
    let (outgoing, received) = (Outgoing::new(), Arc::new(AtomicU64::new(0)));
    let admit = |answer| Meeting::Admit(candidate.clone(), outgoing.clone(), received.clone(), answer);
    let id = match shared.ask(admit).await {
        Ok(id) => id,
        Err((why, refusal)) => {
            let error = shared.refusing(&candidate, &why, refusal);
            met.refuse(refusal).await;
            return Err(error);
        }
    };
    if let Some(ticket) = ticket {
        ticket.logged_in();
    }
    let end = link::run(id, met.stream, met.rest, outgoing, received, shared.frames.clone()).await;
    // Nobody is left to hear it only when the server stops.
    let _ = shared.meetings.send(Meeting::Ended(id, end)).await;
    Ok(())
}

impl Shared {
    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Meeting,
    ) -> Result<T, Refusal> {
        let gone = || ("the server stops".to_owned(), MeshRefusal::Busy);
        let (answer, answered) = oneshot::channel();
        self.meetings.send(question(answer)).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Waits until there is no link with that peer, whoever dialled.
    async fn until_gone(&self, peer: NodeId) {
        let mut linked = self.linked.clone();
        if linked.wait_for(|linked| !linked.contains(&peer)).await.is_err() {
            std::future::pending().await
        }
    }

    /// Counts and tells it at once, for the peer may take its time to hear it; one that we have dialled is told by the dialling.
    fn refusing(&self, candidate: &Candidate, why: &str, refusal: MeshRefusal) -> HandshakeError {
        let peer = &candidate.peer;
        let who = format!("it is called {} and has the key {}", peer.name, peer.key.fingerprint());
        let error = HandshakeError::WeRefuse(format!("{who}: {why}"), refusal);
        if !candidate.dialled {
            self.failed(&error, candidate.address);
        }
        error
    }

    fn failed(&self, error: &HandshakeError, address: SocketAddr) {
        match Mishap::of_handshake(error) {
            Some(Mishap::Linked) => tracing::debug!(%address, "{error}"),
            Some(mishap) => self.mishap(mishap, address, error),
            None => tracing::debug!(%address, "a connection at the mesh port ended: {error}"),
        }
    }

    fn mishap(&self, mishap: Mishap, address: SocketAddr, why: impl std::fmt::Display) {
        if let Some(untold) = self.mishaps.count(mishap, address.ip()) {
            tracing::warn!(%address, untold, "a connection at the mesh port is refused: {why}");
        }
    }
}

/// Half of it at least, so that two servers that dial each other fall out of step.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness it is as good as any.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 510.0)
}

/// A link that held for so long was a good one.
const STEADY: Duration = Duration::from_secs(3);
const TELL_AGAIN: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
