//! What stands inside a sealed MLS message: texts, searches, agreements on files. No server reads these.

use super::id::{MessageId, SearchId, TransferId};
use super::{DecodeError, decode, encode};
use crate::limits::PAYLOAD_MAX;
use minicbor::bytes::{ByteArray, ByteVec};

/// A body with what lets receivers drop repeats and notice gaps, swaps and diverging views.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Envelope {
    /// Stays the same when the message is sealed again.
    #[n(0)]
    pub id: MessageId,
    /// Random for each join of the sender, so that its counter may start anew.
    #[n(1)]
    pub session: ByteArray<8>,
    /// 1, 2, 3 … in this conversation and session.
    #[n(2)]
    pub counter: u64,
    /// The last row of the log that the sender has processed.
    #[n(3)]
    pub seen: u64,
    /// The chain at that row.
    #[n(4)]
    pub chain: ByteArray<32>,
    /// What is said.
    #[n(5)]
    pub body: Body,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Body {
    /// A line of chat.
    #[n(0)]
    Text(#[n(0)] String),
    /// In a room: who has a file whose name matches.
    #[n(1)]
    WhoHas {
        /// Named in the answers.
        #[n(0)]
        search: SearchId,
        /// A glob.
        #[n(1)]
        pattern: String,
    },
    /// Directly: what matched.
    #[n(2)]
    Holds {
        /// The search's.
        #[n(0)]
        search: SearchId,
        /// At most [`crate::limits::SEARCH_ROWS`].
        #[n(1)]
        rows: Vec<FileRow>,
        /// How many more matched.
        #[n(2)]
        more: u64,
    },
    /// Directly: please send a file.
    #[n(3)]
    FileRequest(#[n(0)] FileRequest),
    /// Directly: here it comes.
    #[n(4)]
    FileAnswer(#[n(0)] FileAnswer),
    /// Directly: no.
    #[n(5)]
    FileRefused {
        /// The request's.
        #[n(0)]
        transfer: TransferId,
        /// Why.
        #[n(1)]
        reason: FileRefusal,
    },
    /// Directly: a round trip, to be answered with [`Body::Pong`].
    #[n(6)]
    Ping {
        /// Comes back.
        #[n(0)]
        token: u64,
    },
    /// Directly: the answer.
    #[n(7)]
    Pong {
        /// The ping's.
        #[n(0)]
        token: u64,
    },
    /// In a private room, by its owner after a rotation: the new secret for who is present.
    #[n(8)]
    NewSecret {
        /// The policy version that it opens.
        #[n(0)]
        version: u64,
        /// The words.
        #[n(1)]
        secret: String,
    },
}

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
    /// The asker's receive window, segments.
    #[n(9)]
    pub window: u32,
}

/// The holder's part.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct FileAnswer {
    /// The request's.
    #[n(0)]
    pub transfer: TransferId,
    /// BLAKE3 of the whole file.
    #[n(1)]
    pub root: ByteArray<32>,
    /// Bytes.
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
        }
    }
}

impl Envelope {
    /// The bytes to be sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads opened bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, PAYLOAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    #[test]
    fn an_envelope_reads_back_and_truncations_are_refused() {
        let body = Body::WhoHas { search: Id([1; 16]), pattern: "*.iso".into() };
        let envelope =
            Envelope { id: Id([2; 16]), session: [3; 8].into(), counter: 4, seen: 5, chain: [6; 32].into(), body };
        let bytes = envelope.to_bytes();
        assert_eq!(Envelope::from_bytes(&bytes), Ok(envelope));
        for len in 0..bytes.len() {
            assert!(Envelope::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
    }
}
