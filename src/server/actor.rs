//! The one task that owns what decides: sessions queue inputs, it feeds them in and carries the outputs out, in order.

use super::engine::{Engine, Input, Output, SessionId};
use crate::crypto::identity::PublicKey;
use crate::limits::CORE_QUEUE_BYTES;
use crate::net::queue::FrameSender;
use crate::wire::frame::{ToClient, ToServer};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// The core's task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server stops")]
pub struct CoreGone;

/// Where sessions report. Clones share the queue, which is bounded in bytes: whoever sends faster than the core takes waits.
#[derive(Debug, Clone)]
pub struct CoreHandle {
    queue: mpsc::UnboundedSender<Envelope>,
    /// One permit for each [`UNIT`] of what waits.
    room: Arc<Semaphore>,
}

impl CoreHandle {
    /// A client showed a certificate and wants to log in; `welcome` fires when it is accepted and is dropped when it is not.
    pub async fn connect(
        &self,
        session: SessionId,
        key: PublicKey,
        address: SocketAddr,
        sender: FrameSender,
        welcome: oneshot::Sender<()>,
    ) -> Result<(), CoreGone> {
        self.put(Report::Connected { session, key, address, sender, welcome }, UNIT).await
    }

    /// A frame of `bytes` encoded bytes.
    pub async fn frame(&self, session: SessionId, frame: ToServer, bytes: usize) -> Result<(), CoreGone> {
        self.put(Report::Frame { session, frame }, bytes).await
    }

    /// The session is over.
    pub async fn disconnect(&self, session: SessionId) -> Result<(), CoreGone> {
        self.put(Report::Disconnected { session }, 0).await
    }

    /// Members are to be told that the server stops.
    pub async fn drain(&self) -> Result<(), CoreGone> {
        self.put(Report::Drain, 0).await
    }

    async fn put(&self, report: Report, bytes: usize) -> Result<(), CoreGone> {
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(units).await.map_err(|_| CoreGone)?;
        self.queue.send(Envelope { report, _room: room }).map_err(|_| CoreGone)
    }
}

/// The handle, and the task's future. It ends when `drain` was asked for and all sessions are gone, or with the last handle.
pub fn actor<E: Engine>(engine: E) -> (CoreHandle, impl Future<Output = ()> + Send) {
    let (queue, inbox) = mpsc::unbounded_channel();
    let handle = CoreHandle { queue, room: Arc::new(Semaphore::new(CORE_QUEUE_BYTES / UNIT)) };
    let actor = Actor { engine, sessions: HashMap::new(), started: Instant::now(), draining: false };
    (handle, actor.run(inbox))
}

struct Actor<E> {
    engine: E,
    sessions: HashMap<SessionId, Peer>,
    started: Instant,
    draining: bool,
}

struct Peer {
    sender: FrameSender,
    welcome: Option<oneshot::Sender<()>>,
}

struct Envelope {
    report: Report,
    _room: OwnedSemaphorePermit,
}

enum Report {
    Connected {
        session: SessionId,
        key: PublicKey,
        address: SocketAddr,
        sender: FrameSender,
        welcome: oneshot::Sender<()>,
    },
    Frame {
        session: SessionId,
        frame: ToServer,
    },
    Disconnected {
        session: SessionId,
    },
    Drain,
}

impl<E: Engine> Actor<E> {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Envelope>) {
        while let Some(envelope) = inbox.recv().await {
            self.take(envelope.report);
            self.carry_out();
            if self.draining && self.sessions.is_empty() {
                return;
            }
        }
    }

    fn take(&mut self, report: Report) {
        let input = match report {
            Report::Connected { session, key, address, sender, welcome } => {
                self.sessions.insert(session, Peer { sender, welcome: Some(welcome) });
                Input::Connected { session, key, address }
            }
            Report::Frame { session, frame } => Input::Frame { session, frame },
            Report::Disconnected { session } => {
                self.sessions.remove(&session);
                Input::Disconnected { session }
            }
            Report::Drain => {
                self.draining = true;
                Input::Drain
            }
        };
        self.engine.input(input, self.started.elapsed());
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.engine.output() {
            match output {
                Output::Send { session, frame } => self.send(session, &frame),
                Output::Close { session } => self.close(session),
            }
        }
    }

    fn send(&mut self, session: SessionId, frame: &ToClient) {
        let Some(peer) = self.sessions.get_mut(&session) else { return };
        // A full queue ends the session by itself, and the core hears of it as a disconnection.
        let sent = peer.sender.send(frame.to_bytes().into());
        if let (ToClient::Welcome(_), Ok(()), Some(welcome)) = (frame, sent, peer.welcome.take()) {
            let _ = welcome.send(());
        }
    }

    fn close(&mut self, session: SessionId) {
        if let Some(peer) = self.sessions.get_mut(&session) {
            peer.sender.close();
            peer.welcome = None;
        }
    }
}

/// What a permit of the queue stands for, bytes.
const UNIT: usize = 256;
