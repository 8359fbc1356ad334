//! Parcels between the server and its mesh. Nobody waits for room: what finds none is lost, as it may be anywhere on its way.

use crate::limits::MESH_PARCELS_WAITING;
use crate::mesh::NodeId;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes that another server sent to ours, or that go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The other server.
    pub peer: NodeId,
    /// What is in it.
    pub body: Arc<[u8]>,
}

/// Where the server hears of parcels.
pub type Parcels = mpsc::Receiver<Parcel>;

/// A queue of at most [`MESH_PARCELS_WAITING`].
pub(super) fn waiting() -> (mpsc::Sender<Parcel>, Parcels) {
    mpsc::channel(MESH_PARCELS_WAITING)
}
