//! What a node is given and what it tells: settings, neighbours, other nodes, outputs, and why something was refused.

use std::sync::Arc;
use std::time::Duration;

use crate::crypto::identity::{Identity, PublicKey};
use crate::wire::name::Name;
use crate::wire::vouch::{Doubt, NodeId, ServerCert, ServerTrust};

/// A link to a neighbour, numbered by whoever drives the node; a number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a node is and trusts.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The server's identity: its public half is the node's id.
    pub identity: Identity,
    /// The server's name.
    pub name: Name,
    /// What the mesh authority says about the two, if one does.
    pub vouch: Option<ServerCert>,
    /// Which other servers are believed.
    pub trust: ServerTrust,
    /// Where clients find this server, `host:port`; at most [`ENDPOINTS_MAX`](super::ENDPOINTS_MAX).
    pub endpoints: Vec<String>,
    /// This process: milliseconds of the Unix clock at its start times 65,536, plus something random below that. A node
    /// that hears of a former process with a greater one takes a greater one still.
    pub instance: u64,
    /// Bytes that may wait or be under way for one destination; more void the streams with it.
    pub queue_bytes: usize,
}

/// What the handshake of a link proved of its other end, and what its hello said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerProof {
    /// Proved by TLS.
    pub key: PublicKey,
    /// Said by the hello, held by `vouch` or the list of fingerprints.
    pub name: Name,
    /// Shown by the hello.
    pub vouch: Option<ServerCert>,
    /// Said by the hello.
    pub instance: u64,
    /// Said by the hello: it knows parcels; one that does not would end the link over them.
    pub parcels: bool,
}

/// Another server of the mesh, as known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// SHA-256 of its key.
    pub id: NodeId,
    /// Its identity key.
    pub key: PublicKey,
    /// Its name: no other node of the mesh has it.
    pub name: Name,
    /// Who vouches for the two.
    pub vouch: Option<ServerCert>,
    /// Where clients find it.
    pub endpoints: Vec<String>,
    /// Its process.
    pub instance: u64,
    /// Whether a path leads there now. Without one what is sent waits, until it is [`Output::Down`].
    pub reachable: bool,
    /// Links on the path; of the last path if there is none now.
    pub hops: u8,
    /// The sum of the links' round trips.
    pub round_trip: Duration,
    /// Bytes that wait or are under way for it.
    pub queued: usize,
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this frame on the link. Frames of one class keep their order.
    Transmit {
        /// Which.
        link: LinkId,
        /// Whole, without a length before it; at most [`FRAME_MAX`](super::packet::FRAME_MAX) bytes.
        frame: Arc<[u8]>,
        /// Control goes before bulk, and bulk before parcels; bulk may be dropped, ends repeat it.
        class: Class,
    },
    /// Another node sent this to us: once, in the order of its sending.
    Delivered {
        /// Who.
        from: NodeId,
        /// What it sent to us only.
        head: Vec<u8>,
        /// What it sent to all targets of the message.
        body: Arc<[u8]>,
    },
    /// Another node sent this to us by [`Node::send_parcel`](super::Node::send_parcel): at most once, in any order.
    Parcel {
        /// Who.
        from: NodeId,
        /// What.
        body: Arc<[u8]>,
    },
    /// Something can be sent to this node from now on.
    Up(NodeInfo),
    /// Its endpoints, hops, or whether a path leads there have changed.
    Changed(NodeInfo),
    /// All that was sent and not delivered is void, in both directions; an [`Output::Up`] begins anew.
    Down(NodeId, DownReason),
    /// Close the link.
    CutLink {
        /// Which. It is down for the node already.
        link: LinkId,
        /// What for.
        why: Refused,
    },
    /// For the log.
    Log(MeshLog),
    /// A newer process of this very server is in the mesh. All other nodes are [`Output::Down`] and stay so: the driver
    /// ends its links and this node.
    Ousted,
}

/// Which frames go first on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Records and acknowledgements; few and small. A link on which they pile up must be cut.
    Control,
    /// Messages. Dropped when the link's queue is full.
    Bulk,
    /// What may be lost. Dropped when little of it waits already.
    Parcel,
}

/// Why the streams with a node are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No path led there for [`UNREACHABLE_AFTER`](super::UNREACHABLE_AFTER).
    #[error("no path leads there")]
    Unreachable,
    /// It is another process now.
    #[error("it was restarted")]
    Restarted,
    /// More waited for it than may.
    #[error("too much waited for it")]
    Overflow,
    /// The other end has voided them.
    #[error("the other end began anew")]
    Reset,
    /// It has to leave: an older node has its name.
    #[error("its name belongs to an older node")]
    NameTaken,
}

/// Why a link is not taken, or given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody whom we trust vouches for it.
    #[error(transparent)]
    Doubt(#[from] Doubt),
    /// Another key has this name in the mesh.
    #[error("the name {name} belongs to {holder} already")]
    NameTaken {
        /// The name.
        name: Name,
        /// Who has it.
        holder: NodeId,
    },
    /// It proves our own key.
    #[error("it is ourselves")]
    Ourselves,
    /// There is a link to the same process already.
    #[error("there is a link to {0} already")]
    Twice(NodeId),
    /// A newer link to the same node has taken its place.
    #[error("{0} has a newer link")]
    Replaced(NodeId),
    /// An older process of a node that has a link already.
    #[error("{0} has been restarted since")]
    Former(NodeId),
    /// A node has at most [`NEIGHBOURS_MAX`](super::NEIGHBOURS_MAX) links.
    #[error("there are too many links already")]
    TooMany,
}

/// A neighbour has sent what no honest one sends: the driver cuts the link and tells the node [`link_down`](super::Node::link_down).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The link is not up.
    #[error("a frame on a link that is not up")]
    NoLink,
    /// Not a frame.
    #[error("a malformed frame")]
    Malformed,
    /// A record whose signature does not hold: honest nodes pass on what they have checked.
    #[error("a record of {0} that it has not signed")]
    Forged(NodeId),
}

/// What an operator may want to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshLog {
    /// A record of a node that nobody vouches for.
    Doubted {
        /// Whose.
        node: NodeId,
        /// Why not.
        why: Doubt,
    },
    /// A record with a number or a time that no clock near ours gives.
    AbsurdRecord {
        /// Whose.
        node: NodeId,
        /// Its number.
        number: u64,
    },
    /// Two keys with one name: the older node keeps it.
    NameTaken {
        /// The name.
        name: Name,
        /// Who keeps it.
        holder: NodeId,
        /// Who is refused.
        refused: NodeId,
    },
    /// An older process with our identity is in the mesh.
    OurselvesElsewhere,
    /// There was a process of this server whose clock was ahead of ours; we go on as its successor.
    ClockSetBack,
    /// A record of an earlier process of this node: two use its identity, or its clock was set back.
    FormerProcess(NodeId),
    /// There are more nodes than a mesh may have; this one is not taken.
    TooManyNodes(NodeId),
    /// Records of this node come faster than any honest node sends them; some are not taken.
    TooManyRecords(NodeId),
    /// Packets that claim to come from this node, which is unknown or ourselves; told at most once a minute.
    ForgedOrigin(NodeId),
    /// Packets that this node has not sent, or not so: somebody on the way makes them up or changes them. Told at most
    /// once a minute.
    ForgedPacket {
        /// Who is said to have sent them.
        origin: NodeId,
        /// The neighbour that they came from; it may only have passed them on.
        through: NodeId,
    },
    /// A record of a node that tells a key with which everybody agrees on the same secret.
    WeakKey(NodeId),
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeshCounts {
    /// Messages given to [`Node::send`](super::Node::send), one for each target.
    pub sent: u64,
    /// Messages delivered here.
    pub delivered: u64,
    /// Messages sent again.
    pub repeated: u64,
    /// Messages that came again and were dropped.
    pub duplicates: u64,
    /// Packets of others passed on.
    pub forwarded: u64,
    /// Packets of others dropped: no path, hop limit, link full.
    pub dropped: u64,
    /// Packets refused: unknown or impossible origin, or of a stream that is void.
    pub refused: u64,
    /// Packets refused because the tag on them is not their origin's.
    pub forged: u64,
    /// Parcels of ours that left.
    pub parcels_sent: u64,
    /// Parcels delivered here.
    pub parcels: u64,
    /// Parcels that came again, or far too late, and were dropped.
    pub parcels_again: u64,
    /// Records taken.
    pub records: u64,
    /// Records refused: forged, doubted, absurd, too many, of a former process, a name that is taken. Old ones are not
    /// counted.
    pub records_refused: u64,
}
