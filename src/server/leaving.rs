//! Leaving a room.

use super::core::{Answer, Core};
use super::logs::refusal;
use super::outbox::not_member;
use super::sessions::Asker;
use crate::wire::frame::Reply;
use crate::wire::id::RoomId;
use crate::wire::log::RowKind;

impl Core {
    /// Logs a SelfRemove. The asker hears nothing more at once; another member commits it.
    pub(super) fn leave(&mut self, asker: &Asker, id: u64, room_id: RoomId, message: Vec<u8>) -> Answer {
        self.may_commit(asker, &room_id)?;
        let room = self.rooms.get_mut(&room_id).ok_or_else(not_member)?;
        let leaver = room.directory.check_proposal(&message).map_err(|e| refusal(&e))?.key;
        room.wanted.insert(leaver, None);
        let logged = self.append(room_id, RowKind::Proposal, message, None, Some(asker.session));
        let (seq, time_ms) = logged.ok_or_else(not_member)?;
        self.out.reply(asker.session, id, Reply::Sequenced { seq, time_ms });
        if let Some(session) = self.online.get(&leaver).copied() {
            self.unsubscribe(session, room_id);
        }
        self.settle(room_id);
        Ok(None)
    }
}
