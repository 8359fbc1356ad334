//! What may be shared: rules of a server or of a room's owner, which both ends of a transfer hold to.

use super::id::RoomId;
use crate::crypto::identity::PublicKey;
use minicbor::bytes::ByteArray;
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
