//! The one task that owns what decides: sessions queue inputs, it feeds them in and carries the outputs out, in order.
//!
//! Inputs that wait are taken together, so their writes share one transaction.

use super::disk::Disk;
use super::engine::Engine;
use super::forwarding::RelayLimits;
use super::hashing::{Hashing, door_key};
use super::metrics::Metrics;
use super::udp::Legs;
use super::{Input, LogEvent, Output, Retention, SessionId, Task};
use crate::crypto::identity::PublicKey;
use crate::limits::{ADMIN_ASK_MAX, CORE_QUEUE_BYTES, FRAMES_PER_SESSION, SESSION_QUEUE_BYTES};
use crate::mesh::run::{MeshEvent, MeshEvents, MeshHandle};
pub use crate::net::clock::wall_ms;
use crate::net::queue::FrameSender;
use crate::store::{ServerStore, StoreError};
use crate::wire::admin::{Answer, Ask, Failure};
use crate::wire::frame::ToServer;
use crate::wire::token::Token;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::sleep_until;

/// Where a server meets its mesh.
#[derive(Debug)]
pub struct MeshPort {
    /// To speak.
    pub handle: MeshHandle,
    /// To hear.
    pub events: MeshEvents,
}

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
    /// One permit for each frame of this session that waits.
    turns: Arc<Semaphore>,
    /// Posts are taken at a so-manieth of the normal pace.
    slower: Arc<AtomicU32>,
}

impl CoreHandle {
    fn new(queue: mpsc::UnboundedSender<Envelope>) -> Self {
        let (room, turns) = (Semaphore::new(CORE_QUEUE_BYTES / UNIT), Semaphore::new(FRAMES_PER_SESSION));
        Self { queue, room: Arc::new(room), turns: Arc::new(turns), slower: Arc::new(AtomicU32::new(1)) }
    }

    /// At what part of the normal pace posts are to be taken; 1 is normal.
    pub fn slower(&self) -> u32 {
        self.slower.load(Ordering::Relaxed)
    }

    /// A session's own handle: only so many of its frames wait at a time, however small they are, so that no session can
    /// put a long queue before all others.
    pub fn for_session(&self) -> Self {
        Self { turns: Arc::new(Semaphore::new(FRAMES_PER_SESSION)), ..self.clone() }
    }

    /// A client showed a certificate and wants to log in; `welcome` fires when it is accepted and is dropped when it is not.
    pub async fn connect(
        &self,
        session: SessionId,
        key: PublicKey,
        addr: SocketAddr,
        sender: FrameSender,
        welcome: oneshot::Sender<()>,
    ) -> Result<(), CoreGone> {
        let peer = Peer { sender, welcome: Some(welcome) };
        self.put(
            Report {
                input: Input::Connected { session, key, addr, via: None },
                peer: Some((session, peer)),
                asker: None,
            },
            0,
        )
        .await
    }

    /// A frame of `bytes` encoded bytes.
    pub async fn frame(&self, session: SessionId, frame: ToServer, bytes: usize) -> Result<(), CoreGone> {
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| CoreGone)?;
        self.put_with(Report { input: Input::Frame(session, frame), peer: None, asker: None }, bytes, Some(turn)).await
    }

    /// The session is over.
    pub async fn disconnect(&self, session: SessionId) -> Result<(), CoreGone> {
        self.put(Report { input: Input::Disconnected(session), peer: None, asker: None }, 0).await
    }

    /// A question of who runs the server. Waits for the answer as long as the core takes for it.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, CoreGone> {
        let (answer, answered) = oneshot::channel();
        let input = Input::Asked { ticket: 0, ask: Box::new(ask) };
        self.put(Report { input, peer: None, asker: Some(answer) }, ADMIN_ASK_MAX).await?;
        answered.await.map_err(|_| CoreGone)
    }

    /// Things are kept for other times from now on.
    pub async fn retain(&self, retention: Retention) -> Result<(), CoreGone> {
        self.put(Report { input: Input::Retain(retention), peer: None, asker: None }, 0).await
    }

    /// So much of files is passed on from now on.
    pub async fn relays(&self, limits: RelayLimits) -> Result<(), CoreGone> {
        self.put(Report { input: Input::Relays(limits), peer: None, asker: None }, 0).await
    }

    /// Members are to be told that the server stops.
    pub async fn drain(&self) -> Result<(), CoreGone> {
        self.put(Report { input: Input::Drain, peer: None, asker: None }, 0).await
    }

    async fn put(&self, report: Report, bytes: usize) -> Result<(), CoreGone> {
        self.put_with(report, bytes, None).await
    }

    async fn put_with(&self, report: Report, bytes: usize, turn: Option<OwnedSemaphorePermit>) -> Result<(), CoreGone> {
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(units).await.map_err(|_| CoreGone)?;
        self.queue.send(Envelope { report, _room: room, _turn: turn }).map_err(|_| CoreGone)
    }
}

/// The handle, and the task's future. It ends well when a drain was asked for and all sessions are gone, or with the last handle;
/// and with an error when the store fails, since nothing may be promised after that.
pub fn actor<E: Engine>(
    engine: E,
    store: ServerStore,
    metrics: Arc<Metrics>,
    mesh: Option<MeshPort>,
    beside: Beside,
) -> (CoreHandle, impl Future<Output = Result<(), StoreError>> + Send) {
    let (queue, inbox) = mpsc::unbounded_channel();
    let handle = CoreHandle::new(queue);
    let (answered, answers) = mpsc::unbounded_channel();
    let hashing = Hashing::new(&answered);
    let (mesh, events) = mesh.map(|port| (port.handle, port.events)).unzip();
    let actor = Actor {
        engine,
        slower: Arc::clone(&handle.slower),
        metrics,
        disk: Disk::new(store),
        hashing,
        sessions: HashMap::new(),
        started: Instant::now(),
        draining: false,
        mesh,
        beside,
        answered,
        asked: 0,
        askers: HashMap::new(),
    };
    (handle, actor.run(inbox, answers, events))
}

struct Actor<E> {
    engine: E,
    metrics: Arc<Metrics>,
    disk: Disk,
    hashing: Hashing,
    sessions: HashMap<SessionId, Peer>,
    started: Instant,
    draining: bool,
    mesh: Option<MeshHandle>,
    beside: Beside,
    /// Where what was done beside the core is told.
    answered: mpsc::UnboundedSender<Input>,
    /// Known to all handles.
    slower: Arc<AtomicU32>,
    asked: u64,
    askers: HashMap<u64, oneshot::Sender<Answer>>,
}

/// Where goes what the core cannot do itself.
#[derive(Debug)]
pub struct Beside {
    /// What the server around it is to do.
    pub jobs: mpsc::Sender<Job>,
    /// What users write to the operator, where somebody sits; else it goes into the log.
    pub console: Option<mpsc::Sender<String>>,
    /// Files that are passed on.
    pub legs: Legs,
}

/// Something that the server around the core is to do.
#[derive(Debug)]
pub struct Job {
    /// What.
    pub task: Task,
    ticket: u64,
    answered: mpsc::UnboundedSender<Input>,
}

impl Job {
    /// What came of it. A core that is gone does not want to know.
    pub fn done(self, answer: Answer) {
        let _ = self.answered.send(Input::Operated { ticket: self.ticket, answer: Box::new(answer) });
    }
}

#[derive(Debug)]
struct Peer {
    sender: FrameSender,
    /// Until its login is accepted.
    welcome: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Envelope {
    report: Report,
    _room: OwnedSemaphorePermit,
    _turn: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Report {
    input: Input,
    /// Goes with [`Input::Connected`].
    peer: Option<(SessionId, Peer)>,
    /// Goes with [`Input::Asked`].
    asker: Option<oneshot::Sender<Answer>>,
}

impl<E: Engine> Actor<E> {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Envelope>,
        mut answers: mpsc::UnboundedReceiver<Input>,
        mut events: Option<MeshEvents>,
    ) -> Result<(), StoreError> {
        loop {
            let due = self.engine.next_timeout().and_then(|due| self.started.checked_add(due));
            tokio::select! {
                envelope = inbox.recv() => match envelope {
                    Some(envelope) => self.take_all(envelope, &mut inbox),
                    None => return Ok(()),
                },
                event = next_event(&mut events) => self.take_events(event, &mut events),
                Some(answer) = answers.recv() => self.feed(answer),
                () = wait_until(due) => self.feed(Input::Timeout),
            }
            self.carry_out().await?;
            if self.draining && self.sessions.is_empty() {
                // Who asked for the end hears of it.
                while let Ok(answer) = answers.try_recv() {
                    self.feed(answer);
                }
                return self.carry_out().await;
            }
        }
    }

    fn take_all(&mut self, first: Envelope, inbox: &mut mpsc::UnboundedReceiver<Envelope>) {
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(Envelope { report, .. }) = next else { return };
            self.take(report);
            next = inbox.try_recv().ok();
        }
        if let Some(Envelope { report, .. }) = next {
            self.take(report);
        }
    }

    fn take_events(&mut self, first: MeshEvent, events: &mut Option<MeshEvents>) {
        self.feed(Input::Mesh(first));
        for _ in 0..BATCH {
            let Some(event) = events.as_mut().and_then(|events| events.try_next()) else { return };
            self.feed(Input::Mesh(event));
        }
    }

    fn take(&mut self, mut report: Report) {
        self.sessions.extend(report.peer);
        if let Some(asker) = report.asker {
            self.asked += 1;
            self.askers.insert(self.asked, asker);
            if let Input::Asked { ticket, .. } = &mut report.input {
                *ticket = self.asked;
            }
        }
        match report.input {
            Input::Disconnected(session) => _ = self.sessions.remove(&session),
            Input::Drain => self.draining = true,
            _ => {}
        }
        self.feed(report.input);
    }

    fn feed(&mut self, input: Input) {
        if let Some(space) = self.disk.look() {
            self.engine.handle(self.started.elapsed(), wall_ms(), Input::Disk(space));
        }
        self.engine.handle(self.started.elapsed(), wall_ms(), input);
    }

    async fn carry_out(&mut self) -> Result<(), StoreError> {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Store(writes) => self.disk.with(move |store| store.apply(&writes)).await?,
                Output::Send { session, frame } => self.send(session, frame),
                Output::Admitted { session } => self.admit(session),
                Output::Close { session } => self.close(session),
                Output::CheckDoor { ticket, phc, door } => self
                    .hashing
                    .start(move |hasher| Input::DoorChecked { ticket, ok: hasher.verify(&phc, &door_key(&door)) }),
                Output::HashDoor { ticket, door } => self.hashing.start(move |hasher| {
                    let mut salt = [0; 16];
                    let phc = getrandom::fill(&mut salt).ok().map(|()| hasher.hash(&door_key(&door), salt));
                    Input::DoorHashed { ticket, phc }
                }),
                Output::ReadLog { ticket, room, after } => {
                    let page = self.disk.with(move |store| store.page(&room, after)).await?;
                    self.feed(Input::LogPage { ticket, page });
                }
                Output::SendFrom { session, client, frame } => self.send_from(session, client, frame),
                Output::Mesh { targets, body } => {
                    if let Some(mesh) = &self.mesh {
                        // A mesh that has stopped does so with the server, or another process is this server there.
                        let _ = mesh.send(targets, body).await;
                    }
                }
                Output::Draw { ticket } => {
                    let mut bytes = [0; 16];
                    let token = getrandom::fill(&mut bytes).ok().map(|()| Token::new(bytes));
                    self.feed(Input::Drawn { ticket, token });
                }
                Output::RegisterLeg { session, request, user, tokens } => {
                    let made = self.beside.legs.register(user, tokens);
                    self.feed(Input::LegMade { session, request, made });
                }
                Output::Legs { user, stay } => self.beside.legs.stay(user, stay),
                Output::Way(way) => self.beside.legs.way(way),
                Output::Pace { slower } => self.slower.store(slower, Ordering::Relaxed),
                // The engine of a server in a mesh takes these itself.
                Output::Relay { .. } | Output::Gossip { .. } => {}
                Output::ReadActs { ticket, before, limit } => {
                    let acts = self.disk.with(move |store| store.acts(before, limit)).await?;
                    self.feed(Input::Acts { ticket, acts });
                }
                Output::Answer { ticket, answer } => {
                    if let Some(asker) = self.askers.remove(&ticket) {
                        // Whoever asked may have stopped waiting.
                        let _ = asker.send(*answer);
                    }
                }
                Output::Operate { ticket, task } => self.operate(ticket, task),
                Output::Log(event) => self.log(&event),
            }
        }
        self.metrics.set(self.engine.gauges());
        Ok(())
    }

    fn log(&self, event: &LogEvent) {
        let spoken = self.beside.console.as_ref().filter(|_| matches!(event, LogEvent::Operator { .. }));
        // A console that is behind is as good as none.
        if spoken.is_none_or(|console| console.try_send(event.to_string()).is_err()) {
            tracing::info!("{event}");
        }
    }

    fn operate(&mut self, ticket: u64, task: Task) {
        let job = Job { task, ticket, answered: self.answered.clone() };
        if let Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) =
            self.beside.jobs.try_send(job)
        {
            job.done(Answer::failed(Failure::Failed, "the server is busy with other questions or stops"));
        }
    }

    fn send(&mut self, session: SessionId, frame: Arc<[u8]>) {
        if let Some(peer) = self.sessions.get(&session) {
            self.metrics.deliveries.fetch_add(1, Ordering::Relaxed);
            // A full queue ends the session by itself, and the core hears of it as a disconnection.
            let _ = peer.sender.send(frame);
        }
    }

    /// What other servers say may fill half of a client's queue: the rest is for what is said here.
    fn send_from(&mut self, session: SessionId, client: u64, frame: Arc<[u8]>) {
        let waiting = self.sessions.get(&session).map_or(0, |peer| peer.sender.waiting());
        if waiting.saturating_add(frame.len()) > SESSION_QUEUE_BYTES / 2 {
            return self.feed(Input::TooSlow { client });
        }
        self.send(session, frame);
    }

    /// From now on its frames may be long.
    fn admit(&mut self, session: SessionId) {
        if let Some(welcome) = self.sessions.get_mut(&session).and_then(|peer| peer.welcome.take()) {
            // The session may be gone already.
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

/// What the mesh says next; never, where there is none or it has ended.
async fn next_event(events: &mut Option<MeshEvents>) -> MeshEvent {
    if let Some(receiver) = events
        && let Some(event) = receiver.next().await
    {
        return event;
    }
    *events = None;
    std::future::pending().await
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Inputs that are taken before the outputs of the first are carried out.
const BATCH: usize = 64;
/// What a permit of the queue stands for, bytes.
const UNIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it was put into the queue at once.
    async fn poll_once(put: impl Future<Output = Result<(), CoreGone>>) -> bool {
        tokio::select! {
            biased;
            done = put => done.is_ok(),
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_session_that_floods_waits_and_the_next_one_does_not() {
        let (queue, mut inbox) = mpsc::unbounded_channel();
        let handle = CoreHandle::new(queue);
        let (flooder, other) = (handle.for_session(), handle.for_session());
        let mut sent = 0;
        while sent < 100_000 && poll_once(flooder.frame(1, ToServer::Alive, 2)).await {
            sent += 1;
        }
        assert_eq!(sent, FRAMES_PER_SESSION);
        assert!(poll_once(other.frame(2, ToServer::Alive, 2)).await);
        drop(inbox.recv().await);
        assert!(poll_once(flooder.frame(1, ToServer::Alive, 2)).await, "a frame that was taken makes room");
    }
}
