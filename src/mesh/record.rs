//! A server's signed word on itself and its links.

use std::sync::Arc;
use std::time::Duration;

use super::{ENDPOINTS_MAX, NEIGHBOURS_MAX};
use crate::crypto::identity::{BadSignature, Identity, PublicKey, Purpose};
use crate::crypto::pair::Standing;
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
    /// Its standing X25519 key: what it says to another server has a tag by the two servers' keys.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub standing: [u8; 32],
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
            standing: Standing::of(identity).public(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(n: u8) -> Identity {
        Identity::from_seed(&[n; 32])
    }

    fn record() -> Record {
        let (authority, server) = (identity(1), identity(2));
        let name = Name::parse("s1").unwrap();
        let vouch = ServerCert::issue(&authority, name.clone(), server.public(), 1 << 40);
        let mut said = Statement::new(&server, name, Some(vouch), number_at(1000) + 7);
        (said.number, said.issued_ms) = (number_at(1000) + 9, 2000);
        said.endpoints = vec!["chat.example:7000".into(), "[2001:db8::1]:7000".into()];
        said.neighbours = (3..6).map(|n| Neighbour::new(NodeId::of(&identity(n).public()), 1000)).collect();
        Record::sign(&server, said)
    }

    #[test]
    fn a_record_reads_back_and_holds_and_no_part_of_it_does() {
        let record = record();
        let back = Record::read(record.bytes()).unwrap();
        assert_eq!((&back, back.verify()), (&record, Ok(())));
        for len in 0..record.bytes().len() {
            assert!(Record::read(&record.bytes()[..len]).is_err(), "{len}");
        }
        assert!(Record::read(&[&record.bytes()[..], &[0]].concat()).is_err(), "something follows");
    }

    #[test]
    fn the_largest_record_fits() {
        let server = identity(2);
        let name = Name::parse(&"n".repeat(48)).unwrap();
        let vouch = ServerCert::issue(&server, name.clone(), server.public(), u64::MAX);
        let mut said = Statement::new(&server, name, Some(vouch), u64::MAX);
        (said.number, said.issued_ms) = (u64::MAX, u64::MAX);
        said.endpoints = vec!["e".repeat(ENDPOINT_MAX); ENDPOINTS_MAX];
        said.neighbours = vec![Neighbour::new(NodeId([255; 32]), u32::MAX); NEIGHBOURS_MAX];
        let record = Record::sign(&server, said.clone());
        assert!(Record::read(record.bytes()).is_ok() && record.bytes().len() <= RECORD_MAX);
        for excess in 0..3 {
            let mut said = said.clone();
            match excess {
                0 => said.endpoints.push("e".into()),
                1 => said.neighbours.push(Neighbour::new(NodeId([1; 32]), 1)),
                _ => said.endpoints = vec!["line\nbreak".into()],
            }
            assert!(Record::read(Record::sign(&server, said).bytes()).is_err());
        }
    }

    #[test]
    fn clocks_may_differ_by_a_day() {
        let (record, day) = (record(), 24 * 3600 * 1000);
        assert!(record.is_plausible(2000) && record.is_plausible(0) && record.is_plausible(2000 + day));
        assert!(!record.is_plausible(2001 + day), "long ago");
        let server = identity(2);
        for absurd in 0..3 {
            let mut said = record.said().clone();
            match absurd {
                0 => said.number = number_at(day + 3000),
                1 => said.instance = number_at(day + 3000),
                _ => said.issued_ms = day + 3000,
            }
            assert!(!Record::sign(&server, said).is_plausible(2000));
        }
    }

    proptest! {
        #[test]
        fn a_changed_record_is_not_the_servers_word(at: prop::sample::Index, flip in 1..=255u8) {
            let mut bytes = record().bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(Record::read(&bytes).is_err() || Record::read(&bytes).unwrap().verify().is_err());
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(Record::read(&bytes).is_err_and(|_| true) || Record::read(&bytes).unwrap().verify().is_err());
        }
    }
}
