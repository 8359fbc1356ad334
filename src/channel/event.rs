//! What a connection tells its driver.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::replay::REPLAY_WINDOW;
use crate::wire::datagram::{CloseCode, FrameError};

/// Something that the driver may want to act on or show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The file travels over this address from now on. Comes again when the peer's address changes.
    PathValidated(SocketAddr),
    /// Receiver: every byte was delivered. Sender: the receiver has acknowledged every byte.
    /// The connection must still be driven until [`is_drained`](super::Connection::is_drained).
    Finished,
    /// The peer's handshake message. It is repeated until the peer stops, so the same bytes may come again.
    Handshake(HandshakeBytes),
    /// Somebody closed the connection before it finished.
    Closed {
        /// Who did.
        by: ClosedBy,
        /// What for.
        code: CloseCode,
        /// For people. The peer's text is untrusted: escape it before showing it.
        reason: String,
    },
    /// The connection cannot go on. Nothing more is delivered.
    Failed(Failure),
}

/// Key-agreement bytes, at most [`MAX_HANDSHAKE`](crate::wire::datagram::MAX_HANDSHAKE); wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct HandshakeBytes(Zeroizing<Vec<u8>>);

impl HandshakeBytes {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HandshakeBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeBytes(redacted)")
    }
}

/// Who closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// Our own driver.
    Us,
    /// The peer.
    Peer,
}

/// Why a connection failed, naming who failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Failure {
    /// No address of the peer answered within `connect_timeout`.
    #[error("no path to the peer was found")]
    NoPath,
    /// The peer has been silent for `idle_timeout`.
    #[error("the peer has fallen silent")]
    Silent,
    /// The file has not moved for `stall_timeout`.
    #[error("the transfer stands still")]
    Stalled,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] Violation),
    /// Our file could not be read.
    #[error("our file cannot be read")]
    Source,
    /// Every packet number of this connection's keys is used up.
    #[error("the connection has run out of packet numbers")]
    PacketNumbers,
}

/// What a peer that holds the keys did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// It acknowledged a packet that was never sent (quiche CVE-2025-4820).
    #[error("it acknowledged a packet that was never sent")]
    AckOfUnsentPacket,
    /// It acknowledged a segment that was never sent (quiche CVE-2025-4821).
    #[error("it acknowledged a segment that was never sent")]
    AckOfUnsentSegment,
    /// A segment lies outside the file or has the wrong length.
    #[error("a segment does not fit the file")]
    WrongSegment,
    /// A frame that its role never sends.
    #[error("a frame that its role never sends")]
    UnexpectedFrame,
    /// A frame that cannot be read.
    #[error("{0}")]
    Malformed(FrameError),
}

/// Counters of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams sent, of every kind.
    pub datagrams_sent: u64,
    /// Bytes of those datagrams.
    pub bytes_sent: u64,
    /// Authentic datagrams received.
    pub datagrams_received: u64,
    /// Segments sent, repeats included.
    pub segments_sent: u64,
    /// Segments sent again.
    pub segments_repeated: u64,
    /// Bytes of the file delivered (receiver) or acknowledged (sender).
    pub file_bytes: u64,
    /// Times that the sender's retransmission timer ran out.
    pub timeouts: u64,
    /// Ignored: not our format or connection id.
    pub ignored_foreign: u64,
    /// Ignored: did not open under our key.
    pub ignored_forged: u64,
    /// Ignored: a packet number seen already, or [`REPLAY_WINDOW`] or more behind the newest.
    pub ignored_replayed: u64,
    /// The smoothed round trip, once measured.
    pub round_trip: Option<Duration>,
}

const _: () = assert!(REPLAY_WINDOW >= super::config::MAX_WINDOW as u64);
