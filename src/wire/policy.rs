//! The room policy: an extension of the MLS group context that only the owner's leaf changes.

use super::{DecodeError, decode, encode};
use crate::crypto::identity::PublicKey;

/// The MLS extension type of the policy (private-use range of RFC 9420 §17.3).
pub const POLICY_EXTENSION: u16 = 0xF5EC;
/// Largest encoded policy, bytes.
pub const POLICY_MAX: usize = 12 * 1024;
/// Moderators of one room.
pub const MODERATORS_MAX: usize = 64;

/// Keys that one room bans, and that it mutes.
pub const ROOM_BANS_MAX: usize = 64;
/// Longest topic, bytes.
pub const TOPIC_MAX: usize = 256;
/// Rules on sharing in one room.
pub const ROOM_RULES_MAX: usize = 8;

/// What kind of conversation a group is; decides which commits are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum RoomKind {
    /// Anyone may join.
    #[n(0)]
    Public,
    /// A join needs a signature by the join key.
    #[n(1)]
    Private,
    /// Two members; neither joins nor leaves.
    #[n(2)]
    Direct,
}

/// Owner, moderators, join key and version of a room.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Policy {
    /// Grows by one with each change.
    #[n(0)]
    pub version: u64,
    /// Public, private or direct.
    #[n(1)]
    pub kind: RoomKind,
    /// The label shown to people; part of the policy so that a server cannot relabel a room.
    #[n(2)]
    pub label: String,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    owner: [u8; 32],
    #[n(4)]
    moderators: Vec<minicbor::bytes::ByteArray<32>>,
    #[n(5)]
    join_key: Option<minicbor::bytes::ByteArray<32>>,
    /// What the room is about, as its owner says.
    #[n(6)]
    #[cbor(default)]
    pub topic: String,
    #[n(7)]
    #[cbor(default)]
    banned: Vec<minicbor::bytes::ByteArray<32>>,
    #[n(8)]
    #[cbor(default)]
    muted: Vec<minicbor::bytes::ByteArray<32>>,
    /// What may not be shared here.
    #[n(9)]
    #[cbor(default)]
    pub rules: Vec<super::sharing::Rule>,
}

impl Policy {
    /// The first policy of a room. A private room has a join key, the others have none.
    pub fn new(kind: RoomKind, label: String, owner: PublicKey, join_key: Option<PublicKey>) -> Self {
        let join_key = join_key.map(|k| (*k.as_bytes()).into());
        let (owner, moderators) = (*owner.as_bytes(), Vec::new());
        let (topic, banned, muted, rules) = (String::new(), Vec::new(), Vec::new(), Vec::new());
        Self { version: 1, kind, label, owner, moderators, join_key, topic, banned, muted, rules }
    }

    /// The creator's key, or the key of who got the room from its owner.
    pub const fn owner(&self) -> PublicKey {
        PublicKey::from_bytes(self.owner)
    }

    /// Whether this key is a moderator's.
    pub fn is_moderator(&self, key: &PublicKey) -> bool {
        self.moderators.iter().any(|k| **k == *key.as_bytes())
    }

    /// Whether this key may not join.
    pub fn is_banned(&self, key: &PublicKey) -> bool {
        self.banned.iter().any(|k| **k == *key.as_bytes())
    }

    /// Whether what this key sends is not taken. The owner is never muted.
    pub fn is_muted(&self, key: &PublicKey) -> bool {
        self.owner != *key.as_bytes() && self.muted.iter().any(|k| **k == *key.as_bytes())
    }

    /// Keys that may propose and commit a Remove beside the owner.
    pub fn moderators(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.moderators.iter().map(|k| PublicKey::from_bytes(**k))
    }

    /// Keys that may not join.
    pub fn banned(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.banned.iter().map(|k| PublicKey::from_bytes(**k))
    }

    /// Keys whose messages are not taken.
    pub fn muted(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.muted.iter().map(|k| PublicKey::from_bytes(**k))
    }

    /// The public half of the join key; `None` unless the room is private.
    pub fn join_key(&self) -> Option<PublicKey> {
        self.join_key.as_ref().map(|k| PublicKey::from_bytes(**k))
    }

    /// The same policy with another join key and the next version: a rotation.
    pub fn rotated(&self, join_key: PublicKey) -> Self {
        Self { version: self.version.saturating_add(1), join_key: Some((*join_key.as_bytes()).into()), ..self.clone() }
    }

    /// The same policy with these moderators and the next version.
    pub fn with_moderators(&self, moderators: impl IntoIterator<Item = PublicKey>) -> Self {
        let moderators = moderators.into_iter().map(|k| (*k.as_bytes()).into()).collect();
        Self { version: self.version.saturating_add(1), moderators, ..self.clone() }
    }

    /// The same policy with these banned and the next version.
    pub fn with_banned(&self, banned: impl IntoIterator<Item = PublicKey>) -> Self {
        let banned = banned.into_iter().map(|k| (*k.as_bytes()).into()).collect();
        Self { version: self.version.saturating_add(1), banned, ..self.clone() }
    }

    /// The same policy with these muted and the next version.
    pub fn with_muted(&self, muted: impl IntoIterator<Item = PublicKey>) -> Self {
        let muted = muted.into_iter().map(|k| (*k.as_bytes()).into()).collect();
        Self { version: self.version.saturating_add(1), muted, ..self.clone() }
    }

    /// The same policy with this topic and the next version.
    pub fn with_topic(&self, topic: impl Into<String>) -> Self {
        Self { version: self.version.saturating_add(1), topic: topic.into(), ..self.clone() }
    }

    /// The same policy with another owner, who is no moderator beside that and not muted, and the next version.
    pub fn with_owner(&self, owner: &PublicKey) -> Self {
        let others = |keys: &[minicbor::bytes::ByteArray<32>]| -> Vec<_> {
            keys.iter().filter(|k| ***k != *owner.as_bytes()).cloned().collect()
        };
        let (moderators, muted) = (others(&self.moderators), others(&self.muted));
        let version = self.version.saturating_add(1);
        Self { version, owner: *owner.as_bytes(), moderators, muted, ..self.clone() }
    }

    /// The same policy with these rules on sharing and the next version.
    pub fn with_rules(&self, rules: Vec<super::sharing::Rule>) -> Self {
        Self { version: self.version.saturating_add(1), rules, ..self.clone() }
    }

    /// The encoded form, the extension's data.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the extension's data; a private room without a join key is malformed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let policy: Self = decode(bytes, POLICY_MAX)?;
        let well_formed = policy.moderators.len() <= MODERATORS_MAX
            && policy.banned.len() <= ROOM_BANS_MAX
            && policy.muted.len() <= ROOM_BANS_MAX
            && policy.topic.len() <= TOPIC_MAX
            && policy.rules.len() <= ROOM_RULES_MAX
            && policy.label.len() <= crate::limits::NAME_MAX
            && (policy.kind == RoomKind::Private) == policy.join_key.is_some();
        if well_formed { Ok(policy) } else { Err(DecodeError::Malformed) }
    }
}
