//! What one server tells the others: who is there, which way leads where, and messages that arrive once and in order.

mod bytes;
mod delivery;
mod event;
mod incoming;
pub mod link;
mod node;
mod outgoing;
pub mod packet;
pub mod record;
mod routes;
pub mod run;
mod topology;

use std::time::Duration;

pub use event::{
    Class, DownReason, LinkId, MeshCounts, MeshLog, NodeConfig, NodeInfo, Output, PeerProof, Refused, Violation,
};
pub use node::Node;

pub use crate::wire::vouch::NodeId;

/// Nodes in one mesh.
pub const NODES_MAX: usize = 256;
/// Links of one node.
pub const NEIGHBOURS_MAX: usize = 32;
/// Addresses for clients that one node tells.
pub const ENDPOINTS_MAX: usize = 4;
/// Links on the longest path.
pub const HOPS_MAX: u8 = 16;
/// Streams with a node are void when no path has led there for this long.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(10);
