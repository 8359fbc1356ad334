//! Out of a room: by our own wish, after what waits there is sent, or because our leaf is gone.

use super::conversation::Conversation;
use super::core::Core;
use super::dispatch::no_room;
use super::event::Event;
use super::problem::{FAILED, Problem, REFUSED};
use super::requests::Purpose;
use crate::wire::frame::Request;
use crate::wire::id::RoomId;

impl Core {
    /// `/leave [ROOM]`: after what waits there is sent.
    pub(super) fn leave_room(&mut self, number: u64, room: Option<&str>) -> Result<(), Problem> {
        let id = self.room_named(room)?;
        let conversation = self.conversations.get_mut(&id).ok_or_else(no_room)?;
        if conversation.leaving.is_some() {
            return Err(Problem::new("leaving", FAILED, "you are leaving it already"));
        }
        conversation.leaving = Some(Some(number));
        Ok(())
    }

    pub(super) fn leave_all(&mut self) {
        self.conversations.values_mut().filter(|c| c.is_room()).for_each(|c| {
            c.leaving.get_or_insert(None);
        });
        self.pump_all();
    }

    pub(super) fn leave_on_time(&mut self, id: RoomId) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let stuck = conversation.held || !conversation.room.is_active();
        if conversation.leaving.is_none() || conversation.left || !(conversation.is_quiet() || stuck) {
            return;
        }
        conversation.left = true;
        match conversation.room.leave() {
            Ok(message) => {
                self.room_request(&id, Request::Leave { room: id, message: message.into() }, Purpose::Leave(id));
            }
            Err(_) => self.drop_room(&id, "left"),
        }
    }

    /// Our leaf is gone. Whoever was only lost, and is here again, goes in again.
    pub(super) fn out(&mut self, id: RoomId, reason: &'static str) {
        let is_room = self.conversations.get(&id).is_some_and(Conversation::is_room);
        match reason {
            _ if !is_room => self.close_direct(&id),
            "lost" => self.rejoin(id),
            "kicked" | "banned" => {
                self.part_from_all(id);
                self.drop_room(&id, reason);
            }
            _ => self.drop_room(&id, reason),
        }
    }

    /// We are no longer in a room.
    pub(super) fn drop_room(&mut self, id: &RoomId, reason: &str) {
        let Some(mut conversation) = self.conversations.remove(id) else { return };
        self.drop_posts(id);
        let room = conversation.title();
        for item in conversation.outbox.drain(true) {
            self.fail_item(item, Problem::new("not_member", REFUSED, format!("you are no longer in {room}")));
        }
        for planned in std::mem::take(&mut conversation.rule.acts).into_iter().filter(|p| p.ticket.is_some()) {
            self.fail(planned.ticket, Problem::new("not_member", REFUSED, format!("you are no longer in {room}")));
        }
        if self.current == Some(*id) {
            self.current = self.conversations.values().find(|c| c.is_room()).map(|c| c.id);
        }
        let ticket = conversation.leaving.flatten();
        self.tell(ticket, Event::Left { room, reason: reason.to_owned() });
        self.done(ticket, 0);
        let forced = reason != "left";
        if forced && self.config.scripted && self.current.is_none() && self.entries.is_empty() {
            self.exit(reason, REFUSED);
        }
    }
}
