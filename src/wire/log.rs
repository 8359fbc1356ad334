//! Rows of a room's log, and the hash chained over them.

use super::id::RoomId;
use minicbor::bytes::ByteVec;
use sha2::{Digest, Sha256};

/// One numbered row: the home server's order of everything that was said and done in a room.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Row {
    /// 1, 2, 3 … without holes; 0 is the room's creation and has no row.
    #[n(0)]
    pub seq: u64,
    /// The server's clock when it logged the row, Unix milliseconds.
    #[n(1)]
    pub time_ms: u64,
    /// What the bytes are.
    #[n(2)]
    pub kind: RowKind,
    /// An MLS message.
    #[n(3)]
    pub bytes: ByteVec,
    /// For a Remove that the server proposed: why; none where the member had left by itself and a commit that crossed its SelfRemove
    /// swept that away.
    #[n(4)]
    pub reason: Option<RemoveReason>,
}

/// What a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum RowKind {
    /// PublicMessage with a commit.
    #[n(0)]
    Commit,
    /// PublicMessage with a proposal: SelfRemove, or Remove by the home server.
    #[n(1)]
    Proposal,
    /// PrivateMessage with an application message.
    #[n(2)]
    Message,
}

/// Why a server proposed a Remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum RemoveReason {
    /// Gone past its grace.
    #[n(0)]
    Lost,
    /// Kicked by who may.
    #[n(1)]
    Kicked,
    /// Banned.
    #[n(2)]
    Banned,
    /// The name was freed, for its key is lost.
    #[n(3)]
    Released,
}

impl RemoveReason {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Kicked => "kicked",
            Self::Banned => "banned",
            Self::Released => "released",
        }
    }
}

/// The running hash over a room's log, as one has processed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The chain of an empty log.
    pub fn start(room: &RoomId) -> Self {
        Self(Sha256::new().chain_update(b"secchat/1 log\0").chain_update(room.0).finalize().into())
    }

    /// The chain after one more row.
    #[must_use]
    pub fn after(&self, seq: u64, kind: RowKind, bytes: &[u8]) -> Self {
        let kind = match kind {
            RowKind::Commit => 0u8,
            RowKind::Proposal => 1,
            RowKind::Message => 2,
        };
        let hash = Sha256::new().chain_update(self.0).chain_update(seq.to_be_bytes()).chain_update([kind]);
        Self(hash.chain_update(Sha256::digest(bytes)).finalize().into())
    }
}
