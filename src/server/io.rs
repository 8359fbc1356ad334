//! What happens to the core, and what it wants done.

use super::forwarding::{NoLeg, RelayLimits, Stay};
use crate::crypto::identity::PublicKey;
use crate::mesh::NodeInfo;
use crate::mesh::run::MeshEvent;
use crate::store::{Act, LogPage, Write};
use crate::wire::admin::{Answer, Ask};
use crate::wire::frame::{Code, ToServer};
use crate::wire::id::RoomId;
use crate::wire::leg::{LegId, LegKey};
use crate::wire::name::{FullName, Name};
use crate::wire::relay::Head;
use crate::wire::text::Untrusted;
use crate::wire::token::Token;
use crate::wire::vouch::{NodeId, ServerCert, ServerTrust};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Names one connection; the driver never uses a number twice.
pub type SessionId = u64;
/// A door key on its way to the hash. Wiped on drop, never printed.
#[derive(Clone)]
pub struct Door(Zeroizing<[u8; 32]>);

impl Door {
    /// Takes the bytes that a client sent.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// What is hashed.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door(..)")
    }
}

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's name, the part after the `@`.
    pub name: Name,
    /// UDP port on this host that answers STUN Binding requests, 0 for none.
    pub stun_port: u16,
    /// How long rows are kept.
    pub log_age: Duration,
    /// Bytes of messages that each room's log keeps.
    pub log_bytes: u64,
    /// A room that nobody has been in for so long goes away.
    pub room_ttl: Duration,
    /// How long a client may be away before its leaf is removed; [`crate::limits::LOST_GRACE`] but for tests.
    pub lost_grace: Duration,
    /// Which other servers' name certificates are believed. The server itself is, always.
    pub trust: ServerTrust,
    /// What a mesh authority says of this server; goes with the names that it gives.
    pub vouch: Option<ServerCert>,
    /// A valid PHC hash of bytes that nobody knows, for doors of rooms that do not exist.
    pub decoy_phc: String,
}

/// How long things are kept: what of a [`Config`] may change while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// See [`Config::log_age`].
    pub log_age: Duration,
    /// See [`Config::log_bytes`].
    pub log_bytes: u64,
    /// See [`Config::room_ttl`].
    pub room_ttl: Duration,
}

/// What happened, one at a time.
#[derive(Debug)]
pub enum Input {
    /// A TLS handshake with a client certificate is over, and our Hello is on its way.
    Connected {
        /// The new connection.
        session: SessionId,
        /// The certificate's key.
        key: PublicKey,
        /// Whence; made up, one for each network, where it is not connected to us.
        addr: SocketAddr,
        /// The server of the mesh that it is connected to, if not ours.
        via: Option<Name>,
    },
    /// A frame of a client.
    Frame(SessionId, ToServer),
    /// A connection is gone.
    Disconnected(SessionId),
    /// To [`Output::CheckDoor`].
    DoorChecked {
        /// Its ticket.
        ticket: u64,
        /// Whether the door key fits the hash.
        ok: bool,
    },
    /// To [`Output::HashDoor`].
    DoorHashed {
        /// Its ticket.
        ticket: u64,
        /// The PHC hash, `None` if it could not be made.
        phc: Option<String>,
    },
    /// To [`Output::ReadLog`].
    LogPage {
        /// Its ticket.
        ticket: u64,
        /// What the store has.
        page: LogPage,
    },
    /// The time of [`super::Core::next_timeout`] has come.
    Timeout,
    /// The mesh says something; only for a server in one.
    Mesh(MeshEvent),
    /// To [`Output::SendFrom`]: too much waits for the client.
    TooSlow {
        /// Its number there.
        client: u64,
    },
    /// Another server of the mesh is there, and has heard nothing of ours yet.
    ServerUp(Box<NodeInfo>),
    /// Another server says which bans it knows: a [`crate::wire::ban::Summary`], encoded.
    BansKnown {
        /// Which.
        from: NodeId,
        /// Its name.
        server: Name,
        /// What it said.
        body: Arc<[u8]>,
    },
    /// Another server says bans: a [`crate::wire::ban::Page`], encoded.
    Bans {
        /// Which.
        from: NodeId,
        /// Its name.
        server: Name,
        /// What it said.
        body: Arc<[u8]>,
    },
    /// The server stops: everybody is told.
    Drain,
    /// How much the disk takes still has changed.
    Disk(Space),
    /// Things are kept for other times from now on.
    Retain(Retention),
    /// So much of files is passed on; it is only told to operators here.
    Relays(RelayLimits),
    /// Who runs the server asks, at its admin socket.
    Asked {
        /// Goes back with the answer.
        ticket: u64,
        /// What.
        ask: Box<Ask>,
    },
    /// To [`Output::Operate`].
    Operated {
        /// Its ticket.
        ticket: u64,
        /// What came of it.
        answer: Box<Answer>,
    },
    /// To [`Output::Draw`].
    Drawn {
        /// Its ticket.
        ticket: u64,
        /// Fresh from the system's randomness; `None` if it gave none.
        token: Option<Token>,
    },
    /// To [`Output::RegisterLeg`].
    LegMade {
        /// Its session.
        session: SessionId,
        /// Its request.
        request: u64,
        /// The leg and its key, or why there is none.
        made: Result<(LegId, LegKey), NoLeg>,
    },
    /// To [`Output::ReadActs`].
    Acts {
        /// Its ticket.
        ticket: u64,
        /// The newest first.
        acts: Vec<(u64, Act)>,
    },
}

/// How much the disk takes still. What is written beyond that would end the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Space {
    /// All is well.
    #[default]
    Plenty,
    /// Less than [`crate::limits::DISK_RESERVE`]: people's messages, rooms and new names are refused, moderators can still act.
    Little,
    /// Less than [`crate::limits::DISK_LAST`]: nothing is written that can be left out.
    None,
}

/// What the core cannot do itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Tell of the mesh.
    Mesh,
    /// Look whether all is well.
    Health,
    /// What was counted.
    Stats,
    /// Read certificate and configuration again.
    Reload,
    /// Copy the database into this file.
    Backup(String),
    /// End.
    Stop,
}

/// What the core wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Make durable, in one transaction, before anything that follows. If that fails, the process must stop.
    Store(Vec<Write>),
    /// Send an encoded [`crate::wire::frame::ToClient`]; one allocation is shared by all its receivers.
    Send {
        /// To whom.
        session: SessionId,
        /// The frame, without the length prefix.
        frame: Arc<[u8]>,
    },
    /// Send what another server of the mesh says to a client. If much waits for it already, do not, but say so with
    /// [`Input::TooSlow`]: another server must not be able to break a client's link to this one.
    SendFrom {
        /// To whom.
        session: SessionId,
        /// Its number there.
        client: u64,
        /// The frame, without the length prefix.
        frame: Arc<[u8]>,
    },
    /// Send to other servers of the mesh, in this order for each: a head for each, and one body.
    Mesh {
        /// To which, and what for each alone.
        targets: Vec<(NodeId, Vec<u8>)>,
        /// For all.
        body: Arc<[u8]>,
    },
    /// Say something of the server's own to one other server of the mesh, or to all that are there.
    Gossip {
        /// To which, if not to all.
        to: Option<NodeId>,
        /// What it is.
        head: Head,
        /// What goes with it.
        body: Arc<[u8]>,
    },
    /// A login was accepted: frames of up to [`crate::limits::FRAME_MAX`] may come from now on.
    Admitted {
        /// Whose.
        session: SessionId,
    },
    /// Send what waits, then close. The core has forgotten this session.
    Close {
        /// Whose.
        session: SessionId,
    },
    /// A client that is logged in has a frame for another server of the mesh.
    Relay {
        /// Whose.
        session: SessionId,
        /// Its key, proved by TLS.
        key: PublicKey,
        /// Whence it is connected.
        addr: SocketAddr,
        /// For which server.
        server: Name,
        /// An encoded [`ToServer`].
        frame: Arc<[u8]>,
    },
    /// Check a door key against a hash; at most [`crate::limits::HASHES_RUNNING`] of these and of [`Output::HashDoor`] are asked for
    /// at once.
    CheckDoor {
        /// Goes back with the answer.
        ticket: u64,
        /// Argon2id, PHC format.
        phc: Arc<str>,
        /// The door key.
        door: Door,
    },
    /// Hash a door key with a fresh salt.
    HashDoor {
        /// Goes back with the answer.
        ticket: u64,
        /// The door key.
        door: Door,
    },
    /// Read a part of a log with [`crate::store::ServerStore::page`].
    ReadLog {
        /// Goes back with the answer.
        ticket: u64,
        /// Which room.
        room: RoomId,
        /// The rows after this number.
        after: u64,
    },
    /// Read acts with [`crate::store::ServerStore::acts`].
    ReadActs {
        /// Goes back with the answer.
        ticket: u64,
        /// Those before this number.
        before: u64,
        /// At most so many.
        limit: u32,
    },
    /// Draw random bytes for an invitation.
    Draw {
        /// Goes back with the answer.
        ticket: u64,
    },
    /// Make a leg with [`super::forwarding::Forwarding::register`], under a random number and key.
    RegisterLeg {
        /// Goes back with the answer.
        session: SessionId,
        /// Goes back with the answer.
        request: u64,
        /// Who is charged.
        user: PublicKey,
        /// This side's token and the other's.
        tokens: ([u8; 32], [u8; 32]),
    },
    /// What becomes of somebody's legs, with [`super::forwarding::Forwarding::stay`].
    Legs {
        /// Whose.
        user: PublicKey,
        /// What.
        stay: Stay,
    },
    /// A client's way through the mesh has begun or ended; for what does not pass through the core.
    Way(Way),
    /// From now on posts are taken at a so-manieth of the normal pace.
    Pace {
        /// 1 is normal.
        slower: u32,
    },
    /// An answer to [`Input::Asked`]; what it says is durable.
    Answer {
        /// Its ticket.
        ticket: u64,
        /// What came of it.
        answer: Box<Answer>,
    },
    /// Do what the core cannot.
    Operate {
        /// Goes back with the answer.
        ticket: u64,
        /// What.
        task: Task,
    },
    /// A line for the operator's log.
    Log(LogEvent),
}

/// The way of a client's relayed datagrams between its access server and another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A client of another server has a session here.
    In {
        /// Its server.
        node: NodeId,
        /// Its number there.
        client: u64,
        /// Its session here.
        session: SessionId,
        /// Its key; it has signed that it comes through that server.
        key: PublicKey,
    },
    /// It has none any more.
    NotIn {
        /// Its server.
        node: NodeId,
        /// Its number there.
        client: u64,
    },
    /// A client of ours has a session at another server.
    Out {
        /// Its session here.
        session: SessionId,
        /// The other server's name.
        server: Name,
        /// The other server.
        node: NodeId,
        /// The client's number between the two.
        client: u64,
    },
    /// It has none any more.
    NotOut {
        /// The client's number between the two.
        client: u64,
    },
}

/// What the operator may know: who and where, never what is said, no passwords, no file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// Somebody is in.
    LoggedIn {
        /// Who.
        name: FullName,
        /// Whence.
        addr: SocketAddr,
        /// Through which server of the mesh.
        via: Option<Name>,
    },
    /// Somebody was not let in.
    LoginRefused {
        /// Whence.
        addr: SocketAddr,
        /// Why.
        code: Code,
    },
    /// Somebody is gone.
    LoggedOut {
        /// Who.
        name: FullName,
        /// One word.
        reason: &'static str,
    },
    /// A wrong room or password, by an address.
    DoorRefused {
        /// Whence.
        addr: SocketAddr,
    },
    /// A room was made.
    RoomCreated {
        /// Its label.
        label: Name,
        /// Whether a password is asked for.
        private: bool,
    },
    /// An unused room went away.
    RoomExpired {
        /// Its label.
        label: Name,
    },
    /// Text that a user wrote to the operator.
    Operator {
        /// Who.
        from: FullName,
        /// What.
        text: Untrusted,
    },
    /// Somebody who may has done something; what stands in the audit log too.
    Acted {
        /// A name, or `owner` for the admin socket.
        who: String,
        /// What, in a word.
        act: &'static str,
        /// To whom or what.
        whom: Option<String>,
        /// `done`, or the word of the failure.
        outcome: String,
    },
    /// Bans came from another server.
    BansTaken {
        /// From which; they may be a third one's.
        from: Name,
        /// How many were news.
        taken: usize,
        /// Sessions that they ended.
        ended: usize,
    },
    /// Bans from another server were not taken.
    BansRefused {
        /// From which.
        from: Name,
        /// Why not.
        why: String,
    },
    /// The server's own fault.
    Fault {
        /// What went wrong.
        what: String,
    },
}

impl fmt::Display for LogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedIn { name, via: Some(via), .. } => write!(f, "{name} logged in through {via}"),
            Self::LoggedIn { name, addr, via: None } => write!(f, "{name} logged in from {addr}"),
            Self::LoginRefused { addr, code } => write!(f, "login from {addr} refused: {}", code.as_str()),
            Self::LoggedOut { name, reason } => write!(f, "{name} is gone: {reason}"),
            Self::DoorRefused { addr } => write!(f, "wrong room or password from {addr}"),
            Self::RoomCreated { label, private: true } => write!(f, "private room {label} created"),
            Self::RoomCreated { label, private: false } => write!(f, "public room {label} created"),
            Self::RoomExpired { label } => write!(f, "room {label} was unused and is gone"),
            Self::Operator { from, text } => write!(f, "{from} to the operator: {text}"),
            Self::Acted { who, act, whom, outcome } => {
                write!(f, "{} {act}", Untrusted::new(who))?;
                whom.iter().try_for_each(|whom| write!(f, " {}", Untrusted::new(whom)))?;
                write!(f, ": {outcome}")
            }
            Self::BansTaken { from, taken, ended } => {
                write!(f, "{taken} bans taken from {from}; {ended} sessions ended")
            }
            Self::BansRefused { from, why } => write!(f, "bans from {from} refused: {}", Untrusted::new(why)),
            Self::Fault { what } => write!(f, "internal fault: {}", Untrusted::new(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::text::harmless;

    #[test]
    fn no_log_line_carries_what_steers_a_terminal() {
        let naughty = "a\x1b]0;x\x07\u{9b}2J\u{202e}\r\nlogged in\u{200b}\u{2028}";
        assert!(Name::parse(naughty).is_err(), "a name cannot hold it");
        let name = |text| Name::parse(text).unwrap();
        let from = FullName::new(name("bob"), name("s1"));
        let events =
            [LogEvent::Operator { from, text: Untrusted::new(naughty) }, LogEvent::Fault { what: naughty.to_owned() }];
        for event in events {
            let line = event.to_string();
            assert!(line.chars().all(harmless), "{line:?}");
        }
    }
}
