//! What a connection tells its driver.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use super::config::Arq;
use crate::crypto::replay::REPLAY_WINDOW;
use crate::wire::datagram::{CloseCode, FrameError};

/// Something that the driver may want to act on or show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The streams travel over this address from now on. Comes again when the peer's address changes.
    PathValidated(SocketAddr),
    /// Our new segments carry up to this many bytes from now on: the path was found to take larger datagrams.
    SegmentSize(usize),
    /// The peer's whole stream was delivered.
    PeerFinished,
    /// Both streams are finished: ours is acknowledged, the peer's was delivered. The connection must still be driven until [`is_drained`](super::Connection::is_drained).
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
    /// Neither stream has moved for `stall_timeout`.
    #[error("the transfer stands still")]
    Stalled,
    /// Datagrams of the size that was proven at the start no longer arrive, smaller ones do. A new connection finds
    /// the new size.
    #[error("the path no longer carries datagrams of this size")]
    PathShrunk,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] Violation),
    /// Our stream could not be read.
    #[error("the sender's file cannot be read")]
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
    /// A segment lies beyond the stream's end or the window, is empty, or ends a stream that goes on.
    #[error("a segment does not fit the stream")]
    WrongSegment,
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
    /// Transmissions that were taken for lost.
    pub segments_lost: u64,
    /// Of these, how many arrived after all.
    pub spurious: u64,
    /// Bytes of our stream that were acknowledged.
    pub bytes_acked: u64,
    /// Bytes of the peer's stream that were delivered.
    pub bytes_delivered: u64,
    /// Probes and retransmission timeouts: times that no ack came in time.
    pub timeouts: u64,
    /// Ignored: not our format or connection id.
    pub ignored_foreign: u64,
    /// Ignored: did not open under our key.
    pub ignored_forged: u64,
    /// Ignored: a packet number seen already, or [`REPLAY_WINDOW`] or more behind the newest.
    pub ignored_replayed: u64,
    /// Datagrams that came marked "congestion experienced".
    pub ce_received: u64,
    /// The smoothed round trip, once measured.
    pub round_trip: Option<Duration>,
    /// The shortest round trip seen.
    pub min_round_trip: Option<Duration>,
    /// How far a round trip went beyond the shortest, at the most: the queue that we met or made.
    pub max_queue_delay: Duration,
    /// Bytes that may be under way; `None` with a fixed window or without congestion control.
    pub congestion_window: Option<u64>,
    /// Bytes a second at which we send at most, if anything limits it.
    pub pacing_rate: Option<u64>,
    /// Bytes of datagrams with segments that are under way.
    pub in_flight: u64,
    /// Go-Back-N or Selective Repeat: what `Auto` has come to.
    pub arq: Arq,
    /// Bytes in each new segment.
    pub segment_size: usize,
}

const _: () = assert!(REPLAY_WINDOW >= 2 * super::config::MAX_WINDOW as u64);
