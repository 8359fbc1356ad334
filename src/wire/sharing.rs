//! What may be shared: rules of a server or of a room's owner, which both ends of a transfer hold to.

use super::id::RoomId;
use super::name::Name;
use super::{DecodeError, decode, encode};
use crate::crypto::identity::{Identity, PublicKey, Purpose};
use crate::limits::SHARING_MAX;
use minicbor::bytes::{ByteArray, ByteVec};
use serde::{Deserialize, Serialize};

/// One rule: all of its limits hold for whatever is in its scope.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Rule {
    /// Named in refusals; never used twice by one server or room.
    #[n(0)]
    pub id: u64,
    /// For whom and where.
    #[n(1)]
    pub scope: Scope,
    /// What is not allowed.
    #[n(2)]
    pub limits: Limits,
    /// For people.
    #[n(3)]
    pub reason: Option<String>,
}

/// For whom and where a rule holds.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Scope {
    /// Everybody, wherever the rule's maker has a say.
    #[n(0)]
    All,
    /// What is found or offered through one room.
    #[n(1)]
    Room(#[n(0)] RoomId),
    /// What one person sends and fetches.
    #[n(2)]
    User(#[n(0)] ByteArray<32>),
}

impl Scope {
    /// One person.
    pub fn user(key: &PublicKey) -> Self {
        Self::User((*key.as_bytes()).into())
    }
}

/// What is not allowed. Empty lists allow everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Nothing is shared.
    #[n(0)]
    #[cbor(default)]
    pub off: bool,
    /// Largest file, and folder as a whole, bytes.
    #[n(1)]
    pub max_size: Option<u64>,
    /// Globs of names that are refused; `*.exe` is an extension.
    #[n(2)]
    #[cbor(default)]
    pub deny_names: Vec<String>,
    /// If any: only these.
    #[n(3)]
    #[cbor(default)]
    pub allow_names: Vec<String>,
    /// MIME types, as the first bytes of the file tell, that are refused; `video/*` for a whole kind.
    #[n(4)]
    #[cbor(default)]
    pub deny_types: Vec<String>,
    /// If any: only these.
    #[n(5)]
    #[cbor(default)]
    pub allow_types: Vec<String>,
    /// BLAKE3 roots that are refused, 64 hex digits each.
    #[n(6)]
    #[cbor(default)]
    pub deny_roots: Vec<String>,
    /// Files that one person sends in a day.
    #[n(7)]
    pub files_a_day: Option<u64>,
    /// Bytes that one person sends in a day.
    #[n(8)]
    pub bytes_a_day: Option<u64>,
    /// Transfers that one person sends at once.
    #[n(9)]
    pub at_once: Option<u32>,
    /// If any: only these may share; `NAME@SERVER` each.
    #[n(10)]
    #[cbor(default)]
    pub only: Vec<String>,
}

/// All rules of one server. Only signed it leaves the server.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Document {
    /// Whose they are.
    #[n(0)]
    pub server: Name,
    /// Grows with each change, and never goes back.
    #[n(1)]
    pub version: u64,
    /// By their ids.
    #[n(2)]
    pub rules: Vec<Rule>,
    /// When it was changed last, Unix milliseconds.
    #[n(3)]
    pub issued_ms: u64,
}

/// As it travels: the signature is over the bytes of the document.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Signed {
    #[n(0)]
    document: ByteVec,
    #[n(1)]
    signature: ByteArray<64>,
}

/// Why bytes are not the rules of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// Not a document.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Not signed by the server.
    #[error("the server has not signed it")]
    Signature,
    /// Another server's.
    #[error("it is of another server")]
    OtherServer,
}

impl Document {
    /// Signed by its server, as it is pushed: at most [`SHARING_MAX`] bytes if whoever makes it keeps to that.
    pub fn sign(&self, server: &Identity) -> Vec<u8> {
        let document = encode(self);
        let signature = server.sign(Purpose::Sharing, &[&document]).into();
        encode(&Signed { document: document.into(), signature })
    }

    /// Reads what this server, whose key this is, has signed.
    pub fn open(bytes: &[u8], server: &Name, key: &PublicKey) -> Result<Self, BadDocument> {
        let signed: Signed = decode(bytes, SHARING_MAX)?;
        key.verify(Purpose::Sharing, &[&signed.document], &*signed.signature).map_err(|_| BadDocument::Signature)?;
        let document: Self = decode(&signed.document, SHARING_MAX)?;
        if document.server == *server { Ok(document) } else { Err(BadDocument::OtherServer) }
    }
}

/// A rule as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct RuleView {
    pub id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub limits: Limits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_itself_has_signed_is_opened() {
        let (server, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let name = |text: &str| Name::parse(text).unwrap();
        let limits = Limits { off: true, ..Limits::default() };
        let rule = Rule { id: 1, scope: Scope::user(&other.public()), limits, reason: Some("spam".into()) };
        let document = Document { server: name("s1"), version: 7, rules: vec![rule], issued_ms: 9 };
        let bytes = document.sign(&server);
        assert_eq!(Document::open(&bytes, &name("s1"), &server.public()), Ok(document));
        assert_eq!(Document::open(&bytes, &name("s1"), &other.public()), Err(BadDocument::Signature));
        assert_eq!(Document::open(&bytes, &name("s2"), &server.public()), Err(BadDocument::OtherServer));
        for len in 0..bytes.len() {
            assert!(Document::open(&bytes[..len], &name("s1"), &server.public()).is_err(), "{len}");
        }
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert!(Document::open(&forged, &name("s1"), &server.public()).is_err(), "{at}");
        }
    }
}
