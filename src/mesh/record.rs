//! A server's signed word on itself and its links.

use std::sync::Arc;
use std::time::Duration;

use super::{ENDPOINTS_MAX, NEIGHBOURS_MAX};
use crate::crypto::identity::{BadSignature, Identity, PublicKey, Purpose};
use crate::wire::name::Name;
use crate::wire::vouch::{NodeId, SERVER_CERT_MAX, ServerCert};
use crate::wire::{DecodeError, decode, encode};

/// Largest record, bytes.
pub const RECORD_MAX: usize = SIGNATURE_LEN + SERVER_CERT_MAX + 256 + ENDPOINTS_MAX * 136 + NEIGHBOURS_MAX * 48;
/// Longest address of a server, bytes.
pub const ENDPOINT_MAX: usize = 128;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Statement {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    key: [u8; 32],
    /// Who vouches for key and name.
    #[n(1)]
    pub vouch: Option<ServerCert>,
    /// The server's name.
    #[n(2)]
    pub name: Name,
    /// Its process: begins with the time of its start, as [`number_at`].
    #[n(3)]
    pub instance: u64,
    /// Grows with each record, also across restarts: begins with the time of the process's start, as [`number_at`].
    #[n(4)]
    pub number: u64,
    /// Milliseconds of the Unix clock when it was signed.
    #[n(5)]
    pub issued_ms: u64,
    /// Where clients find the server.
    #[n(6)]
    pub endpoints: Vec<String>,
    /// Its links.
    #[n(7)]
    pub neighbours: Vec<Neighbour>,
}

/// One link of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Neighbour {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    id: [u8; 32],
    /// The link's round trip, microseconds.
    #[n(1)]
    pub rtt_micros: u32,
}

impl Neighbour {
    /// A link to `id`.
    pub const fn new(id: NodeId, rtt_micros: u32) -> Self {
        Self { id: id.0, rtt_micros }
    }

    /// Where the link leads.
    pub const fn id(&self) -> NodeId {
        NodeId(self.id)
    }
}

/// A record as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    id: NodeId,
    statement: Statement,
    bytes: Arc<[u8]>,
}

impl Statement {
    /// The key of the server that says it.
    pub const fn key(&self) -> PublicKey {
        PublicKey::from_bytes(self.key)
    }

    /// Of `identity` itself, without links.
    pub fn new(identity: &Identity, name: Name, vouch: Option<ServerCert>, instance: u64) -> Self {
        Self {
            key: *identity.public().as_bytes(),
            vouch,
            name,
            instance,
            number: 0,
            issued_ms: 0,
            endpoints: Vec::new(),
            neighbours: Vec::new(),
        }
    }
}

impl Record {
    /// Signs a statement of `identity`'s own.
    pub fn sign(identity: &Identity, statement: Statement) -> Self {
        let said = encode(&statement);
        let mut bytes = identity.sign(Purpose::LinkState, &[&said]).to_vec();
        bytes.extend_from_slice(&said);
        Self { id: NodeId::of(&statement.key()), statement, bytes: bytes.into() }
    }

    /// Reads a record; believes nothing yet.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > RECORD_MAX {
            return Err(DecodeError::TooLong { len: bytes.len(), max: RECORD_MAX });
        }
        let said = bytes.get(SIGNATURE_LEN..).ok_or(DecodeError::Malformed)?;
        let statement: Statement = decode(said, RECORD_MAX)?;
        let endpoint = |text: &String| text.len() <= ENDPOINT_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        let sound = statement.neighbours.len() <= NEIGHBOURS_MAX
            && statement.endpoints.len() <= ENDPOINTS_MAX
            && statement.endpoints.iter().all(endpoint);
        if !sound {
            return Err(DecodeError::Malformed);
        }
        Ok(Self { id: NodeId::of(&statement.key()), statement, bytes: bytes.into() })
    }

    /// Whether the server itself has said it.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let (signature, said) = self.bytes.split_at_checked(SIGNATURE_LEN).ok_or(BadSignature)?;
        self.statement.key().verify(Purpose::LinkState, &[said], signature)
    }

    /// Whether a clock within a day of ours can have made it.
    pub fn is_plausible(&self, wall_ms: u64) -> bool {
        let said = &self.statement;
        let latest = wall_ms.saturating_add(CLOCKS_APART);
        said.number >> COUNTER_BITS <= latest
            && said.instance >> COUNTER_BITS <= latest
            && said.issued_ms <= latest
            && said.issued_ms.saturating_add(CLOCKS_APART) >= wall_ms
    }

    /// Whose it is.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// What it says.
    pub const fn said(&self) -> &Statement {
        &self.statement
    }

    /// The encoded form.
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }
}

/// The first number, or instance, of a process that starts at this time.
pub const fn number_at(wall_ms: u64) -> u64 {
    wall_ms << COUNTER_BITS
}

/// The longest that a record lives without a newer one.
pub const MAX_AGE: Duration = Duration::from_secs(100);

const SIGNATURE_LEN: usize = 64;
const COUNTER_BITS: u32 = 16;
/// Milliseconds by which clocks of servers may differ.
const CLOCKS_APART: u64 = 24 * 3600 * 1000;
