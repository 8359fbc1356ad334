//! Joining: one newcomer at a time for each room, first come, first served.

use super::attempts::source;
use super::core::{Answer, Core};
use super::io::{Door, SessionId};
use super::outbox::{not_member, too_many, wrong_room_or_password};
use super::rates::Doing;
use super::room::Room;
use super::sessions::Asker;
use crate::crypto::identity::PublicKey;
use crate::limits::{JOIN_LEASE, JOIN_QUEUE, ROOM_MEMBERS_MAX};
use crate::wire::frame::{Code, Published, Refusal, Reply};
use crate::wire::id::RoomId;
use crate::wire::policy::RoomKind;
use minicbor::bytes::ByteArray;
use std::collections::VecDeque;
use std::time::Duration;

/// The right to join next.
#[derive(Debug)]
pub(super) struct Lease {
    number: u64,
    session: SessionId,
    key: PublicKey,
    source: [u8; 16],
    pub(super) deadline: Duration,
}

/// Somebody who waits for the lease; its door key was right.
#[derive(Debug)]
pub(super) struct Waiting {
    session: SessionId,
    request: u64,
    key: PublicKey,
    source: [u8; 16],
}

impl Room {
    pub(super) fn holds_lease(&self, session: SessionId, number: u64) -> bool {
        self.lease.as_ref().is_some_and(|l| l.session == session && l.number == number)
    }

    /// Ends a session's wait, and its lease; the request that is not answered yet.
    pub(super) fn stop_waiting(&mut self, session: SessionId) -> Option<u64> {
        if self.lease.as_ref().is_some_and(|l| l.session == session) {
            self.lease = None;
        }
        let place = self.queue.iter().position(|w| w.session == session)?;
        self.queue.remove(place).map(|waiting| waiting.request)
    }

    /// Ends all waits and the lease but those of members; whom and what is to be refused.
    pub(super) fn send_strangers_away(&mut self) -> Vec<(SessionId, u64)> {
        let directory = &self.directory;
        self.lease.take_if(|lease| !directory.is_member(&lease.key));
        let (stay, go): (VecDeque<_>, VecDeque<_>) =
            self.queue.drain(..).partition(|waiting| directory.is_member(&waiting.key));
        self.queue = stay;
        go.into_iter().map(|waiting| (waiting.session, waiting.request)).collect()
    }

    /// Ends all waits; whom and what is to be refused.
    pub(super) fn everybody_away(&mut self) -> Vec<(SessionId, u64)> {
        self.lease = None;
        self.queue.drain(..).map(|waiting| (waiting.session, waiting.request)).collect()
    }

    /// Ends a lease that was not used in time; the source of who had it.
    pub(super) fn drop_late_lease(&mut self, now: Duration) -> Option<[u8; 16]> {
        self.lease.take_if(|l| l.deadline <= now).map(|l| l.source)
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
        if self.has_lease(asker, room) {
            // The whole tree, for a few bytes.
            self.may_commit(asker, &room)?;
            return Ok(self.enter_again(asker, room));
        }
        self.may_join(asker, &room)?;
        if self.rooms.full_for(&asker.key) && !self.rooms.is_member(&asker.key, &room) {
            return Err(too_many("you are in as many rooms as one may be"));
        }
        if self.rooms.get(&room).is_some_and(|r| r.kind == RoomKind::Public) {
            return self.wait_for_lease(asker, id, room);
        }
        let door = door.ok_or_else(wrong_room_or_password)?;
        self.knock(asker, id, room, Door::new(*door))?;
        Ok(None)
    }

    fn may_join(&mut self, asker: &Asker, room: &RoomId) -> Result<(), Refusal> {
        if !self.level().joins && !self.rooms.is_member(&asker.key, room) {
            return Err(Refusal::new(Code::Locked, "nobody joins a room on this server now"));
        }
        self.spend(asker, Doing::Join, 1)
    }

    fn has_lease(&self, asker: &Asker, room: RoomId) -> bool {
        let lease = self.rooms.get(&room).and_then(|room| room.lease.as_ref());
        lease.is_some_and(|l| l.session == asker.session && l.deadline > self.now)
    }

    /// Whoever has the lease and lost the epoch to a member's commit gets the new state at once; its deadline stays.
    fn enter_again(&self, asker: &Asker, room: RoomId) -> Option<Reply> {
        let room = self.rooms.get(&room)?;
        let lease = room.lease.as_ref()?;
        Some(room.entered(lease.number, &asker.key))
    }

    /// The door is open: into the queue.
    pub(super) fn wait_for_lease(&mut self, asker: &Asker, request: u64, id: RoomId) -> Answer {
        let locked = self.moderation.locks.hold(&id);
        let Some(room) = self.rooms.get_mut(&id) else { return Err(wrong_room_or_password()) };
        // Told only here, behind the door: it is nothing for strangers.
        if room.directory.policy().is_banned(&asker.key) {
            return Err(Refusal::new(Code::Banned, "the owner of this room has banned you"));
        }
        if room.shuts_out(&asker.key) {
            return Err(Refusal::new(Code::NotAllowed, "you were kicked from this room"));
        }
        if locked && !room.directory.is_member(&asker.key) {
            return Err(locked_room());
        }
        let full = room.directory.members().count() >= ROOM_MEMBERS_MAX && !room.directory.is_member(&asker.key);
        if full || room.queue.len() >= JOIN_QUEUE {
            return Err(too_many("the room is full"));
        }
        if room.queue.iter().any(|w| w.session == asker.session) {
            return Err(too_many("you are waiting for this room already"));
        }
        let source = source(asker.addr.ip());
        room.queue.push_back(Waiting { session: asker.session, request, key: asker.key, source });
        if let Some(session) = self.sessions.get_mut(&asker.session) {
            session.waits.insert(id);
        }
        self.settle(id);
        Ok(None)
    }

    /// Whoever is out of a room has no place in its queue, nor its lease.
    pub(super) fn wait_no_more(&mut self, session: SessionId, id: RoomId) {
        let waited = self.rooms.get_mut(&id).and_then(|room| room.stop_waiting(session));
        if let Some(request) = waited {
            self.out.refuse(session, request, not_member());
        }
        if let Some(state) = self.sessions.get_mut(&session) {
            state.waits.remove(&id);
        }
    }

    /// Lets the next newcomer in, unless one is being let in or a removal must come first. First come, first served; but sources that
    /// let leases lapse come after those that do not, or a few idle newcomers could keep everybody out.
    pub(super) fn grant_lease(&mut self, id: RoomId) {
        let number = self.number();
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.lease.is_some() || room.committer.must_come_first() {
            return;
        }
        let wasted = |w: &Waiting| self.wasted_leases.used(&w.source, self.now);
        let next = room.queue.iter().enumerate().min_by_key(|(_, w)| wasted(w)).map(|(i, _)| i);
        let Some(next) = next.and_then(|i| room.queue.remove(i)) else { return };
        let deadline = self.now + JOIN_LEASE;
        room.lease = Some(Lease { number, session: next.session, key: next.key, source: next.source, deadline });
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

/// Nobody joins a room that is locked.
pub(super) fn locked_room() -> Refusal {
    Refusal::new(Code::Locked, "an operator has locked this room: nobody joins it now")
}
