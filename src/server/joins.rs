//! Joining: one newcomer at a time for each room, first come, first served.

use super::core::{Answer, Core};
use super::io::SessionId;
use super::outbox::{too_many, wrong_room_or_password};
use super::rooms::Room;
use super::sessions::Asker;
use crate::crypto::identity::PublicKey;
use crate::limits::{JOIN_LEASE, JOIN_QUEUE, ROOM_MEMBERS_MAX};
use crate::wire::frame::{Published, Reply};
use crate::wire::id::RoomId;
use crate::wire::policy::RoomKind;
use minicbor::bytes::ByteArray;
use std::time::Duration;

/// The right to join next.
#[derive(Debug)]
pub(super) struct Lease {
    number: u64,
    session: SessionId,
    pub(super) deadline: Duration,
}

/// Somebody who waits for the lease; its door key was right.
#[derive(Debug)]
pub(super) struct Waiting {
    session: SessionId,
    request: u64,
    key: PublicKey,
}

impl Room {
    pub(super) fn holds_lease(&self, session: SessionId, number: u64) -> bool {
        self.lease.as_ref().is_some_and(|l| l.session == session && l.number == number)
    }

    /// Ends a session's wait, and its lease.
    pub(super) fn stop_waiting(&mut self, session: SessionId) {
        self.queue.retain(|w| w.session != session);
        if self.lease.as_ref().is_some_and(|l| l.session == session) {
            self.lease = None;
        }
    }

    pub(super) fn drop_late_lease(&mut self, now: Duration) {
        if self.lease.as_ref().is_some_and(|l| l.deadline <= now) {
            self.lease = None;
        }
    }

    /// The present state for a newcomer.
    fn entered(&self, lease: u64, newcomer: &PublicKey) -> Reply {
        let grant = self.directory.grant_for(newcomer);
        let published = Published {
            epoch: self.directory.epoch(),
            group_info: grant.group_info.into(),
            tree: grant.tree.into(),
            vouch: grant.vouch.map(Into::into),
        };
        let proposals = grant.proposals.into_iter().map(Into::into).collect();
        Reply::Entered { lease, published, seq: self.head, chain: self.chain.0.into(), proposals }
    }
}

impl Core {
    pub(super) fn enter(&mut self, asker: &Asker, id: u64, room: RoomId, door: Option<ByteArray<32>>) -> Answer {
        if let Some(reply) = self.enter_again(asker, room) {
            return Ok(Some(reply));
        }
        if self.rooms.full_for(&asker.key) && !self.rooms.is_member(&asker.key, &room) {
            return Err(too_many("you are in as many rooms as one may be"));
        }
        if self.rooms.get(&room).is_some_and(|r| r.kind == RoomKind::Public) {
            return self.wait_for_lease(asker, id, room);
        }
        let door = door.ok_or_else(wrong_room_or_password)?;
        self.knock(asker, id, room, zeroize::Zeroizing::new(*door))?;
        Ok(None)
    }

    /// Whoever has the lease and lost the epoch to a member's commit gets the new state at once; its deadline stays.
    fn enter_again(&self, asker: &Asker, room: RoomId) -> Option<Reply> {
        let room = self.rooms.get(&room)?;
        let lease = room.lease.as_ref().filter(|l| l.session == asker.session && l.deadline > self.now)?;
        Some(room.entered(lease.number, &asker.key))
    }

    /// The door is open: into the queue.
    pub(super) fn wait_for_lease(&mut self, asker: &Asker, request: u64, id: RoomId) -> Answer {
        let Some(room) = self.rooms.get_mut(&id) else { return Err(wrong_room_or_password()) };
        let full = room.directory.members().count() >= ROOM_MEMBERS_MAX && !room.directory.is_member(&asker.key);
        if full || room.queue.len() >= JOIN_QUEUE {
            return Err(too_many("the room is full"));
        }
        if room.queue.iter().any(|w| w.session == asker.session) {
            return Err(too_many("you are waiting for this room already"));
        }
        room.queue.push_back(Waiting { session: asker.session, request, key: asker.key });
        if let Some(session) = self.sessions.get_mut(&asker.session) {
            session.waits.insert(id);
        }
        self.settle(id);
        Ok(None)
    }

    /// Lets the next newcomer in, unless one is being let in or a removal must come first.
    pub(super) fn grant_lease(&mut self, id: RoomId) {
        let number = self.number();
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.lease.is_some() || room.committer.must_come_first() {
            return;
        }
        let Some(next) = room.queue.pop_front() else { return };
        room.lease = Some(Lease { number, session: next.session, deadline: self.now + JOIN_LEASE });
        let reply = room.entered(number, &next.key);
        self.out.reply(next.session, next.request, reply);
    }

    /// A newcomer is in.
    pub(super) fn joined(&mut self, asker: &Asker, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id) {
            room.stop_waiting(asker.session);
        }
        if let Some(session) = self.sessions.get_mut(&asker.session) {
            session.waits.remove(&id);
        }
        self.subscribe(asker.session, id);
    }
}
