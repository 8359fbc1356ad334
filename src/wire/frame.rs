//! Frames of the server link: what a client and a server say to each other over TLS.
//!
//! The server speaks first ([`Hello`]); a client answers with [`ToServer::Login`] once it has checked that. After login a
//! request carries an id and gets one [`ToClient::Reply`] with it; pushes carry none. Replies and pushes come in the order in which
//! the server sequenced what they report, so a [`Reply::Sequenced`] stands at its place among the pushed rows.

use super::id::{InstanceId, RoomId};
use super::leg::{LinkData, RelayTicket, RelayTokens};
use super::log::Row;
use super::name::{FullName, Name};
pub use super::refusal::{Away, Code, Refusal};
use super::{DecodeError, decode, encode};
use minicbor::bytes::{ByteArray, ByteVec};

/// The version of the whole protocol; a server refuses a login of another one.
pub const VERSION: u32 = 1;
/// The label of the TLS exporter (RFC 8446 §7.5) over which a server proves its identity; 32 bytes, empty context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-secchat-server-auth";

/// First frame of all: the server's identity, proved over this very TLS session.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Hello {
    /// [`VERSION`] of the server.
    #[n(0)]
    pub version: u32,
    /// The server's name.
    #[n(1)]
    pub server: Name,
    /// The server's Ed25519 identity key.
    #[n(2)]
    pub key: ByteArray<32>,
    /// `ServerAuth` signature over the exporter value and the name.
    #[n(3)]
    pub signature: ByteArray<64>,
}

/// What a member publishes with a new epoch, so that others can join it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Published {
    /// The epoch that it describes.
    #[n(0)]
    pub epoch: u64,
    /// MLS GroupInfo without the ratchet tree, TLS-encoded.
    #[n(1)]
    pub group_info: ByteVec,
    /// The ratchet tree, TLS-encoded; empty where the server has it from its public group already (all commits).
    #[n(2)]
    pub tree: ByteVec,
    /// Private rooms: `GroupInfo` signature by the join key over room id, policy version and SHA-256 of `group_info`.
    #[n(3)]
    pub vouch: Option<ByteArray<64>>,
}

/// Client to server.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum ToServer {
    /// First frame of a client.
    #[n(0)]
    Login(#[n(0)] Login),
    /// Anything after login.
    #[n(1)]
    Request {
        /// Chosen by the client, unique on this link.
        #[n(0)]
        id: u64,
        /// What is asked.
        #[n(1)]
        body: Request,
    },
    /// A clean end of the link.
    #[n(2)]
    Goodbye,
    /// The answer to [`Push::KeepAlive`].
    #[n(3)]
    Alive,
    /// A frame for another server of the mesh. The first one for a server is a login there, with [`Login::cert`] and
    /// [`Login::pass`]; its answers come as [`ToClient::From`] until one of [`ToClient::Away`], which ends that session.
    #[n(4)]
    At {
        /// Which server.
        #[n(0)]
        server: Name,
        /// An encoded [`ToServer`], itself not an `At`.
        #[n(1)]
        frame: ByteVec,
    },
    /// Datagrams of a leg of ours whose UDP does not get through; what finds no room is dropped. Not for other servers.
    #[n(5)]
    RelayData(#[n(0)] LinkData),
}

/// Who logs in; the key is the TLS client certificate's.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Login {
    /// [`VERSION`] of the client.
    #[n(0)]
    pub version: u32,
    /// The wished name, as typed; the server normalises it.
    #[n(1)]
    pub name: String,
    /// Random for each process: a new one means that the earlier MLS state of this key is gone.
    #[n(2)]
    pub instance: InstanceId,
    /// An encoded [`super::cert::NameCert`] of this key: the name that it has already, at this server or another one of its mesh.
    #[n(3)]
    pub cert: Option<ByteVec>,
    /// An encoded [`super::vouch::Pass`] for the server that the client is connected to; a login through it needs one.
    #[n(4)]
    pub pass: Option<ByteVec>,
    /// A token for a new name, where the server wants one.
    #[n(5)]
    pub token: Option<ByteArray<16>>,
}

/// A request after login.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Request {
    /// Is anybody there. [`Reply::Done`].
    #[n(0)]
    Ping,
    /// Replaces the stock of key packages. [`Reply::Done`].
    #[n(1)]
    PublishKeyPackages {
        /// Single-use MLS KeyPackages, at most [`crate::limits::KEY_PACKAGES`].
        #[n(0)]
        single: Vec<ByteVec>,
        /// Handed out when the stock is empty.
        #[n(1)]
        last_resort: ByteVec,
    },
    /// Takes one key package of somebody who is here. [`Reply::KeyPackage`] or [`Code::NotHere`].
    #[n(2)]
    TakeKeyPackage {
        /// Whose.
        #[n(0)]
        peer: FullName,
    },
    /// Makes a room with epoch 0 as published. [`Reply::Sequenced`] with 0, and the asker is subscribed.
    #[n(3)]
    CreateRoom {
        /// Random, and the MLS group id.
        #[n(0)]
        room: RoomId,
        /// Private rooms: the door key.
        #[n(1)]
        door: Option<ByteArray<32>>,
        /// With the tree.
        #[n(2)]
        published: Published,
    },
    /// Makes a direct conversation and hands its Welcome to the peer. [`Reply::Sequenced`] with 0, both are subscribed.
    #[n(4)]
    CreateDirect {
        /// Random, and the MLS group id.
        #[n(0)]
        room: RoomId,
        /// The other one.
        #[n(1)]
        peer: FullName,
        /// MLS Welcome.
        #[n(2)]
        welcome: ByteVec,
        /// With the tree.
        #[n(3)]
        published: Published,
    },
    /// The id of a room by its label. [`Reply::Resolved`], for a label that does not exist too.
    #[n(5)]
    Resolve {
        /// As typed.
        #[n(0)]
        label: String,
    },
    /// Asks for the room's join lease. [`Reply::Entered`] when it is the asker's turn, or [`Code::WrongRoomOrPassword`].
    #[n(6)]
    Enter {
        /// Which.
        #[n(0)]
        room: RoomId,
        /// Private rooms: the door key.
        #[n(1)]
        door: Option<ByteArray<32>>,
    },
    /// A commit with what it publishes. [`Reply::Sequenced`], or [`Code::Stale`] when another one won the epoch.
    /// A joiner is subscribed by it.
    #[n(7)]
    Commit {
        /// Which.
        #[n(0)]
        room: RoomId,
        /// The lease, for a join.
        #[n(1)]
        lease: Option<u64>,
        /// MLS PublicMessage.
        #[n(2)]
        message: ByteVec,
        /// The new epoch, without the tree.
        #[n(3)]
        published: Published,
        /// With a rotation of the join key: the new door key.
        #[n(4)]
        door: Option<ByteArray<32>>,
    },
    /// A SelfRemove proposal; the asker is unsubscribed. [`Reply::Sequenced`].
    #[n(8)]
    Leave {
        /// Which.
        #[n(0)]
        room: RoomId,
        /// MLS PublicMessage.
        #[n(1)]
        message: ByteVec,
    },
    /// An application message. [`Reply::Sequenced`] once the log has it durably, or [`Code::Stale`].
    #[n(9)]
    Post {
        /// Which.
        #[n(0)]
        room: RoomId,
        /// MLS PrivateMessage of the current epoch. Identical bytes are logged once.
        #[n(1)]
        message: ByteVec,
    },
    /// Catching up: rows after a number. [`Reply::Log`], [`Code::Gap`] or [`Code::NotMember`]. The page that reaches the end subscribes.
    #[n(10)]
    Log {
        /// Which.
        #[n(0)]
        room: RoomId,
        /// The last number that the asker has.
        #[n(1)]
        after: u64,
    },
    /// The asker has no MLS state for this direct conversation; it is dropped. [`Reply::Done`].
    #[n(11)]
    NoState {
        /// Which.
        #[n(0)]
        room: RoomId,
    },
    /// Public rooms. [`Reply::Rooms`].
    #[n(12)]
    Rooms,
    /// Text for the operator. [`Reply::Done`].
    #[n(13)]
    Operator {
        /// At most [`crate::limits::TEXT_MAX`] bytes.
        #[n(0)]
        text: String,
    },
    /// A fresh name certificate. [`Reply::Name`].
    #[n(14)]
    RenewName,
    /// Of an operator or a moderator. [`Reply::Admin`], whatever came of it.
    #[n(15)]
    Admin {
        /// An [`super::admin::Ask`] as JSON, at most [`crate::limits::ADMIN_ASK_MAX`] bytes.
        #[n(0)]
        ask: String,
    },
    /// A leg for a file's datagrams, where its two sides do not reach each other: whoever registers the two tokens the other way
    /// around gets the other one. [`Reply::RelayTicket`].
    #[n(16)]
    RelayRegister(#[n(0)] RelayTokens),
}

/// Server to client.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum ToClient {
    /// First frame of all.
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// The login was accepted.
    #[n(1)]
    Welcome(#[n(0)] Welcome),
    /// The login was refused; the link ends.
    #[n(2)]
    Refused(#[n(0)] Refusal),
    /// To a request.
    #[n(3)]
    Reply {
        /// The request's.
        #[n(0)]
        id: u64,
        /// What came of it.
        #[n(1)]
        body: Reply,
    },
    /// Unasked.
    #[n(4)]
    Push(#[n(0)] Push),
    /// What another server of the mesh says to us, after [`ToServer::At`].
    #[n(5)]
    From {
        /// Which server.
        #[n(0)]
        server: Name,
        /// An encoded [`ToClient`], itself none of these two.
        #[n(1)]
        frame: ByteVec,
    },
    /// Our session at another server of the mesh is over, or could not begin. It may be tried again when the server is listed.
    #[n(6)]
    Away {
        /// Which server.
        #[n(0)]
        server: Name,
        /// Why.
        #[n(1)]
        why: Away,
    },
}

/// An accepted login.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Welcome {
    /// [`super::cert::NameCert`], encoded.
    #[n(0)]
    pub cert: ByteVec,
    /// The address from which the server sees the client, `IP:PORT`.
    #[n(1)]
    pub seen_as: String,
    /// UDP port on the server's host that answers STUN Binding requests, 0 for none.
    #[n(2)]
    pub stun_port: u16,
    /// The server's wall clock, Unix milliseconds.
    #[n(3)]
    pub now_ms: u64,
    /// The mesh that the server is in.
    #[n(4)]
    pub mesh: Option<MeshWord>,
}

/// Whom a server in a mesh believes on other servers.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct MeshWord {
    /// The keys of its authorities.
    #[n(0)]
    pub authorities: Vec<ByteArray<32>>,
    /// Its own [`super::vouch::ServerCert`], encoded, if an authority signed one.
    #[n(1)]
    pub vouch: Option<ByteVec>,
}

/// Another server of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct ServerInfo {
    /// Its name.
    #[n(0)]
    pub name: Name,
    /// Its identity key.
    #[n(1)]
    pub key: ByteArray<32>,
    /// A [`super::vouch::ServerCert`], encoded: of an authority, or of the server that sends the list, which then has it listed.
    #[n(2)]
    pub vouch: ByteVec,
    /// Where clients reach it, `HOST:PORT`, best first.
    #[n(3)]
    pub endpoints: Vec<String>,
    /// Links between it and the server that sends the list.
    #[n(4)]
    pub hops: u8,
    /// Along them, microseconds.
    #[n(5)]
    pub round_trip_us: u32,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Reply {
    /// Nothing more to say.
    #[n(0)]
    Done,
    /// It did not happen.
    #[n(1)]
    Refused(#[n(0)] Refusal),
    /// The log has it durably under this number.
    #[n(2)]
    Sequenced {
        /// Its number.
        #[n(0)]
        seq: u64,
        /// The server's clock, Unix milliseconds.
        #[n(1)]
        time_ms: u64,
    },
    /// To [`Request::TakeKeyPackage`].
    #[n(3)]
    KeyPackage(#[n(0)] ByteVec),
    /// To [`Request::Resolve`].
    #[n(4)]
    Resolved {
        /// Real, or made up (stable) for a label that does not exist.
        #[n(0)]
        room: RoomId,
        /// Whether a door key is asked for; true for made-up ids.
        #[n(1)]
        private: bool,
    },
    /// To [`Request::Enter`]: the lease and the state to join.
    #[n(5)]
    Entered {
        /// To be named in the commit, within [`crate::limits::JOIN_LEASE`].
        #[n(0)]
        lease: u64,
        /// With the tree.
        #[n(1)]
        published: Published,
        /// Number of the last row before the join.
        #[n(2)]
        seq: u64,
        /// The log's chain at that row; the first message of any member shows whether it was true.
        #[n(3)]
        chain: ByteArray<32>,
        /// Proposals that stand in this epoch, as they were sent: a joiner takes the SelfRemoves into its commit.
        #[n(4)]
        proposals: Vec<ByteVec>,
    },
    /// To [`Request::Log`].
    #[n(6)]
    Log {
        /// In order, without holes.
        #[n(0)]
        rows: Vec<Row>,
        /// Whether these reach the end, so that pushes follow.
        #[n(1)]
        live: bool,
    },
    /// To [`Request::Rooms`].
    #[n(7)]
    Rooms(#[n(0)] Vec<RoomInfo>),
    /// To [`Request::RenewName`]: [`super::cert::NameCert`], encoded.
    #[n(8)]
    Name(#[n(0)] ByteVec),
    /// To [`Request::Admin`]: a [`super::admin::Answer`] as JSON.
    #[n(9)]
    Admin(#[n(0)] String),
    /// To [`Request::RelayRegister`].
    #[n(10)]
    RelayTicket(#[n(0)] RelayTicket),
}

/// A public room in a list.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct RoomInfo {
    /// `LABEL@SERVER`.
    #[n(0)]
    pub room: FullName,
    /// Its id.
    #[n(1)]
    pub id: RoomId,
    /// Members now.
    #[n(2)]
    pub members: u32,
}

/// What a server says unasked.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Push {
    /// A new row of a room's log. The sender of a row gets [`Reply::Sequenced`] in its stead.
    #[n(0)]
    Row {
        /// Which room.
        #[n(0)]
        room: RoomId,
        /// The row.
        #[n(1)]
        row: Row,
    },
    /// A direct conversation that somebody made with us; we are subscribed from row 0.
    #[n(1)]
    Direct {
        /// Its id.
        #[n(0)]
        room: RoomId,
        /// MLS Welcome.
        #[n(1)]
        welcome: ByteVec,
        /// The ratchet tree.
        #[n(2)]
        tree: ByteVec,
    },
    /// A direct conversation is gone: the other side lost its state.
    #[n(2)]
    DirectClosed {
        /// Its id.
        #[n(0)]
        room: RoomId,
    },
    /// Proposals stand and the receiver is named to commit them, within [`crate::limits::COMMITTER_DEADLINE`].
    #[n(3)]
    CommitNow {
        /// Which room.
        #[n(0)]
        room: RoomId,
        /// In this epoch.
        #[n(1)]
        epoch: u64,
    },
    /// A notice from the operator.
    #[n(4)]
    Notice {
        /// As typed.
        #[n(0)]
        text: String,
    },
    /// The link ends, and why: `draining`, `replaced`, `idle`, `flooding`, `kicked`, `banned`.
    #[n(5)]
    Bye {
        /// One word.
        #[n(0)]
        reason: String,
        /// For people: what a moderator gave as the cause.
        #[n(1)]
        detail: Option<String>,
    },
    /// The stock of single-use key packages is running out; a new one is wished.
    #[n(6)]
    KeyPackagesLow,
    /// To be answered with [`ToServer::Alive`].
    #[n(7)]
    KeepAlive,
    /// The other servers of the mesh, all of them; sent after a login and whenever one comes, goes or moves.
    #[n(8)]
    Servers(#[n(0)] Vec<ServerInfo>),
    /// What this server does not want shared: a [`super::sharing`] document, encoded; after a login and whenever it changes.
    #[n(9)]
    Sharing(#[n(0)] ByteVec),
    /// An operator asks the owner of a room for what only the owner can do.
    #[n(10)]
    Wish {
        /// Which room.
        #[n(0)]
        room: RoomId,
        /// What.
        #[n(1)]
        wish: super::admin::Wish,
    },
    /// A room is gone, by a moderator's act.
    #[n(11)]
    RoomClosed {
        /// Which room.
        #[n(0)]
        room: RoomId,
        /// For people.
        #[n(1)]
        reason: Option<String>,
    },
    /// The answer to [`ToServer::RelayData`]: datagrams of the other leg.
    #[n(12)]
    RelayData(#[n(0)] LinkData),
}

impl ToServer {
    /// Whether an encoded frame is a login, as far as its first bytes tell.
    pub fn is_login(bytes: &[u8]) -> bool {
        let mut decoder = minicbor::Decoder::new(bytes);
        decoder.array().is_ok() && decoder.u32().is_ok_and(|variant| variant == 0)
    }

    /// The frame's bytes, without the length prefix.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a frame of at most `max` bytes.
    pub fn from_bytes(bytes: &[u8], max: usize) -> Result<Self, DecodeError> {
        decode(bytes, max)
    }
}

impl ToClient {
    /// The frame's bytes, without the length prefix.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a frame of at most `max` bytes.
    pub fn from_bytes(bytes: &[u8], max: usize) -> Result<Self, DecodeError> {
        decode(bytes, max)
    }
}

#[cfg(test)]
mod tests;
