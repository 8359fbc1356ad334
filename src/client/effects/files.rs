//! What the core asks of the file side, and what the file side tells it.
//!
//! A *download* is one file or folder that we want; it has one or more *sources*, each a session with one holder: its own transfer id,
//! agreement and channel. The download's id is that of no session. An upload is one session. Who may have what, how many at once and who
//! waits is the core's business; the file side does what it is told.

use crate::crypto::handover::Handover;
use crate::transfer::restrict::Rules;
use crate::wire::id::{OfferId, RoomId, SearchId, TransferId};
use crate::wire::leg::{LegId, LegKey, LinkData};
use crate::wire::name::{FullName, Name};
use crate::wire::payload::{Arq, FileKind, FileRefusal, FileRow};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// What the core asks of the file side (shares, hashing, downloads, the UDP channels).
#[derive(Debug)]
pub enum FilesCommand {
    /// Look through the shares (and through what is being fetched in that room); answered by [`FilesEvent::Found`] after a random
    /// delay. Never starts hashing. The core fills in the free slots.
    Search {
        /// The search.
        search: SearchId,
        /// Who asks.
        asker: FullName,
        /// The room in which it is asked.
        room: RoomId,
        /// A glob over base names.
        pattern: String,
        /// The delay is at most this.
        within: Duration,
        /// What they are against is not found.
        rules: Rules,
    },
    /// Tell whether something may be sent, and its size; hashes nothing. Answered by [`FilesEvent::Measured`].
    Measure {
        /// The transfer.
        transfer: TransferId,
        /// What is asked for.
        wanted: Wanted,
    },
    /// Open and hash what is asked for, with [`FilesEvent::Hashing`] on the way; answered by [`FilesEvent::UploadReady`]. Follows `Measured`;
    /// the core has a slot for it.
    PrepareUpload {
        /// The transfer.
        transfer: TransferId,
        /// Who asks.
        peer: FullName,
        /// What is asked for.
        wanted: Wanted,
        /// Every file is held against them, by its first bytes too; answered by [`FilesEvent::Restricted`] if one is against it.
        rules: Rules,
    },
    /// Gather candidates for one source of a download; answered by [`FilesEvent::DownloadReady`].
    PrepareDownload {
        /// The source's transfer.
        transfer: TransferId,
    },
    /// Run the channel, sending. Follows `UploadReady`.
    StartUpload(Box<ChannelStart>),
    /// Run the channel of one source, receiving. Follows `DownloadReady`. The first of a `download` opens the partial file of its root, or
    /// the one that is left from before; later ones add sources to it.
    StartDownload {
        /// The channel.
        channel: Box<ChannelStart>,
        /// The download that this source is for.
        download: TransferId,
        /// The name asked for; sanitised before it touches the disk.
        file: String,
        /// Where it goes; the downloads directory where it is left out.
        into: Option<PathBuf>,
        /// What was said of it when it was offered: nothing else will do. Without an offer nothing was said.
        offered: Option<Offered>,
        /// Whose members may have it from us while it comes; without a room nobody may.
        room: Option<RoomId>,
        /// Every file is held against them, by its first bytes as soon as they are here, and nothing stays of what they are against.
        rules: Rules,
    },
    /// Open and hash a file or folder anywhere on the disk, to offer it; kept ready for uploads that name this offer until it is
    /// cancelled. Answered by [`FilesEvent::OfferReady`], with [`FilesEvent::Hashing`] on the way.
    PrepareOffer {
        /// The offer.
        offer: OfferId,
        /// Where it stands, as typed.
        path: PathBuf,
        /// As for an upload.
        rules: Rules,
    },
    /// End one source of a download, running or only prepared; the others go on. Nothing is answered.
    Drop {
        /// The source's transfer.
        transfer: TransferId,
        /// Told to the peer over the channel if it runs.
        reason: String,
    },
    /// Give up a whole download, an upload, or an offer. Nothing is answered for what is unknown.
    Cancel {
        /// A download, an upload's transfer, or an offer.
        transfer: TransferId,
        /// Told to the peers over the channels that run.
        reason: String,
        /// Whether a download's partial file stays, to be resumed.
        keep: bool,
    },
    /// A session may run over a server, which gave us this leg.
    Relay {
        /// The upload, or the source's transfer.
        transfer: TransferId,
        /// Which server.
        server: Name,
        /// Its host.
        host: LegHost,
        /// Its UDP port.
        port: u16,
        /// Our leg there.
        leg: LegId,
        /// Proves that it is ours.
        key: LegKey,
    },
    /// Datagrams came over the link for a leg of ours; [`LinkData::server`] says at which server.
    RelayIn(LinkData),
    /// `@me setshare FILE`, and its kin; answered by [`FilesEvent::Shares`].
    Share(ShareCommand),
    /// Limits of all transfers together, file bytes a second each way; `None` is no limit.
    Rates {
        /// What leaves.
        up: Option<u64>,
        /// What comes.
        down: Option<u64>,
    },
    /// `@me setwindowsize N|auto`: a fixed window for new transfers, segments; `None` follows the congestion controller.
    Window(Option<u32>),
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Base name.
    pub file: String,
    /// A file, or a folder with all that is in it.
    pub kind: FileKind,
    /// Only this content will do. With it what we are fetching ourselves may be served too.
    pub root: Option<[u8; 32]>,
    /// From this offer of ours, not from the shares.
    pub offer: Option<OfferId>,
    /// The rooms in which both of us are.
    pub rooms: Vec<RoomId>,
}

/// How much an offer said that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Bytes of the file, or of all files in the folder.
    pub size: u64,
    /// Files: 1, or those in the folder.
    pub entries: u64,
}

/// The congestion controllers, as `--congestion` names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Rate-based.
    #[default]
    Bbr,
    /// Loss-based.
    Cubic,
    /// None: for fixed windows.
    None,
}

/// Where the UDP port of a server is that gave us a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegHost {
    /// On the host that the link leads to.
    Linked,
    /// On this one.
    At(String),
    /// Nobody knows; the link leads there.
    Unknown,
}

/// Over which ways files may come and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// Straight where that works, over a server where it does not.
    #[default]
    Any,
    /// Over servers only: peers do not learn our addresses.
    Relayed,
    /// Straight or not at all.
    Direct,
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

/// What is needed to run one session's channel.
pub struct ChannelStart {
    /// The session.
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
    /// What travels.
    pub kind: FileKind,
    /// Bytes of the file; of a folder, bytes of its manifest.
    pub size: u64,
    /// BLAKE3 of the file; of a folder, of its manifest.
    pub root: [u8; 32],
    /// The holder has only a part, and says which on its stream.
    pub partial: bool,
    /// The policy that both sides run.
    pub arq: Arq,
    /// A fixed window in segments, the smaller of what the two sides pinned; `None` where neither did.
    pub window: Option<u32>,
    /// Bytes of the largest datagram that both sides take; the path may take less.
    pub max_datagram: usize,
    /// The key agreement mode that runs.
    pub mode: String,
    /// With `rsa-split`: the hand-over to run between path validation and the first file byte. The keys above are stage one then and
    /// carry nothing else.
    pub handover: Option<Box<Handover>>,
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
    /// To `Measure`: bytes (of a folder, of all files in it), or why not.
    Measured {
        /// The transfer.
        transfer: TransferId,
        /// Bytes.
        result: Result<u64, FileRefusal>,
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
        /// The source's transfer.
        transfer: TransferId,
        /// Random; on datagrams to us.
        connection: [u8; 8],
        /// Where we may be reached.
        candidates: Vec<SocketAddr>,
        /// Our fixed window, segments, if one is set.
        window: Option<u32>,
        /// Bytes of the largest datagram that we take.
        max_datagram: usize,
    },
    /// Datagrams of a leg at this server that are to go over the link.
    RelayOut {
        /// Which server.
        server: Name,
        /// What.
        data: LinkData,
    },
    /// To `PrepareOffer`.
    OfferReady {
        /// The offer.
        offer: OfferId,
        /// Or why not.
        result: Result<OfferReady, OfferRefusal>,
    },
    /// To `PrepareUpload` and `PrepareOffer`: a rule is against it, and nothing is kept ready.
    Restricted {
        /// The transfer or the offer.
        transfer: TransferId,
        /// Which rule, for people.
        detail: String,
    },
    /// The list of files of a folder that we fetch is here.
    Listed {
        /// The download.
        download: TransferId,
        /// Files in it.
        entries: u64,
        /// Bytes of all of them.
        bytes: u64,
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
    /// A file is read to learn its root; at most ten a second.
    Hashing {
        /// The upload or offer that waits for it, or the download whose partial file is checked.
        transfer: TransferId,
        /// So far.
        bytes: u64,
        /// In all.
        total: u64,
    },
    /// A session's channel runs: a path was validated, and the hand-over is done where there is one.
    Started {
        /// The upload, or the source's transfer (not the download).
        transfer: TransferId,
        /// The peer's address in use, or `relayed by` and the server.
        route: String,
    },
    /// A session that has started takes another way; at most one a second for each.
    Rerouted {
        /// The upload, or the source's transfer.
        transfer: TransferId,
        /// As when it started.
        route: String,
    },
    /// Nothing has come over a session's way for some seconds, in one direction at least; told again while it lasts.
    Silent {
        /// The upload, or the source's transfer.
        transfer: TransferId,
    },
    /// At most ten a second for each download or upload.
    Progress {
        /// The download or the upload.
        transfer: TransferId,
        /// File bytes that are there (download; those of earlier runs too) or acknowledged (upload).
        bytes: u64,
        /// File bytes in all, once known: of a folder, of all its files.
        total: u64,
        /// Bytes a second lately.
        rate: u64,
        /// Sources that deliver now; 1 for an upload.
        sources: u32,
    },
    /// A source is gone; what it had to bring is given to others.
    SourceLost {
        /// The download.
        download: TransferId,
        /// The source's transfer.
        transfer: TransferId,
        /// Why.
        reason: LostReason,
        /// For people.
        detail: String,
    },
    /// No source is left and bytes are missing; the partial file is kept and waits for new sources. Follows the last `SourceLost`.
    Starved {
        /// The download.
        download: TransferId,
    },
    /// All is there, checked and under its name (download), or the peer has all that it wanted (upload).
    Done {
        /// The download or the upload.
        transfer: TransferId,
        /// File bytes.
        bytes: u64,
        /// From start to done.
        seconds: f64,
        /// Where it stands (download).
        path: Option<String>,
    },
    /// It will not come to an end: nothing more follows of it. A download fails so only for what no source can mend (disk, verification).
    Failed {
        /// The download, a source that never ran (prepared only), or the upload.
        transfer: TransferId,
        /// One of `cancelled`, `timeout`, `no_path`, `verification`, `disk`, `changed`, `peer_closed`, `protocol`, `key_agreement`,
        /// `restricted`.
        reason: String,
        /// For people.
        detail: String,
    },
}

/// Why a source is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostReason {
    /// It sent bytes that do not belong to the root. It is never asked for this root again.
    Lied,
    /// Nothing came for too long.
    Stalled,
    /// It closed the channel or fell silent.
    Left,
    /// The person there stopped it. It is not asked again.
    Cancelled,
    /// Its file is no longer what it was.
    Changed,
    /// The path takes only smaller datagrams now: a new agreement with the same holder helps.
    PathShrunk,
    /// No address of it answered.
    NoPath,
    /// The key agreement's hand-over failed.
    KeyAgreement,
}

/// Something that is ready to be sent.
#[derive(Debug, Clone)]
pub struct UploadReady {
    /// BLAKE3; of a folder, of its manifest.
    pub root: [u8; 32],
    /// Bytes; of a folder, of its manifest.
    pub size: u64,
    /// Files: 1, or those in the folder.
    pub entries: u64,
    /// Only a part is here.
    pub partial: bool,
    /// Random; on datagrams to us.
    pub connection: [u8; 8],
    /// Where we may be reached.
    pub candidates: Vec<SocketAddr>,
    /// Our fixed window, segments, if one is set.
    pub window: Option<u32>,
    /// Bytes of the largest datagram that we take.
    pub max_datagram: usize,
    /// What a folder holds beside that.
    pub skipped: Skipped,
}

/// What is left out of a folder: links, special and hidden files, what lies too deep, and names that not every system takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// By their paths in it, sorted; the first of them.
    pub paths: Vec<String>,
    /// All of them.
    pub count: u32,
}

/// Something that is ready to be offered.
#[derive(Debug, Clone)]
pub struct OfferReady {
    /// Base name.
    pub name: String,
    /// A file or a folder.
    pub kind: FileKind,
    /// BLAKE3; of a folder, of its manifest.
    pub root: [u8; 32],
    /// Bytes of the file, or of all files in the folder.
    pub size: u64,
    /// Files: 1, or those in the folder.
    pub entries: u64,
    /// What a folder holds beside that.
    pub skipped: Skipped,
}

/// Why nothing is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferRefusal {
    /// Nothing stands there.
    NotFound,
    /// A link or a special file, or a folder without a file in it.
    Unfit,
    /// It could not be read, or changed while it was; for people.
    Unreadable(String),
}
