//! What can be done in a room by who governs it, and what each comes to in the room as it is now.

use super::problem::{NOT_FOUND, Problem, REFUSED};
use crate::crypto::identity::PublicKey;
use crate::group::Room;
use crate::wire::policy::{Policy, RoomKind};
use std::collections::BTreeSet;

/// What is done to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Kick(PublicKey),
    Ban(PublicKey),
    Unban(PublicKey),
    Mute(PublicKey),
    Unmute(PublicKey),
    Op(PublicKey),
    Deop(PublicKey),
    Topic(String),
    HandOver(PublicKey),
    /// Another secret by the owner's wish; of the owner's own making if true.
    Secret(bool),
    /// Another secret because somebody who is out knows the present one.
    Rotate,
}

/// What an act comes to in the room as it is now.
pub(super) enum Step {
    /// It is so already.
    Done,
    Never(Problem),
    Commit {
        remove: Option<PublicKey>,
        policy: Option<Policy>,
        secret: bool,
    },
}

impl Act {
    /// The command that it is.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Kick(_) => "kick",
            Self::Ban(_) => "ban",
            Self::Unban(_) => "unban",
            Self::Mute(_) => "mute",
            Self::Unmute(_) => "unmute",
            Self::Op(_) => "op",
            Self::Deop(_) => "deop",
            Self::Topic(_) => "topic",
            Self::HandOver(_) => "owner",
            Self::Secret(_) | Self::Rotate => "password",
        }
    }

    fn is_allowed(&self, room: &Room) -> bool {
        let (policy, me) = (room.policy(), room.own_key());
        match self {
            _ if policy.owner() == me => true,
            Self::Kick(key) => policy.is_moderator(&me) && *key != policy.owner() && !policy.is_moderator(key),
            _ => false,
        }
    }

    /// What is to be committed; `stale` if somebody who is out knows the secret.
    pub fn step(&self, room: &Room, stale: bool) -> Step {
        let policy = room.policy();
        if !self.is_allowed(room) {
            let text = if matches!(self, Self::Kick(_)) {
                "a moderator may kick who is neither owner nor moderator; others only the owner may"
            } else {
                "only the owner of this room may do this"
            };
            return Step::Never(Problem::new("not_allowed", REFUSED, text));
        }
        let governs = policy.owner() == room.own_key();
        let private = policy.kind == RoomKind::Private;
        let there = |key: &PublicKey| room.member(key).is_some();
        let change = |policy| Step::Commit { remove: None, policy: Some(policy), secret: false };
        match self {
            Self::Kick(key) if !there(key) => Step::Done,
            Self::Kick(key) => {
                // Back in a public room, they would still be a moderator.
                let lowered = governs && policy.is_moderator(key);
                let policy = lowered.then(|| policy.with_moderators(without(policy.moderators(), key)));
                Step::Commit { remove: Some(*key), policy, secret: governs && private }
            }
            Self::Ban(key) if policy.is_banned(key) && !there(key) => Step::Done,
            Self::Ban(key) => {
                let next = policy.with_banned(with(policy.banned(), key));
                let next = next.with_moderators(without(policy.moderators(), key));
                let next = next.with_muted(without(policy.muted(), key));
                let secret = private && (there(key) || stale);
                Step::Commit { remove: there(key).then_some(*key), policy: Some(next), secret }
            }
            Self::Unban(key) if !policy.is_banned(key) => Step::Done,
            Self::Unban(key) => change(policy.with_banned(without(policy.banned(), key))),
            Self::Mute(key) if policy.is_muted(key) => Step::Done,
            Self::Mute(key) => change(policy.with_muted(with(policy.muted(), key))),
            Self::Unmute(key) if !policy.is_muted(key) => Step::Done,
            Self::Unmute(key) => change(policy.with_muted(without(policy.muted(), key))),
            Self::Op(key) if policy.is_moderator(key) => Step::Done,
            Self::Op(key) => change(policy.with_moderators(with(policy.moderators(), key))),
            Self::Deop(key) if !policy.is_moderator(key) => Step::Done,
            Self::Deop(key) => change(policy.with_moderators(without(policy.moderators(), key))),
            Self::Topic(text) if policy.topic == *text => Step::Done,
            Self::Topic(text) => change(policy.with_topic(text.as_str())),
            Self::HandOver(key) if !there(key) => {
                Step::Never(Problem::new("not_found", NOT_FOUND, "they are not in this room any more"))
            }
            Self::HandOver(key) => change(policy.with_owner(key)),
            Self::Rotate if !stale => Step::Done,
            Self::Secret(_) | Self::Rotate if !private => {
                Step::Never(Problem::new("not_private", REFUSED, "this room is public: it has no password"))
            }
            Self::Secret(_) | Self::Rotate => Step::Commit { remove: None, policy: None, secret: true },
        }
    }
}

fn with(keys: impl Iterator<Item = PublicKey>, key: &PublicKey) -> BTreeSet<PublicKey> {
    keys.chain([*key]).collect()
}

fn without(keys: impl Iterator<Item = PublicKey>, key: &PublicKey) -> BTreeSet<PublicKey> {
    keys.filter(|own| own != key).collect()
}
