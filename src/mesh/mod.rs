//! What one server tells the others: who is there, which way leads where, and messages that arrive once and in order.
//!
//! ```text
//! node         what a driver holds: links up and down, frames, messages, time; then drained of outputs   <- pure
//!   inward     a data frame from a neighbour: delivered, passed on, dropped
//!   outward    frames put together
//!   parcels    what may be lost
//!   remote     other nodes as they come, stay away, and go
//! topology     records kept, passed on, aged
//!   judge      which records are taken
//!   own        when ours is told again
//! record       a server's signed word on itself and its links
//! routes       the shortest way to each node
//! delivery     the two streams with one other node, and their epochs
//!   outgoing   kept until acknowledged, repeated when lost
//!   incoming   delivered in order and once
//! parcel       bytes that may be lost, behind all else
//! packet       the frames between neighbours; bytes reads and writes them
//! event        what a node is given and what it tells
//! ```
//!
//! A record says which servers its server is linked to; it is signed, its key and name are vouched for, and a link counts
//! when both ends tell it. So a server can lie about itself only. A record also tells a standing X25519 key, and each target
//! of a data frame has a tag by the keys of origin and target: a server on the way can drop, hold back and repeat what passes
//! through it, and neither make it up nor change it. A frame of an unknown server, of ourselves, of another process than its
//! record says, or with another tag is refused before anything in it is believed.
//!
//! A parcel has a tag of that kind and nothing else of it: it is sent once, and dropped where a link's small queue for parcels is full. It is
//! for bulk that has its own way of noticing loss.
//!
//! Whoever passes a frame on keeps nothing of it and drops it when the link is full; the ends repeat it. Nothing waits for
//! room on another link, so no circle of servers can wait for itself.

mod bytes;
mod delivery;
mod event;
mod incoming;
pub mod link;
mod node;
mod outgoing;
pub mod packet;
pub mod parcel;
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
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(2);
