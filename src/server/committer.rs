//! Removals: proposed for who is lost, kicked or banned, and committed by a member that is named for it.

use super::core::Core;
use super::io::{LogEvent, SessionId, Space};
use super::room::Room;
use crate::crypto::identity::PublicKey;
use crate::group::{By, Change, Removed};
use crate::limits::{COMMITTER_DEADLINE, COMMITTERS_TRIED, KICK_COMMITTERS_TRIED, ROOM_MEMBERS_MAX};
use crate::wire::frame::Push;
use crate::wire::id::RoomId;
use crate::wire::log::{RemoveReason, RowKind};
use crate::wire::policy::RoomKind;
use std::collections::BTreeSet;
use std::time::Duration;

/// Who commits the removals that stand in the present epoch.
#[derive(Debug, Default)]
pub(super) struct Duty {
    named: Option<(SessionId, Duration)>,
    tried: BTreeSet<SessionId>,
    tries: usize,
    /// Enough were tried: newcomers no longer wait, or one idle member could lock a room.
    given_up: bool,
}

impl Duty {
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.named.map(|(_, deadline)| deadline)
    }

    /// Whether newcomers wait for a removal.
    pub(super) const fn must_come_first(&self) -> bool {
        self.named.is_some() && !self.given_up
    }

    /// An epoch is over. Whoever left out what stood is not asked first again, nor do newcomers wait for it anew.
    pub(super) fn after_commit(&mut self, by: SessionId, done: bool) {
        if done {
            *self = Self::default();
        } else {
            self.named = None;
            self.tried.insert(by);
        }
    }

    fn still(&self, able: &[SessionId], now: Duration) -> bool {
        self.named.is_some_and(|(session, deadline)| now < deadline && able.contains(&session))
    }

    /// The next one of those who are able; whoever was tried comes again when all were.
    fn next(&mut self, able: &[SessionId], now: Duration, expelled: bool) -> Option<SessionId> {
        let first = able.first()?;
        let fresh = able.iter().find(|s| !self.tried.contains(s));
        let session = *fresh.unwrap_or(first);
        if fresh.is_none() {
            self.tried.clear();
        }
        self.tries = self.tries.saturating_add(1);
        self.given_up |= match expelled {
            true => self.tries > KICK_COMMITTERS_TRIED,
            false => fresh.is_none() || self.tries > COMMITTERS_TRIED,
        };
        self.tried.insert(session);
        self.named = Some((session, now + COMMITTER_DEADLINE));
        Some(session)
    }
}

impl Room {
    /// Members at the end of the log that are to stay. In a private room the owner comes first, who can change the secret with the same
    /// commit, then moderators: who has the present join key is not known here, and they are the likeliest.
    fn able(&self) -> Vec<SessionId> {
        let stay = self.subscribers.iter().filter(|(_, key)| !self.wanted.contains_key(key));
        let mut able: Vec<_> = stay.map(|(session, key)| (self.rank(key), *session)).collect();
        able.sort_unstable();
        able.into_iter().map(|(_, session)| session).collect()
    }

    fn rank(&self, key: &PublicKey) -> u8 {
        let policy = self.directory.policy();
        match self.kind {
            RoomKind::Private if policy.owner() == *key => 0,
            RoomKind::Private if policy.is_moderator(key) => 1,
            _ => 2,
        }
    }

    /// Whether somebody is to be out by an act against them.
    fn has_expelled(&self) -> bool {
        self.wanted.values().any(|reason| expelled(*reason))
    }

    /// Whether somebody is on the way out by a moderator's act. Who has left, or is lost, may come back.
    pub(super) fn turns_out(&self, key: &PublicKey) -> bool {
        self.wanted.get(key).is_some_and(|reason| !may_wait(*reason))
    }

    /// Whether this key is to be out, or out for as long as the secret that it knows is in force. Never the owner, who alone can change
    /// that; nor, where nobody is left to commit the removal, anybody from a public room: their own join replaces the leaf, and they could
    /// come back right after it anyway.
    pub(super) fn shuts_out(&self, key: &PublicKey) -> bool {
        let owner = self.directory.policy().owner() == *key;
        let deserted = self.kind == RoomKind::Public && self.able().is_empty();
        let goes = || self.wanted.get(key).is_some_and(|reason| expelled(*reason));
        !owner && (self.barred.contains(key) || (goes() && !deserted))
    }

    /// Whether a commit leaves somebody in whose expulsion stands.
    pub(super) fn leaves_expelled(&self, change: &Change) -> bool {
        let takes_out = |key: &PublicKey| {
            change.removed.iter().any(|r| r.member.key == *key) || change.left.iter().any(|m| m.key == *key)
        };
        let stands = |key: &PublicKey| self.wanted.get(key).is_some_and(|reason| expelled(*reason));
        self.directory.standing().any(|member| stands(&member.key) && !takes_out(&member.key))
    }

    /// Follows a commit that may have removed somebody or changed the secret; before `wanted` forgets them.
    pub(super) fn bar(&mut self, change: &Change, rotated: bool) {
        if rotated {
            self.barred.clear();
            return;
        }
        let acts = |removed: &&Removed| {
            removed.by == By::Committer || self.wanted.get(&removed.member.key).is_some_and(|r| expelled(*r))
        };
        // Somebody may leave just before being kicked.
        let left = change.left.iter().map(|m| m.key).filter(|k| self.wanted.get(k).is_some_and(|r| expelled(*r)));
        let owner = self.directory.policy().owner();
        let kicked: Vec<_> = change
            .removed
            .iter()
            .filter(acts)
            .map(|removed| removed.member.key)
            .chain(left)
            .filter(|key| *key != owner)
            .collect();
        if self.kind == RoomKind::Private && self.barred.len() < ROOM_MEMBERS_MAX {
            self.barred.extend(kicked);
        }
    }

    /// Members that are past their grace and whose removal is not asked for yet.
    fn past_grace(&self, grace: Duration, now: Duration) -> Vec<PublicKey> {
        let past = self.lost.iter().filter(|(key, since)| **since + grace <= now && !self.wanted.contains_key(key));
        past.map(|(key, _)| *key).collect()
    }
}

impl Core {
    /// Asks for the removal of those who are lost, and anew for those whose removal another commit has swept away. Where nobody is
    /// there to commit, it waits; but not what a moderator wants, which must not be forgotten by a restart.
    pub(super) fn propose_removals(&mut self, id: RoomId) {
        if self.space == Space::None {
            return;
        }
        let (now, grace) = (self.now, self.config.lost_grace);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.kind == RoomKind::Direct {
            return;
        }
        let deserted = room.able().is_empty();
        for key in room.past_grace(grace, now).into_iter().filter(|_| !deserted) {
            room.wanted.insert(key, Some(RemoveReason::Lost));
        }
        let standing: BTreeSet<PublicKey> = room.directory.standing().map(|m| m.key).collect();
        let waits = |reason: Option<RemoveReason>| deserted && may_wait(reason);
        let missing = room.wanted.iter().filter(|(key, reason)| !standing.contains(key) && !waits(**reason));
        let missing: Vec<_> = missing.map(|(key, reason)| (*key, *reason)).collect();
        for (key, reason) in missing {
            self.propose_removal(id, &key, reason);
        }
    }

    fn propose_removal(&mut self, id: RoomId, key: &PublicKey, reason: Option<RemoveReason>) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        match room.directory.propose_remove(&self.identity, key) {
            Ok(bytes) => {
                self.append(id, RowKind::Proposal, bytes, reason, None);
            }
            Err(e) => {
                room.wanted.remove(key);
                self.out.log(LogEvent::Fault { what: format!("a removal could not be proposed: {e}") });
            }
        }
    }

    /// Names a member that commits what stands, and the next one where that one does not.
    pub(super) fn name_committer(&mut self, id: RoomId) {
        let now = self.now;
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let able = room.able();
        let expelled = room.has_expelled();
        if room.directory.standing().next().is_none() {
            room.committer = Duty::default();
            return;
        }
        if room.committer.still(&able, now) {
            return;
        }
        room.committer.named = None;
        if let Some(session) = room.committer.next(&able, now, expelled) {
            self.out.push(session, Push::CommitNow { room: id, epoch: room.directory.epoch() });
        }
    }
}

pub(super) const fn expelled(reason: Option<RemoveReason>) -> bool {
    matches!(reason, Some(RemoveReason::Kicked | RemoveReason::Banned))
}

const fn may_wait(reason: Option<RemoveReason>) -> bool {
    matches!(reason, None | Some(RemoveReason::Lost))
}
