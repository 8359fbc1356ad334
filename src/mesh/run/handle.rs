//! How the server uses the mesh: what it sends, what it hears, what it asks.

use super::parcels::{self, Parcel, Parcels};
use super::report::MeshReport;
use crate::limits::{MESH_EVENT_BYTES, MESH_SEND_BYTES};
use crate::mesh::{DownReason, NodeId, NodeInfo};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// The mesh has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mesh has stopped")]
pub struct MeshGone;

/// What the mesh tells the server, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// Another server sent this to ours: once, in the order of its sending.
    Delivered {
        /// Who.
        from: NodeId,
        /// What it sent to us only.
        head: Vec<u8>,
        /// What it sent to all targets of the message.
        body: Arc<[u8]>,
    },
    /// Something can be sent to this server from now on.
    Up(NodeInfo),
    /// Something of it has changed: where clients find it, how far it is, whether a path leads there.
    Changed(NodeInfo),
    /// All that was sent and not delivered is void, in both directions.
    Down(NodeId, DownReason),
    /// So much waits for this server ([`crate::limits::MESH_FULL_BYTES`]) that what can wait should, before it is
    /// [`MeshEvent::Down`] at [`crate::limits::MESH_QUEUE_BYTES`]; `false`: no longer.
    Full(NodeId, bool),
}

impl MeshEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Delivered { head, body, .. } => head.len() + body.len() + EVENT_BYTES,
            _ => EVENT_BYTES,
        }
    }
}

/// The server's end of the mesh. Clones share it.
#[derive(Debug, Clone)]
pub struct MeshHandle {
    own: NodeId,
    sends: mpsc::UnboundedSender<Sending>,
    parcels: mpsc::Sender<Parcel>,
    /// One permit for each [`UNIT`] of what waits.
    room: Arc<Semaphore>,
    asks: mpsc::Sender<Ask>,
    nodes: watch::Receiver<Arc<[NodeInfo]>>,
}

impl MeshHandle {
    pub(super) fn new(
        own: NodeId,
        nodes: watch::Receiver<Arc<[NodeInfo]>>,
    ) -> (Self, mpsc::UnboundedReceiver<Sending>, Parcels, mpsc::Receiver<Ask>) {
        let (sends, sending) = mpsc::unbounded_channel();
        let (parcels, parcelled) = parcels::waiting();
        let (asks, asking) = mpsc::channel(ASKS);
        let room = Arc::new(Semaphore::new(MESH_SEND_BYTES / UNIT));
        (Self { own, sends, parcels, room, asks, nodes }, sending, parcelled, asking)
    }

    /// Our own server's id.
    pub const fn own(&self) -> NodeId {
        self.own
    }

    /// Sends to each target its head and to all the body: once, and in order for each target. Targets that are not up are left
    /// out. Waits only while more than [`MESH_SEND_BYTES`] wait to be taken by the mesh, which itself never waits for the server:
    /// two that send to each other cannot stand still.
    pub async fn send(&self, targets: Vec<(NodeId, Vec<u8>)>, body: Arc<[u8]>) -> Result<(), MeshGone> {
        let heads: usize = targets.iter().map(|(_, head)| head.len() + EVENT_BYTES).sum();
        let units = ((body.len() + heads) / UNIT + 1).min(MESH_SEND_BYTES / UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(units).await.map_err(|_| MeshGone)?;
        self.sends.send(Sending { targets, body, _room: room }).map_err(|_| MeshGone)
    }

    /// Sends bytes to another server once, at most [`crate::limits::MESH_PARCEL_MAX`] of them, behind all else; what finds no room here or on
    /// the way is lost. `false` if it found none here.
    pub fn parcel(&self, parcel: Parcel) -> bool {
        self.parcels.try_send(parcel).is_ok()
    }

    /// The other servers that are up, as the mesh knows them now.
    pub fn nodes(&self) -> Arc<[NodeInfo]> {
        self.nodes.borrow().clone()
    }

    /// All that an operator may want to see.
    pub async fn report(&self) -> Result<MeshReport, MeshGone> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Report(answer)).await.map_err(|_| MeshGone)?;
        answered.await.map_err(|_| MeshGone)
    }

    pub(super) async fn stop(&self) -> Result<(), MeshGone> {
        let (done, stopped) = oneshot::channel();
        self.asks.send(Ask::Stop(done)).await.map_err(|_| MeshGone)?;
        stopped.await.map_err(|_| MeshGone)
    }
}

/// What the server wants sent.
#[derive(Debug)]
pub(super) struct Sending {
    pub targets: Vec<(NodeId, Vec<u8>)>,
    pub body: Arc<[u8]>,
    _room: OwnedSemaphorePermit,
}

/// What the server wants of the driver besides.
#[derive(Debug)]
pub(super) enum Ask {
    Report(oneshot::Sender<MeshReport>),
    Stop(oneshot::Sender<()>),
}

/// Where the server hears of the mesh.
#[derive(Debug)]
pub struct MeshEvents(Arc<Inbox>, Option<Parcels>);

/// The driver's end of the same queue.
#[derive(Debug)]
pub(super) struct EventSender(Arc<Inbox>);

#[derive(Debug, Default)]
struct Inbox {
    queue: Mutex<Queue>,
    filled: Notify,
    /// There is room again where there was none.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<MeshEvent>,
    bytes: usize,
    /// One of the two ends is gone.
    closed: bool,
}

pub(super) fn events(parcels: Parcels) -> (EventSender, MeshEvents) {
    let inbox = Arc::<Inbox>::default();
    (EventSender(inbox.clone()), MeshEvents(inbox, Some(parcels)))
}

impl MeshEvents {
    /// Where parcels come; once. Until it is asked for some of them wait, and the others are lost.
    pub const fn parcels(&mut self) -> Option<Parcels> {
        self.1.take()
    }

    /// The next event; `None` when the mesh has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<MeshEvent> {
        loop {
            {
                let mut queue = self.0.lock();
                if let Some(event) = queue.events.pop_front() {
                    self.0.taken(&mut queue, event.bytes());
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }

    /// The next event if one waits.
    pub fn try_next(&mut self) -> Option<MeshEvent> {
        let mut queue = self.0.lock();
        let event = queue.events.pop_front()?;
        self.0.taken(&mut queue, event.bytes());
        Some(event)
    }
}

impl Drop for MeshEvents {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        *queue = Queue { closed: true, ..Queue::default() };
        self.0.emptied.notify_one();
    }
}

impl EventSender {
    /// Queues events and empties the list.
    pub(super) fn push(&self, events: &mut Vec<MeshEvent>) {
        let mut queue = self.0.lock();
        if queue.closed {
            return events.clear();
        }
        queue.bytes += events.iter().map(MeshEvent::bytes).sum::<usize>();
        queue.events.extend(events.drain(..));
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().bytes
    }

    /// Whether the server is so far behind that nothing more is to be delivered for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() > MESH_EVENT_BYTES
    }

    /// Resolves some time after the server has caught up.
    pub(super) async fn emptied(&self) {
        self.0.emptied.notified().await;
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_one();
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self, queue: &mut Queue, bytes: usize) {
        let before = queue.bytes;
        queue.bytes = before.saturating_sub(bytes);
        if before > MESH_EVENT_BYTES / 2 && queue.bytes <= MESH_EVENT_BYTES / 2 {
            self.emptied.notify_one();
        }
    }
}

/// What a permit of the queue stands for, bytes.
const UNIT: usize = 256;
/// What an event takes besides its contents, bytes.
const EVENT_BYTES: usize = 64;
/// Questions that may wait.
const ASKS: usize = 16;
