//! What an operator sees of the mesh.

use crate::mesh::{MeshCounts, NodeId, NodeInfo};
use crate::wire::name::Name;
use std::net::SocketAddr;
use std::time::Duration;

/// The mesh as one server knows it.
#[derive(Debug, Clone)]
pub struct MeshReport {
    /// Our own name.
    pub name: Name,
    /// Our own id.
    pub id: NodeId,
    /// The other servers.
    pub nodes: Vec<NodeReport>,
    /// Our own links.
    pub links: Vec<LinkReport>,
    /// All links of the mesh, each once, with its round trip.
    pub edges: Vec<(NodeId, NodeId, Duration)>,
    /// Counted since the start.
    pub counts: MeshCounts,
    /// Connections and links that were refused or cut, by reason.
    pub refusals: Vec<(&'static str, u64)>,
    /// Bytes that wait for the server.
    pub waiting: usize,
}

/// Another server.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// What is known of it.
    pub info: NodeInfo,
    /// The way there, it included; empty if there is none.
    pub path: Vec<NodeId>,
}

/// A link to a neighbour.
#[derive(Debug, Clone)]
pub struct LinkReport {
    /// Whose.
    pub peer: NodeId,
    /// Its name.
    pub name: Name,
    /// Its address.
    pub address: SocketAddr,
    /// Whether we have dialled it.
    pub dialled: bool,
    /// Since when it is up.
    pub up: Duration,
    /// The last ping.
    pub round_trip: Option<Duration>,
    /// Control that waits, bytes.
    pub control_bytes: usize,
    /// Messages that wait, bytes.
    pub bulk_bytes: usize,
    /// Frames for which there was no room.
    pub dropped: u64,
    /// Parcels for which there was none.
    pub parcels_dropped: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes sent, before TLS.
    pub sent_bytes: u64,
    /// Bytes received, after TLS.
    pub received_bytes: u64,
}
