//! Removals: proposed for who is lost, and committed by a member that is named for it.

use super::core::Core;
use super::io::{LogEvent, SessionId};
use super::room::Room;
use crate::crypto::identity::PublicKey;
use crate::limits::{COMMITTER_DEADLINE, COMMITTERS_TRIED};
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

    fn still(&self, able: &[SessionId], now: Duration) -> bool {
        self.named.is_some_and(|(session, deadline)| now < deadline && able.contains(&session))
    }

    /// The next one of those who are able; whoever was tried comes again when all were.
    fn next(&mut self, able: &[SessionId], now: Duration) -> Option<SessionId> {
        let first = able.first()?;
        let fresh = able.iter().find(|s| !self.tried.contains(s));
        let session = *fresh.unwrap_or(first);
        if fresh.is_none() {
            self.tried.clear();
        }
        self.given_up |= fresh.is_none() || self.tried.len() >= COMMITTERS_TRIED;
        self.tried.insert(session);
        self.named = Some((session, now + COMMITTER_DEADLINE));
        Some(session)
    }
}

impl Room {
    /// Members at the end of the log that are to stay.
    fn able(&self) -> Vec<SessionId> {
        self.subscribers.iter().filter(|(_, key)| !self.wanted.contains_key(key)).map(|(s, _)| *s).collect()
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
        if room.directory.standing().next().is_none() {
            room.committer = Duty::default();
            return;
        }
        if room.committer.still(&able, now) {
            return;
        }
        room.committer.named = None;
        if let Some(session) = room.committer.next(&able, now) {
            self.out.push(session, Push::CommitNow { room: id, epoch: room.directory.epoch() });
        }
    }
}

const fn may_wait(reason: Option<RemoveReason>) -> bool {
    matches!(reason, None | Some(RemoveReason::Lost))
}
