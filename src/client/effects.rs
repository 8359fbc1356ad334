//! What the client core asks of the world, and what the world tells it: the seam between the pure core and its driver.

mod files;

use super::event::Event;
use crate::crypto::identity::PublicKey;
use crate::crypto::room::RoomKeys;
use crate::crypto::rsa_split::{PathPart, PublicPart, SplitKey};
use crate::crypto::secret::Secret;
use crate::wire::admin::{Answer, Ask};
use crate::wire::frame::{ToClient, ToServer, Welcome};
use crate::wire::home::HomeCard;
use crate::wire::id::{RoomId, TransferId};
use crate::wire::invite::Invite;
use crate::wire::name::{FullName, Name};
pub use files::{
    ChannelStart, Congestion, FilesCommand, FilesEvent, LegHost, LostReason, OfferReady, OfferRefusal, Offered, Reach,
    ShareCommand, Skipped, UploadReady, Wanted,
};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// What happened, one at a time.
#[derive(Debug)]
pub enum Input {
    /// A link stands: TLS, the server's identity checked, the login accepted.
    LinkUp(Box<LinkInfo>),
    /// The link broke or could not be made; the driver tries again by itself unless it said `fatal`.
    LinkDown {
        /// For people.
        reason: String,
        /// No further try is made: refused by the server, or no longer trusted.
        fatal: Option<crate::wire::frame::Refusal>,
    },
    /// A frame of the server.
    Frame(ToClient),
    /// What the command line asked for, before any command. Counted as a command, see [`Effect::CommandDone`].
    Start(Box<Start>),
    /// A line of the user's, or a command object. Commands are counted from 1 in the order in which they come.
    Command {
        /// As typed, without the line end.
        line: String,
        /// Given back on all that follows from it.
        tag: Option<String>,
    },
    /// A file for another process of the same user. Counted as a command.
    Fetch(Box<Fetch>),
    /// An operator's question to a server, of another process of the same user. Counted as a command.
    Admin {
        /// Given back on all that follows from it.
        tag: String,
        /// The server; none for one that was never met.
        server: Option<Name>,
        /// What is asked.
        ask: Box<Ask>,
    },
    /// Nobody waits any more for the commands with this tag: their transfers are cancelled.
    GiveUp {
        /// As given.
        tag: String,
    },
    /// To [`Effect::AskPassword`]; `None` if there is nobody to ask.
    Password {
        /// The command's number.
        number: u64,
        /// As typed.
        password: Option<Secret>,
    },
    /// To [`Effect::DeriveRoom`].
    RoomDerived {
        /// As asked.
        ticket: u64,
        /// What the password gives.
        keys: Box<RoomKeys>,
    },
    /// To [`Effect::MakeSplitKey`]; `None` if this device could not.
    SplitKey {
        /// As asked.
        transfer: TransferId,
        /// The private key and the two parts of the public one.
        made: Option<Box<SplitKeyMade>>,
    },
    /// Standard input has ended: finish transfers, then leave.
    EndOfInput,
    /// Ctrl-C, or SIGTERM: leave now, whatever is waited for.
    Interrupt,
    /// News of the file side.
    Files(FilesEvent),
    /// Time passed; see `Core::next_timeout`.
    Timeout,
}

/// A fresh split RSA key.
#[derive(Debug)]
pub struct SplitKeyMade {
    /// Decrypts once.
    pub key: SplitKey,
    /// Goes with the request.
    pub public: PublicPart,
    /// Goes over the path.
    pub path: PathPart,
}

/// `@NAME getfile FILE` in a room of choice, into a directory of choice.
#[derive(Debug)]
pub struct Fetch {
    /// Given back on all that follows from it.
    pub tag: String,
    /// As typed; one that we are in.
    pub room: String,
    /// The command, as typed.
    pub line: String,
    /// Where the file goes, absolute; the downloads directory where it is left out.
    pub into: Option<PathBuf>,
    /// Whether to stand in line where all slots are taken.
    pub wait: bool,
}

/// Rooms that the command line names.
#[derive(Debug)]
pub enum Start {
    /// `--create --room ROOM`.
    Create {
        /// As typed.
        room: String,
        /// Whether a password is needed to join.
        private: bool,
        /// A private room's; one is generated where none is given.
        password: Option<Secret>,
    },
    /// `--room ROOM`.
    Join {
        /// As typed.
        room: String,
        /// If it is private.
        password: Option<Secret>,
    },
    /// `--invite URL`, which may name a room.
    Invited {
        /// As read.
        invite: Box<Invite>,
        /// If the invite has none.
        password: Option<Secret>,
    },
}

/// A link that stands.
#[derive(Debug, Clone)]
pub struct LinkInfo {
    /// The server's proven name.
    pub server: Name,
    /// The server's proven identity key.
    pub server_key: PublicKey,
    /// Protocol version, cipher suite and key exchange group, for people.
    pub tls: String,
    /// What it answered to the login.
    pub welcome: Welcome,
}

/// What the core wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// To the server.
    Send(ToServer),
    /// To the user.
    Event {
        /// Of the command that it follows from.
        tag: Option<String>,
        /// What happened.
        event: Box<Event>,
    },
    /// To another process of the user: what a server has answered to [`Input::Admin`].
    Answer {
        /// As given.
        tag: String,
        /// The answer.
        answer: Box<Answer>,
    },
    /// To the file side.
    Files(FilesCommand),
    /// Run [`RoomKeys::derive`] away from the core (64 MiB, a tenth of a second); answered by [`Input::RoomDerived`].
    DeriveRoom {
        /// Given back.
        ticket: u64,
        /// Of the room.
        password: Secret,
        /// The salt.
        room: RoomId,
    },
    /// Run [`SplitKey::generate`](crate::crypto::rsa_split::SplitKey::generate) away from the core (seconds), with a ChaCha20 generator
    /// of this seed; answered by [`Input::SplitKey`].
    MakeSplitKey {
        /// Given back.
        transfer: TransferId,
        /// Secret, used once.
        seed: Zeroizing<[u8; 32]>,
    },
    /// A private room's password is missing; answered by [`Input::Password`].
    AskPassword {
        /// The command's number.
        number: u64,
        /// `LABEL@SERVER`.
        room: String,
    },
    /// Keep for ever that this name belongs to this key.
    Pin {
        /// Who.
        name: FullName,
        /// Their identity key.
        key: PublicKey,
    },
    /// Keep our name and the mesh in which it counts, in place of what was kept for that home server: the next link goes by it.
    KeepHome(Box<HomeCard>),
    /// Keep what was sent lately, in place of what was kept: an encoded [`Ledger`](crate::transfer::restrict::Ledger) for the next run.
    KeepLedger(Vec<u8>),
    /// A command has come to its end, good or bad: what it caused has been told.
    CommandDone {
        /// Which, counted from 1.
        number: u64,
        /// As given.
        tag: Option<String>,
        /// Exit code of a script in which this is the first failure; 0 is success.
        code: u8,
    },
    /// The server does not answer: end this link and make a new one.
    DropLink {
        /// For people.
        reason: String,
    },
    /// End the link cleanly, then the process with this exit code.
    Exit(u8),
}
