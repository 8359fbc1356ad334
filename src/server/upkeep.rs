//! What keeps rooms going: subscriptions, what follows from a change, timers, and what goes with time.

use super::core::Core;
use super::io::{Config, LogEvent, Retention, SessionId};
use super::room::Room;
use super::timers::Timer;
use crate::store::Write;
use crate::wire::id::RoomId;
use crate::wire::policy::RoomKind;
use std::time::Duration;

impl Core {
    /// A member's session is at the end of the log: rows are pushed to it from now on.
    pub(super) fn subscribe(&mut self, session: SessionId, room: RoomId) {
        let (Some(state), Some(room)) = (self.sessions.get_mut(&session), self.rooms.get_mut(&room)) else { return };
        state.rooms.insert(room.id);
        room.subscribers.insert(session, state.key);
        room.lost.remove(&state.key);
        let (id, key) = (room.id, state.key);
        self.tell_wishes(session, id, &key);
    }

    /// The opposite of [`Core::subscribe`].
    pub(super) fn unsubscribe(&mut self, session: SessionId, room: RoomId) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.rooms.remove(&room);
        }
        if let Some(room) = self.rooms.get_mut(&room) {
            room.unsubscribe(session, self.now, self.wall_ms);
        }
    }

    /// Rooms in which nobody has been for long, and direct conversations that nobody has used for long, go away.
    pub(super) fn expire_rooms(&mut self) {
        let age = |ms: u64| Duration::from_millis(self.wall_ms.saturating_sub(ms));
        let unused = self.rooms.iter().filter(|room| match room.kind {
            RoomKind::Public | RoomKind::Private => age(room.last_used_ms) >= self.config.room_ttl,
            RoomKind::Direct => age(room.last_used_ms) >= self.config.log_age,
        });
        let waits = |room: &Room| room.lease.is_some() || !room.queue.is_empty();
        let gone: Vec<RoomId> = unused.filter(|r| r.subscribers.is_empty() && !waits(r)).map(|r| r.id).collect();
        for id in gone {
            self.out.write(Write::RemoveRoom { room: id });
            let Some(room) = self.rooms.remove(&id) else { continue };
            self.forget_guests(room.directory.members().map(|m| m.key));
            if let Some(label) = room.label {
                self.out.log(LogEvent::RoomExpired { label });
            }
        }
    }

    pub(super) fn room_due(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id) {
            room.armed = None;
            if let Some(source) = room.drop_late_lease(self.now) {
                self.wasted_leases.count(source, self.now);
            }
        }
        self.settle(id);
    }

    /// What follows from any change of a room: removals are proposed and committed, newcomers let in, the timer set.
    pub(super) fn settle(&mut self, id: RoomId) {
        self.propose_removals(id);
        self.name_committer(id);
        self.grant_lease(id);
        self.arm(id);
    }

    /// Sets the room's timer, unless one is set that is due sooner.
    pub(super) fn arm(&mut self, id: RoomId) {
        let (now, grace) = (self.now, self.config.lost_grace);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.kind == RoomKind::Direct {
            return;
        }
        let lost = room.lost.iter().filter(|(key, _)| !room.wanted.contains_key(key));
        let lost = lost.map(|(_, since)| *since + grace).filter(|due| *due > now).min();
        let lease = room.lease.as_ref().map(|l| l.deadline);
        let due = [lost, lease, room.committer.deadline()].into_iter().flatten().min();
        if let Some(due) = due
            && room.armed.is_none_or(|armed| due < armed)
        {
            room.armed = Some(due);
            self.timers.set(due, Timer::Room(id));
        }
    }

    /// Things are kept for other times: what is too old or too much by them goes now.
    pub(super) fn retain(&mut self, retention: Retention) {
        let Retention { log_age, log_bytes, room_ttl } = retention;
        let config = &mut self.config;
        if (config.log_age, config.log_bytes, config.room_ttl) == (log_age, log_bytes, room_ttl) {
            return;
        }
        (config.log_age, config.log_bytes, config.room_ttl) = (log_age, log_bytes, room_ttl);
        self.expire_rooms();
        self.trim_logs();
    }

    /// Gives up what is too old in all logs. Those that grew are trimmed as they grow.
    pub(super) fn trim_logs(&mut self) {
        for room in self.rooms.iter_mut().filter(|room| room.head > 0) {
            room.untrimmed = 0;
            self.out.write(self.config.trim(room.id, self.wall_ms));
        }
        self.bound_logs();
    }

    /// Rows were logged: now and then all logs together are held against their bound.
    pub(super) fn logged(&mut self, bytes: u64) {
        self.unbounded = self.unbounded.saturating_add(bytes);
        if self.unbounded > self.bounds.logs_bytes / BOUND_PART {
            self.bound_logs();
        }
    }

    fn bound_logs(&mut self) {
        self.unbounded = 0;
        self.out.write(Write::Bound { max_bytes: self.bounds.logs_bytes });
    }
}

impl Config {
    /// Gives up what is too old or too much in one log.
    pub(super) fn trim(&self, room: RoomId, wall_ms: u64) -> Write {
        let age = u64::try_from(self.log_age.as_millis()).unwrap_or(u64::MAX);
        Write::Trim { room, before_ms: wall_ms.saturating_sub(age), max_bytes: self.log_bytes }
    }
}

/// All logs are looked at together when they have grown by this part of their bound.
const BOUND_PART: u64 = 64;
/// A log is trimmed when it has grown by this part of its bound.
pub(super) const TRIM_PART: u64 = 16;
