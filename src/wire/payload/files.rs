//! What two say to each other about a file: what there is, what is offered, and the agreement on its keys.

use crate::crypto::rsa_split::PublicPart;
use crate::wire::id::{OfferId, RoomId, TransferId};
use minicbor::bytes::{ByteArray, ByteVec};

/// A file in an answer to a search.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct FileRow {
    /// Base name.
    #[n(0)]
    pub name: String,
    /// Bytes.
    #[n(1)]
    pub size: u64,
    /// BLAKE3, once it is known.
    #[n(2)]
    pub root: Option<ByteArray<32>>,
    /// Upload slots that are free now.
    #[n(3)]
    pub free_slots: u32,
    /// A file, or a folder with all that is in it.
    #[n(4)]
    #[cbor(default)]
    pub kind: FileKind,
    /// The holder has only a part of it yet.
    #[n(5)]
    #[cbor(default)]
    pub partial: bool,
}

/// Something that somebody would like to send.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct FileOffer {
    /// Random; named by the request that accepts it.
    #[n(0)]
    pub offer: OfferId,
    /// Base name.
    #[n(1)]
    pub name: String,
    /// Bytes of the file, or of all files in the folder.
    #[n(2)]
    pub size: u64,
    /// BLAKE3 of the file, or of the folder's manifest: only this is taken.
    #[n(3)]
    pub root: ByteArray<32>,
    /// A file or a folder.
    #[n(4)]
    pub kind: FileKind,
    /// Files: 1, or those in the folder.
    #[n(5)]
    pub entries: u64,
    /// The room through which it is offered, whose rules hold; without one those of all rooms in which both are.
    #[n(6)]
    pub room: Option<RoomId>,
}

/// The asker's part of the agreement on a file's keys.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct FileRequest {
    /// Random.
    #[n(0)]
    pub transfer: TransferId,
    /// Base name of the file.
    #[n(1)]
    pub file: String,
    /// If given, only this content will do.
    #[n(2)]
    pub root: Option<ByteArray<32>>,
    /// Fresh.
    #[n(3)]
    pub random: ByteArray<32>,
    /// Fresh X25519 public key.
    #[n(4)]
    pub x25519: ByteArray<32>,
    /// Fresh ML-KEM-768 encapsulation key.
    #[n(5)]
    pub ml_kem: Option<ByteVec>,
    /// Names of the key agreement modes offered, best first.
    #[n(6)]
    pub modes: Vec<String>,
    /// Connection id that datagrams to the asker bear.
    #[n(7)]
    pub connection: ByteArray<8>,
    /// `IP:PORT` where the asker may be reached, at most [`crate::limits::CANDIDATES_MAX`].
    #[n(8)]
    pub candidates: Vec<String>,
    /// The asker's fixed window, segments, if it has one.
    #[n(9)]
    pub window: Option<u32>,
    /// What the asker pins.
    #[n(10)]
    #[cbor(default)]
    pub arq: Arq,
    /// Bytes of the largest datagram that the asker takes.
    #[n(11)]
    pub max_datagram: u16,
    /// A file or a folder.
    #[n(12)]
    #[cbor(default)]
    pub kind: FileKind,
    /// Not from the holder's shares, but what it offered.
    #[n(13)]
    pub offer: Option<OfferId>,
    /// The asker would stand in line for a slot.
    #[n(14)]
    #[cbor(default)]
    pub wait: bool,
    /// The public part of a split RSA key, if that mode is offered.
    #[n(15)]
    pub rsa: Option<Box<PublicPart>>,
    /// The room through which it was found, whose rules hold; without one those of all rooms in which both are.
    #[n(16)]
    pub room: Option<RoomId>,
}

/// The holder's part.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct FileAnswer {
    /// The request's.
    #[n(0)]
    pub transfer: TransferId,
    /// BLAKE3 of the whole file, or of the folder's manifest.
    #[n(1)]
    pub root: ByteArray<32>,
    /// Bytes of the file, or of the manifest.
    #[n(2)]
    pub size: u64,
    /// Fresh.
    #[n(3)]
    pub random: ByteArray<32>,
    /// Fresh X25519 public key.
    #[n(4)]
    pub x25519: ByteArray<32>,
    /// ML-KEM-768 ciphertext.
    #[n(5)]
    pub ml_kem: Option<ByteVec>,
    /// The mode chosen.
    #[n(6)]
    pub mode: String,
    /// The modes that the holder knows, best first (in the transcript, so that none can be stripped).
    #[n(7)]
    pub modes: Vec<String>,
    /// Connection id that datagrams to the holder bear.
    #[n(8)]
    pub connection: ByteArray<8>,
    /// `IP:PORT` where the holder may be reached.
    #[n(9)]
    pub candidates: Vec<String>,
    /// Proves that the holder has the keys (`confirm` of its role).
    #[n(10)]
    pub confirm: ByteArray<32>,
    /// What the holder pins.
    #[n(11)]
    #[cbor(default)]
    pub arq: Arq,
    /// Bytes of the largest datagram that the holder takes.
    #[n(12)]
    pub max_datagram: u16,
    /// The holder's fixed window, segments, if it has one.
    #[n(13)]
    pub window: Option<u32>,
    /// A file or a folder, as asked.
    #[n(14)]
    #[cbor(default)]
    pub kind: FileKind,
    /// The holder has only a part of it yet.
    #[n(15)]
    #[cbor(default)]
    pub partial: bool,
    /// What else is in the folder and cannot be sent.
    #[n(16)]
    #[cbor(default)]
    pub left_out: u32,
}

/// What is asked for or offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum FileKind {
    /// One file.
    #[default]
    #[n(0)]
    File,
    /// A folder with all files in it: a manifest, then the files.
    #[n(1)]
    Folder,
}

/// How lost datagrams are made good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Arq {
    /// Go-Back-N until loss is seen, then Selective Repeat.
    #[default]
    #[n(0)]
    Auto,
    /// The receiver keeps only what comes in order.
    #[n(1)]
    GoBackN,
    /// The receiver keeps what comes early, the sender repeats what is missing.
    #[n(2)]
    SelectiveRepeat,
}

impl Arq {
    /// What both sides run: what either one pins, the asker's where they differ.
    pub fn agreed(asker: Self, holder: Self) -> Self {
        if asker == Self::Auto { holder } else { asker }
    }

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::GoBackN => "go-back-n",
            Self::SelectiveRepeat => "selective-repeat",
        }
    }
}

/// Why a file is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum FileRefusal {
    /// No upload slot is free.
    #[n(0)]
    Busy,
    /// No such file, or it is not shared: which, is not told.
    #[n(1)]
    NotShared,
    /// The file has another root than the one asked for.
    #[n(2)]
    Changed,
    /// The request makes no sense, or no mode is common.
    #[n(3)]
    BadRequest,
    /// The holder could not read it.
    #[n(4)]
    Unreadable,
    /// A rule of a server or a room is against it.
    #[n(5)]
    Restricted,
}

impl FileRefusal {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NotShared => "not_shared",
            Self::Changed => "changed",
            Self::BadRequest => "bad_request",
            Self::Unreadable => "unreadable",
            Self::Restricted => "restricted",
        }
    }
}
