//! The log of a room: commits, messages, catching up.

use super::core::{Answer, Core};
use super::doors::What;
use super::io::{Door, Output, SessionId};
use super::outbox::{not_member, too_many};
use super::rates::Doing;
use super::sessions::Asker;
use super::upkeep::TRIM_PART;
use crate::group::{self, Change, CheckedCommit, MemberInfo, MessageError};
use crate::limits::{COMMIT_MEMBERS, LOG_READS};
use crate::store::{LogPage, Write, digest};
use crate::wire::frame::{Code, Published, Push, Refusal, Reply};
use crate::wire::id::RoomId;
use crate::wire::log::{RemoveReason, Row, RowKind};
use crate::wire::policy::RoomKind;
use minicbor::bytes::{ByteArray, ByteVec};

/// A commit as it was asked for.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) room: RoomId,
    pub(super) lease: Option<u64>,
    pub(super) message: ByteVec,
    pub(super) published: Published,
}

/// A catch-up that waits for the store.
#[derive(Debug)]
pub(super) struct Read {
    session: SessionId,
    request: u64,
    room: RoomId,
    after: u64,
}

impl Core {
    /// A commit; one that replaces the join key waits for the hash of its new door key.
    pub(super) fn commit(&mut self, asker: &Asker, id: u64, commit: Commit, door: Option<ByteArray<32>>) -> Answer {
        self.may_commit(asker, &commit.room)?;
        let Some(door) = door else { return self.commit_now(asker, id, commit, None) };
        // A new secret has to be told, and who may not speak cannot.
        self.may_speak(asker, Some(commit.room))?;
        self.judge(asker, &commit, true)?;
        self.submit(asker, id, Door::new(*door), What::Rotate(Box::new(commit)))?;
        Ok(None)
    }

    /// What is judged with the room's tree is costly, the more so the larger it is; each key, and each address, has so much of it.
    pub(super) fn may_commit(&mut self, asker: &Asker, room: &RoomId) -> Result<(), Refusal> {
        let cost = commit_cost(self.rooms.get(room).map_or(0, |room| room.directory.members().count()));
        self.spend(asker, Doing::Commit, cost)
    }

    /// Row, GroupInfo, tree, epoch and door are one batch of writes; who comes second in an epoch is refused as stale.
    pub(super) fn commit_now(&mut self, asker: &Asker, id: u64, commit: Commit, door: Option<String>) -> Answer {
        let checked = self.judge(asker, &commit, door.is_some())?;
        let (room_id, rotated) = (commit.room, door.is_some());
        let room = self.rooms.get_mut(&room_id).ok_or_else(not_member)?;
        let change = room.directory.apply(checked).map_err(|e| refusal(&e))?;
        room.bar(&change, rotated);
        let logged = self.append(room_id, RowKind::Commit, commit.message.into(), None, Some(asker.session));
        let (seq, time_ms) = logged.ok_or_else(not_member)?;
        let room = self.rooms.get_mut(&room_id).ok_or_else(not_member)?;
        let state = Box::new(room.state(seq));
        self.out.write(Write::Epoch { room: room_id, state, door: door.clone() });
        room.door = door.or(room.door.take());
        self.out.reply(asker.session, id, Reply::Sequenced { seq, time_ms });
        self.follow(asker, room_id, &change);
        Ok(None)
    }

    fn judge(&self, asker: &Asker, commit: &Commit, new_door: bool) -> Result<CheckedCommit, Refusal> {
        let not_allowed = |why: &str| Refusal::new(Code::NotAllowed, why.to_owned());
        let room = self.rooms.get(&commit.room).ok_or_else(not_member)?;
        let published = group::Published {
            epoch: commit.published.epoch,
            group_info: commit.published.group_info.to_vec(),
            vouch: commit.published.vouch.as_ref().map(|v| **v),
        };
        let checked = room.directory.check_commit(&commit.message, published, &self.certs());
        let checked = checked.map_err(|e| refusal(&e))?;
        let change = checked.change();
        if change.committer.key != asker.key {
            return Err(not_allowed("the commit is somebody else's"));
        }
        if change.joined && commit.lease.is_none_or(|lease| !room.holds_lease(asker.session, lease)) {
            return Err(
                Refusal::new(Code::Stale, "a join needs the room's lease").hint(room.directory.epoch().to_string())
            );
        }
        if change.joined && room.shuts_out(&asker.key) {
            return Err(not_allowed("you were kicked from this room"));
        }
        // Each commit voids the proposals that it leaves out: an accomplice could put a kick off for ever.
        if !change.joined && room.leaves_expelled(change) {
            let stale = Refusal::new(Code::Stale, "somebody is to be taken out of this room by the next commit");
            return Err(stale.hint(room.directory.epoch().to_string()));
        }
        let before = room.directory.policy();
        if change.policy.as_ref().is_some_and(|next| next.topic != before.topic) {
            self.may_speak(asker, Some(commit.room))?;
        }
        let rotated = change.policy.as_ref().is_some_and(|p| p.join_key() != before.join_key());
        if rotated == new_door {
            Ok(checked)
        } else {
            Err(not_allowed("a new join key and a new door key go together"))
        }
    }

    /// Puts members, subscribers, leases and removals right after a commit.
    fn follow(&mut self, asker: &Asker, id: RoomId, change: &Change) {
        self.rooms.follow(&id, change);
        let removed = change.removed.iter().map(|r| r.member.key);
        let gone: Vec<_> = change.left.iter().map(|m| m.key).chain(removed).filter(|k| *k != asker.key).collect();
        for key in &gone {
            if let Some(session) = self.online.get(key).copied() {
                self.unsubscribe(session, id);
                // Who left, or was lost, may be waiting to come back.
                if self.rooms.get(&id).is_some_and(|room| room.shuts_out(key)) {
                    self.wait_no_more(session, id);
                }
            }
        }
        if let Some(room) = self.rooms.get_mut(&id) {
            if change.joined && !room.shuts_out(&asker.key) {
                room.wanted.remove(&asker.key);
            }
            let directory = &room.directory;
            room.wanted.retain(|key, _| directory.is_member(key));
            room.lost.retain(|key, _| directory.is_member(key));
            room.committer.after_commit(asker.session, room.wanted.is_empty());
        }
        if change.joined {
            self.joined(asker, id);
        }
        self.settle(id);
    }

    /// An application message.
    pub(super) fn post(&mut self, asker: &Asker, room_id: RoomId, message: Vec<u8>) -> Answer {
        let room = self.rooms.get(&room_id).ok_or_else(not_member)?;
        if let Some((seq, time_ms)) = room.recent.find(&digest(&message)) {
            return Ok(Some(Reply::Sequenced { seq, time_ms }));
        }
        self.may_speak(asker, Some(room_id))?;
        self.keeps_pace(asker, message.len())?;
        let room = self.rooms.get(&room_id).ok_or_else(not_member)?;
        if room.directory.policy().is_muted(&asker.key) {
            return Err(Refusal::new(Code::Muted, "the owner of this room has muted you"));
        }
        room.directory.check_private_message(&message).map_err(|e| refusal(&e))?;
        let gone = |m: &&MemberInfo| room.kind == RoomKind::Direct && !self.online.contains_key(&m.key);
        if let Some(gone) = room.directory.members().find(gone) {
            return Err(super::directs::not_here(&gone.name));
        }
        let logged = self.append(room_id, RowKind::Message, message, None, Some(asker.session));
        let (seq, time_ms) = logged.ok_or_else(not_member)?;
        Ok(Some(Reply::Sequenced { seq, time_ms }))
    }

    /// Adds a row and pushes it to all subscribers but its sender. Number and time, `None` if there is no such room.
    pub(super) fn append(
        &mut self,
        id: RoomId,
        kind: RowKind,
        bytes: Vec<u8>,
        reason: Option<RemoveReason>,
        sender: Option<SessionId>,
    ) -> Option<(u64, u64)> {
        let room = self.rooms.get_mut(&id)?;
        let seq = room.head.checked_add(1)?;
        let time_ms = self.wall_ms;
        room.head = seq;
        room.chain = room.chain.after(seq, kind, &bytes);
        room.recent.add(digest(&bytes), seq, time_ms);
        room.last_used_ms = room.last_used_ms.max(time_ms);
        let size = bytes.len() as u64;
        room.untrimmed = room.untrimmed.saturating_add(size);
        let row = Row { seq, time_ms, kind, bytes: bytes.into(), reason };
        self.out.write(Write::Append { room: id, row: row.clone(), chain: room.chain.0 });
        let receivers = room.subscribers.keys().copied().filter(|s| Some(*s) != sender);
        self.out.fan_out(receivers, Push::Row { room: id, row });
        if room.untrimmed > self.config.log_bytes / TRIM_PART {
            room.untrimmed = 0;
            // Not when the next timer comes: a fast writer could fill the disk by then.
            self.out.write(self.config.trim(id, time_ms));
        }
        self.logged(size);
        Some((seq, time_ms))
    }

    /// Catching up: the store is asked.
    pub(super) fn read_log(&mut self, asker: &Asker, request: u64, room: RoomId, after: u64) -> Answer {
        let session = self.sessions.get_mut(&asker.session).ok_or_else(not_member)?;
        if session.reads >= LOG_READS {
            return Err(too_many("too many requests at once"));
        }
        session.reads += 1;
        let ticket = self.number();
        self.reads.insert(ticket, Read { session: asker.session, request, room, after });
        self.out.output(Output::ReadLog { ticket, room, after });
        Ok(None)
    }

    /// The store's answer. The page that reaches the end subscribes; rows that were logged meanwhile make it one that does not.
    pub(super) fn log_page(&mut self, ticket: u64, page: LogPage) {
        let Some(read) = self.reads.remove(&ticket) else { return };
        let Some(asker) = self.asker(read.session) else { return };
        if let Some(session) = self.sessions.get_mut(&read.session) {
            session.reads = session.reads.saturating_sub(1);
        }
        let permitted = self.permit(&asker, &crate::wire::frame::Request::Log { room: read.room, after: read.after });
        let head = self.rooms.get(&read.room).map(|r| r.head);
        let (Ok(()), Some(head)) = (permitted, head) else {
            return self.out.refuse(asker.session, read.request, not_member());
        };
        if read.after > head || read.after.saturating_add(1) < page.first {
            let refusal = Refusal::new(Code::Gap, "these rows are no longer kept");
            return self.out.refuse(asker.session, read.request, refusal.hint(page.first.to_string()));
        }
        let live = page.rows.last().map_or(read.after, |row| row.seq) == head;
        self.out.reply(asker.session, read.request, Reply::Log { rows: page.rows, live });
        if live {
            self.subscribe(asker.session, read.room);
            self.settle(read.room);
        }
    }
}

/// What a commit takes from an allowance in a room of so many members.
fn commit_cost(members: usize) -> u32 {
    u32::try_from(members / COMMIT_MEMBERS).unwrap_or(u32::MAX).saturating_add(1)
}

/// What a directory's error means to whoever sent the message.
pub(super) fn refusal(error: &MessageError) -> Refusal {
    let (code, hint) = match error {
        MessageError::Stale { ours, .. } => (Code::Stale, Some(ours.to_string())),
        MessageError::TooLong => (Code::TooLarge, None),
        MessageError::Refused(group::Refusal::Full) => (Code::TooMany, None),
        MessageError::Refused(group::Refusal::Banned) => (Code::Banned, None),
        MessageError::Refused(_) | MessageError::NoSuchMember => (Code::NotAllowed, None),
        MessageError::Malformed | MessageError::WrongRoom | MessageError::Invalid(_) | MessageError::Published => {
            (Code::Malformed, None)
        }
    };
    Refusal { code, message: error.to_string(), hint }
}

#[cfg(test)]
mod tests {
    use super::commit_cost;
    use crate::limits::{COMMITS, ROOM_MEMBERS_MAX};

    #[test]
    fn one_key_gets_a_small_part_of_the_core_in_a_room_of_any_size() {
        // A commit takes the core up to 2 ms, and 50 ms more for each thousand members.
        let milliseconds = |members: usize| COMMITS / commit_cost(members) * (2 + u32::try_from(members).unwrap() / 20);
        let most = (0..=ROOM_MEMBERS_MAX).map(milliseconds).max().unwrap();
        assert!(most < 2000, "{most} ms of a minute");
        assert!(COMMITS / commit_cost(ROOM_MEMBERS_MAX) >= 20, "and can still do what it is named for");
    }
}
