//! What the client core asks of the world, and what the world tells it: the seam between the pure core and its driver.

use super::event::Event;
use crate::crypto::identity::PublicKey;
use crate::crypto::room::RoomKeys;
use crate::crypto::secret::Secret;
use crate::wire::frame::{ToClient, ToServer, Welcome};
use crate::wire::id::{RoomId, SearchId, TransferId};
use crate::wire::invite::Invite;
use crate::wire::name::{FullName, Name};
use crate::wire::payload::{FileRefusal, FileRow};
use std::net::SocketAddr;
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
    /// Standard input has ended: finish transfers, then leave.
    EndOfInput,
    /// News of the file side.
    Files(FilesEvent),
    /// Time passed; see `Core::next_timeout`.
    Timeout,
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
        event: Event,
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

/// What the core asks of the file side (shares, hashing, downloads, the UDP channel).
#[derive(Debug)]
pub enum FilesCommand {
    /// Look through the shares; answered by [`FilesEvent::Found`] after a random delay. Never starts hashing.
    Search {
        /// The search.
        search: SearchId,
        /// Who asks.
        asker: FullName,
        /// A glob over base names.
        pattern: String,
    },
    /// Open and hash a shared file, take an upload slot; answered by [`FilesEvent::UploadReady`].
    PrepareUpload {
        /// The transfer.
        transfer: TransferId,
        /// Who asks.
        peer: FullName,
        /// Base name.
        file: String,
        /// Only this content will do.
        root: Option<[u8; 32]>,
    },
    /// Gather candidates for a download; answered by [`FilesEvent::DownloadReady`].
    PrepareDownload {
        /// The transfer.
        transfer: TransferId,
    },
    /// Run the channel, sending. Follows `UploadReady`.
    StartUpload(Box<ChannelStart>),
    /// Run the channel, receiving. Follows `DownloadReady`.
    StartDownload {
        /// The channel.
        channel: Box<ChannelStart>,
        /// The name asked for; sanitised before it touches the disk.
        file: String,
        /// Where it goes; the downloads directory where it is left out.
        into: Option<PathBuf>,
    },
    /// Give a transfer up, running or only prepared; its slot is freed.
    Cancel {
        /// Which.
        transfer: TransferId,
        /// Told to the peer over the channel if it runs.
        reason: String,
    },
    /// `@me setshare FILE`, and its kin; answered by [`FilesEvent::Shares`].
    Share(ShareCommand),
    /// `@me setmaxuploads N`.
    MaxUploads(u32),
    /// `@me setwindowsize N`, segments.
    Window(u32),
}

/// Sharing commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareCommand {
    /// A file's own switch on.
    Set(String),
    /// A file's own switch off.
    Clear(String),
    /// The global switch.
    Global(bool),
    /// Only tell.
    Status,
}

/// What is needed to run one transfer's channel.
pub struct ChannelStart {
    /// The transfer.
    pub transfer: TransferId,
    /// The other side.
    pub peer: FullName,
    /// Key and iv for what we send.
    pub send: Zeroizing<[u8; 44]>,
    /// Key and iv for what we receive.
    pub receive: Zeroizing<[u8; 44]>,
    /// Connection id on datagrams to us.
    pub our_connection: [u8; 8],
    /// Connection id on datagrams to the peer.
    pub peer_connection: [u8; 8],
    /// Where the peer may be reached.
    pub peer_candidates: Vec<SocketAddr>,
    /// Bytes of the file.
    pub size: u64,
    /// BLAKE3 of the file.
    pub root: [u8; 32],
    /// The key agreement mode that ran.
    pub mode: String,
}

impl std::fmt::Debug for ChannelStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelStart")
            .field("transfer", &self.transfer)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What the file side tells the core.
#[derive(Debug)]
pub enum FilesEvent {
    /// To `Search`; nothing is said where nothing matched.
    Found {
        /// The search.
        search: SearchId,
        /// Who asked.
        asker: FullName,
        /// Matches, capped.
        rows: Vec<FileRow>,
        /// Matches beyond the cap.
        more: u64,
    },
    /// To `PrepareUpload`.
    UploadReady {
        /// The transfer.
        transfer: TransferId,
        /// Or why not.
        result: Result<UploadReady, FileRefusal>,
    },
    /// To `PrepareDownload`.
    DownloadReady {
        /// The transfer.
        transfer: TransferId,
        /// Random; on datagrams to us.
        connection: [u8; 8],
        /// Where we may be reached.
        candidates: Vec<SocketAddr>,
        /// Our window, segments.
        window: u32,
    },
    /// To `Share`.
    Shares {
        /// The global switch.
        global: bool,
        /// Each file of the shared folder, and whether it is shared now.
        files: Vec<(String, bool)>,
        /// A file that was named and is not there.
        missing: Option<String>,
    },
    /// The channel runs: a path was validated.
    Started {
        /// The transfer.
        transfer: TransferId,
        /// The peer's address in use.
        route: String,
    },
    /// At most ten a second for each transfer.
    Progress {
        /// The transfer.
        transfer: TransferId,
        /// File bytes so far.
        bytes: u64,
        /// Bytes a second lately.
        rate: u64,
    },
    /// The file is whole, checked and under its name (download), or acknowledged whole (upload).
    Done {
        /// The transfer.
        transfer: TransferId,
        /// File bytes.
        bytes: u64,
        /// From start to done.
        seconds: f64,
        /// Where it stands (download).
        path: Option<String>,
    },
    /// It will not come to an end.
    Failed {
        /// The transfer.
        transfer: TransferId,
        /// One of `cancelled`, `timeout`, `no_path`, `verification`, `disk`, `peer_closed`, `protocol`.
        reason: String,
        /// For people.
        detail: String,
    },
}

/// A file that is ready to be sent.
#[derive(Debug, Clone)]
pub struct UploadReady {
    /// BLAKE3.
    pub root: [u8; 32],
    /// Bytes.
    pub size: u64,
    /// Random; on datagrams to us.
    pub connection: [u8; 8],
    /// Where we may be reached.
    pub candidates: Vec<SocketAddr>,
}
