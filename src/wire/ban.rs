//! Bans: a server's signed word that somebody does not get in, and how servers tell each other of theirs.

mod network;

pub use network::{BadNetwork, Network};

use super::name::{FullName, Name};
use super::vouch::{NodeId, SERVER_CERT_MAX, ServerCert};
use super::{DecodeError, decode, encode};
use crate::crypto::identity::{BadSignature, Fingerprint, Identity, PublicKey, Purpose};
use crate::limits::{NAME_MAX, REASON_MAX};
use minicbor::bytes::{ByteArray, ByteVec};

/// Largest encoded [`SignedBan`], bytes.
pub const BAN_MAX: usize = SIGNATURE_LEN + REASON_MAX + BY_MAX + 3 * NAME_MAX + 192;
/// Who made a ban: `owner`, or a full name, bytes.
pub const BY_MAX: usize = 2 * NAME_MAX + 1;
/// Largest encoded [`Page`], bytes.
pub const PAGE_MAX: usize = 64 * 1024;
/// Bans in one [`Page`]: each may cost its reader a verification.
pub const PAGE_BANS: usize = 128;
/// Servers that one [`Summary`] tells of.
pub const ORIGINS_MAX: usize = 1024;
/// Largest encoded [`Summary`], bytes.
pub const SUMMARY_MAX: usize = 16 + ORIGINS_MAX * 72;

/// Whom a ban is for.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Target {
    /// Who has a name, and the key behind it under any name.
    #[n(0)]
    Name {
        /// The name.
        #[n(0)]
        name: FullName,
        /// SHA-256 of the key, once that is known.
        #[n(1)]
        key: Option<ByteArray<32>>,
    },
    /// A key, by its SHA-256, under any name.
    #[n(1)]
    Key(#[n(0)] ByteArray<32>),
    /// Whoever connects from there.
    #[n(2)]
    Network(#[n(0)] Network),
}

impl Target {
    /// The key that it is for, if that is known.
    pub fn key(&self) -> Option<Fingerprint> {
        match self {
            Self::Name { key, .. } => key.as_ref().map(|key| Fingerprint(**key)),
            Self::Key(key) => Some(Fingerprint(**key)),
            Self::Network(_) => None,
        }
    }

    /// The name that it is for.
    pub const fn name(&self) -> Option<&FullName> {
        if let Self::Name { name, .. } = self { Some(name) } else { None }
    }

    /// The network that it is for.
    pub const fn network(&self) -> Option<Network> {
        if let Self::Network(network) = self { Some(*network) } else { None }
    }
}

/// What a server says of a ban of its own. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Ban {
    /// The server's identity key; see [`Ban::origin`].
    #[n(0)]
    pub key: ByteArray<32>,
    /// The server's name.
    #[n(1)]
    pub server: Name,
    /// Names the ban among this server's.
    #[n(2)]
    pub id: u64,
    /// Grows with everything that this server says of any ban: of two words on one ban the one with the higher number holds.
    #[n(3)]
    pub number: u64,
    /// Whom it is for.
    #[n(4)]
    pub target: Target,
    /// For people, at most [`REASON_MAX`] bytes; may be empty.
    #[n(5)]
    pub reason: String,
    /// Who made it, at most [`BY_MAX`] bytes.
    #[n(6)]
    pub by: String,
    /// When it was made.
    #[n(7)]
    pub since_ms: u64,
    /// When it ends by itself.
    #[n(8)]
    pub until_ms: Option<u64>,
    /// It is over: this says so to those who know it.
    #[n(9)]
    pub lifted: bool,
    /// Whether the other servers of the mesh hold to it.
    #[n(10)]
    pub mesh: bool,
}

impl Ban {
    /// Of a server, numbered; the rest is the caller's.
    pub fn new(origin: &PublicKey, server: Name, (id, number): (u64, u64), target: Target) -> Self {
        Self {
            key: (*origin.as_bytes()).into(),
            server,
            id,
            number,
            target,
            reason: String::new(),
            by: String::new(),
            since_ms: 0,
            until_ms: None,
            lifted: false,
            mesh: false,
        }
    }

    /// Whose it is.
    pub fn origin(&self) -> PublicKey {
        PublicKey::from_bytes(*self.key)
    }

    /// Whether it still keeps anybody out.
    pub fn holds(&self, now_ms: u64) -> bool {
        !self.lifted && !self.is_over(now_ms)
    }

    /// Whether its time has passed.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until| until <= now_ms)
    }

    /// No server shuts a large part of the internet for all others.
    fn is_sound(&self) -> bool {
        let wide = self.mesh && self.target.network().is_some_and(|network| network.is_wide());
        !wide && self.reason.len() <= REASON_MAX && self.by.len() <= BY_MAX
    }
}

/// A ban as it is kept and as it travels: the signature, then what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBan {
    ban: Ban,
    signature: [u8; SIGNATURE_LEN],
}

impl SignedBan {
    /// Signs a ban of `identity`'s own.
    pub fn sign(identity: &Identity, ban: Ban) -> Self {
        let signature = identity.sign(Purpose::Ban, &[&encode(&ban)]);
        Self { ban, signature }
    }

    /// Reads the encoded form; believes nothing yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BAN_MAX {
            return Err(DecodeError::TooLong { len: bytes.len(), max: BAN_MAX });
        }
        let (signature, said) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
        let ban: Ban = decode(said, BAN_MAX)?;
        // One ban has one encoding: what is written again is what was signed.
        if !ban.is_sound() || encode(&ban) != said {
            return Err(DecodeError::Malformed);
        }
        Ok(Self { ban, signature: *signature })
    }

    /// Whether the server that it names has said it.
    pub fn verify(&self) -> Result<(), BadSignature> {
        self.ban.origin().verify(Purpose::Ban, &[&encode(&self.ban)], &self.signature)
    }

    /// What it says.
    pub const fn said(&self) -> &Ban {
        &self.ban
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.signature.to_vec();
        bytes.extend_from_slice(&encode(&self.ban));
        bytes
    }
}

/// Which bans of which servers somebody knows: at most [`ORIGINS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Summary {
    /// One entry for each server.
    #[n(0)]
    pub known: Vec<Known>,
}

/// What is known of one server's bans.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Known {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    origin: [u8; 32],
    /// The highest number that was taken.
    #[n(1)]
    pub highest: u64,
    /// Over id and number of each ban that holds, in order of their ids.
    #[n(2)]
    pub digest: ByteArray<16>,
}

impl Known {
    /// Of a server.
    pub fn new(origin: NodeId, highest: u64, digest: [u8; 16]) -> Self {
        Self { origin: origin.0, highest, digest: digest.into() }
    }

    /// Whose bans.
    pub const fn origin(&self) -> NodeId {
        NodeId(self.origin)
    }
}

impl Summary {
    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let summary: Self = decode(bytes, SUMMARY_MAX)?;
        if summary.known.len() > ORIGINS_MAX { Err(DecodeError::Malformed) } else { Ok(summary) }
    }
}

/// Some bans of one server, in order of their numbers, from that server or from another one that knows them.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Page {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    origin: [u8; 32],
    /// The name of the server whose bans they are.
    #[n(1)]
    pub server: Name,
    /// Who vouches for key and name.
    #[n(2)]
    pub vouch: Option<ServerCert>,
    /// Encoded [`SignedBan`]s, at most [`PAGE_BANS`].
    #[n(3)]
    pub bans: Vec<ByteVec>,
}

impl Page {
    /// As many as fit of those that are left, which are taken away from them; `None` where there are none.
    pub fn fill<'a>(
        origin: &PublicKey,
        server: &Name,
        vouch: Option<&ServerCert>,
        left: &mut std::iter::Peekable<impl Iterator<Item = &'a SignedBan>>,
    ) -> Option<Self> {
        let mut page =
            Self { origin: *origin.as_bytes(), server: server.clone(), vouch: vouch.cloned(), bans: Vec::new() };
        let mut room = PAGE_MAX - PAGE_HEAD;
        while let Some(ban) = left.peek().filter(|_| page.bans.len() < PAGE_BANS) {
            let bytes = ban.to_bytes();
            let Some(rest) = room.checked_sub(bytes.len()) else { break };
            room = rest;
            page.bans.push(bytes.into());
            left.next();
        }
        (!page.bans.is_empty()).then_some(page)
    }

    /// The key of the server whose bans they are.
    pub const fn origin(&self) -> PublicKey {
        PublicKey::from_bytes(self.origin)
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form; the bans in it are still to be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let page: Self = decode(bytes, PAGE_MAX)?;
        if page.bans.len() > PAGE_BANS { Err(DecodeError::Malformed) } else { Ok(page) }
    }
}

const SIGNATURE_LEN: usize = 64;
/// What stands before the bans of a page, bytes; and before each of them.
const PAGE_HEAD: usize = SERVER_CERT_MAX + 256 + PAGE_BANS * ITEM_HEAD;
const ITEM_HEAD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(n: u8) -> Identity {
        Identity::from_seed(&[n; 32])
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn ban(target: Target) -> Ban {
        let ban = Ban::new(&identity(1).public(), name("s1"), (7, 1 << 40), target);
        Ban { reason: "spam".into(), by: "owner".into(), since_ms: 5, until_ms: Some(9), mesh: true, ..ban }
    }

    fn bob() -> Target {
        Target::Name { name: FullName::new(name("bob"), name("s2")), key: Some([3; 32].into()) }
    }

    #[test]
    fn a_ban_reads_back_and_holds_and_no_part_of_it_does() {
        let network = Target::Network("2001:db8::/32".parse().unwrap());
        for target in [bob(), Target::Key([4; 32].into()), network] {
            let signed = SignedBan::sign(&identity(1), ban(target));
            let back = SignedBan::from_bytes(&signed.to_bytes()).unwrap();
            assert_eq!((&back, back.verify()), (&signed, Ok(())));
            for len in 0..signed.to_bytes().len() {
                assert!(SignedBan::from_bytes(&signed.to_bytes()[..len]).is_err(), "{len}");
            }
            assert!(SignedBan::from_bytes(&[&signed.to_bytes()[..], &[0]].concat()).is_err(), "something follows");
        }
    }

    #[test]
    fn no_server_bans_in_the_name_of_another() {
        let forged = SignedBan::sign(&identity(2), ban(bob()));
        assert!(SignedBan::from_bytes(&forged.to_bytes()).unwrap().verify().is_err());
    }

    #[test]
    fn the_largest_ban_fits_and_larger_ones_do_not() {
        let long = |letter: &str| name(&letter.repeat(NAME_MAX));
        let target = Target::Name { name: FullName::new(long("a"), long("b")), key: Some([255; 32].into()) };
        let most = Ban::new(&identity(1).public(), long("c"), (u64::MAX, u64::MAX), target);
        let (reason, by) = ("r".repeat(REASON_MAX), "b".repeat(BY_MAX));
        let most = Ban { reason, by, since_ms: u64::MAX, until_ms: Some(u64::MAX), mesh: true, ..most };
        let signed = SignedBan::sign(&identity(1), most.clone());
        assert!(SignedBan::from_bytes(&signed.to_bytes()).is_ok());
        for ban in
            [Ban { reason: "r".repeat(REASON_MAX + 1), ..ban(bob()) }, Ban { by: "b".repeat(BY_MAX + 1), ..ban(bob()) }]
        {
            assert!(SignedBan::from_bytes(&SignedBan::sign(&identity(1), ban).to_bytes()).is_err());
        }
        let bans = vec![signed; 300];
        let (mut left, mut pages) = (bans.iter().peekable(), 0);
        let vouch = ServerCert::issue(&identity(2), long("c"), identity(1).public(), u64::MAX);
        while let Some(page) = Page::fill(&identity(1).public(), &long("c"), Some(&vouch), &mut left) {
            assert_eq!(Page::from_bytes(&page.to_bytes()), Ok(page));
            pages += 1;
        }
        assert!(pages > 2 && left.next().is_none());
    }

    #[test]
    fn half_the_internet_is_not_shut_for_a_mesh() {
        let wide = |mesh| Ban { mesh, ..ban(Target::Network("0.0.0.0/0".parse().unwrap())) };
        assert!(SignedBan::from_bytes(&SignedBan::sign(&identity(1), wide(true)).to_bytes()).is_err());
        assert!(SignedBan::from_bytes(&SignedBan::sign(&identity(1), wide(false)).to_bytes()).is_ok());
    }

    #[test]
    fn the_largest_summary_fits() {
        let known = vec![Known::new(NodeId([255; 32]), u64::MAX, [255; 16]); ORIGINS_MAX];
        let mut most = Summary { known };
        assert_eq!(Summary::from_bytes(&most.to_bytes()), Ok(most.clone()));
        most.known.push(Known::new(NodeId([1; 32]), 1, [1; 16]));
        assert!(Summary::from_bytes(&most.to_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_ban_is_not_the_servers_word(at: prop::sample::Index, flip in 1..=255u8) {
            let mut bytes = SignedBan::sign(&identity(1), ban(bob())).to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(SignedBan::from_bytes(&bytes).map_or(true, |ban| ban.verify().is_err()));
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(SignedBan::from_bytes(&bytes).map_or(true, |ban| ban.verify().is_err()));
            let _ = (Page::from_bytes(&bytes), Summary::from_bytes(&bytes));
        }
    }
}
