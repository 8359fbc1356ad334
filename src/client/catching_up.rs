//! After a break: the rows that were missed, fetched in order before anything is sent.

use super::attach::Attachment;
use super::conversation::Conversation;
use super::core::Core;
use super::event::Event;
use super::history::Place;
use super::problem::Problem;
use super::requests::Purpose;
use crate::wire::frame::{Code, Refusal, Reply, Request};
use crate::wire::id::RoomId;
use crate::wire::log::Row;
use crate::wire::name::Name;

impl Core {
    /// A session stands again: what was missed is fetched before anything is sent.
    pub(super) fn resume_rooms(&mut self, server: &Name) {
        let there = self.conversations.values().filter(|c| c.server == *server && !c.rejoining);
        let ids: Vec<RoomId> = there.map(|c| c.id).collect();
        ids.into_iter().for_each(|id| self.resync(id));
    }

    /// Fetches the rows after the last one; a few conversations at a time.
    pub(super) fn resync(&mut self, id: RoomId) {
        let Some(conversation) = self.conversations.get_mut(&id).filter(|c| !c.rejoining) else { return };
        conversation.syncing = true;
        let (after, server) = (conversation.history.last().0, conversation.server.clone());
        let free = |a: &Attachment| a.requests.logs() < LOGS_AT_ONCE && !a.requests.has_log(&id);
        if self.attachments.get(&server).is_some_and(free) {
            self.request(&server, Request::Log { room: id, after }, Purpose::Log(id));
        }
    }

    /// Those that had to wait.
    fn resync_next(&mut self, server: &Name) {
        let Some(attachment) = self.attachments.get(server) else { return };
        let waits = |c: &&Conversation| {
            c.server == *server && c.syncing && !c.rejoining && !attachment.requests.has_log(&c.id) && !c.founding
        };
        let next = self.conversations.values().find(waits).map(|c| c.id);
        next.into_iter().for_each(|id| self.resync(id));
    }

    pub(super) fn log_page(&mut self, server: &Name, id: RoomId, reply: Reply) {
        match reply {
            Reply::Log { rows, live } => {
                let end = live || rows.is_empty();
                match self.page(id, &rows, end) {
                    false => self.mend(id),
                    true if end => self.synced(id),
                    true => self.resync(id),
                }
            }
            Reply::Refused(refusal) => self.no_log(id, &refusal),
            _ => {}
        }
        self.resync_next(server);
    }

    /// Rows that were asked for. Whether they bring us on; to ask again for what is left out would go on for ever.
    fn page(&mut self, id: RoomId, rows: &[Row], end: bool) -> bool {
        let Some(before) = self.conversations.get(&id).map(|c| c.history.last().0) else { return true };
        for row in rows {
            let Some(conversation) = self.conversations.get(&id).filter(|c| !c.rejoining) else { return true };
            if conversation.history.place(row.seq) == Place::Beyond {
                self.integrity(None, conversation.title(), "gap", None);
                return false;
            }
            self.row(id, row);
        }
        end || self.conversations.get(&id).is_some_and(|c| c.history.last().0 > before)
    }

    /// A conversation whose log we cannot follow: a room is joined anew from what was published, a direct one begins anew.
    pub(super) fn mend(&mut self, id: RoomId) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        if !conversation.is_room() {
            self.room_request(&id, Request::NoState { room: id }, Purpose::Forget);
            return self.close_direct(&id);
        }
        if conversation.rejoining || conversation.left {
            return;
        }
        if conversation.mends.once_more(now) {
            self.rejoin(id);
        } else {
            conversation.held = true;
            conversation.syncing = false;
        }
    }

    fn synced(&mut self, id: RoomId) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.synced();
    }

    fn no_log(&mut self, id: RoomId, refusal: &Refusal) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let (room, from) = (conversation.title(), conversation.history.last().0.saturating_add(1));
        if !conversation.is_room() {
            return self.close_direct(&id);
        }
        match refusal.code {
            Code::Gap => {
                let first: Option<u64> = refusal.hint.as_deref().and_then(|h| h.parse().ok());
                let to = first.unwrap_or(from).saturating_sub(1).max(from);
                self.tell(None, Event::Gap { room, from, to });
                self.rejoin(id);
            }
            // Removed while we were away, or the server no longer has the room.
            Code::NotMember => self.rejoin(id),
            _ => {
                self.tell(None, Problem::from(refusal.clone()).event());
                self.drop_room(&id, "lost");
            }
        }
    }
}

/// Conversations that catch up at once.
const LOGS_AT_ONCE: usize = 2;
