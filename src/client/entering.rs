//! The ways to begin: what the command line, a command or a broken link want entered.

use super::conversation::{Conversation, Kind};
use super::core::Core;
use super::effects::Start;
use super::joining::{ENTRY_DEADLINE, Entry};
use super::problem::{FAILED, Problem, REFUSED, USAGE};
use crate::crypto::room::generate_room_secret;
use crate::crypto::secret::Secret;
use crate::limits::ROOMS_PER_CLIENT;
use crate::wire::id::{Id, RoomId};
use crate::wire::invite::Invite;
use crate::wire::name::FullName;
use crate::wire::policy::RoomKind;
use std::time::Duration;

impl Core {
    pub(super) fn enter_at_start(&mut self, number: u64, start: Start) {
        let result = match start {
            Start::Create { room, private, password } => self.create_room(number, &room, private, password),
            Start::Join { room, password } => self.join_room(number, &room, password),
            Start::Invited { invite, password } => self.join_invited(number, *invite, password),
        };
        if let Err(problem) = result {
            self.fail(Some(number), problem);
        }
    }

    /// A private room without a password gets a generated one.
    pub(super) fn create_room(
        &mut self,
        number: u64,
        room: &str,
        private: bool,
        password: Option<Secret>,
    ) -> Result<(), Problem> {
        if password.is_some() && !private {
            return Err(Problem::new("usage", USAGE, "a public room has no password").hint("add --private"));
        }
        let name = self.at_home(room)?;
        let generated = private && password.is_none();
        let password = if generated { Some(generate_room_secret(&mut self.rng)) } else { password };
        let kind = Some(if private { RoomKind::Private } else { RoomKind::Public });
        let room = Some(self.new_id());
        self.enter(Entry { create: true, room, kind, password, generated, ..Entry::new(Some(number), name) })
    }

    /// `/join ROOM|INVITE`.
    pub(super) fn join_typed(&mut self, number: u64, room: &str) -> Result<(), Problem> {
        if !room.starts_with("secchat://") {
            return self.join_room(number, room, None);
        }
        let invite = Invite::parse(room).map_err(|e| Problem::new("bad_invite", USAGE, e.to_string()))?;
        self.join_invited(number, invite, None)
    }

    fn join_room(&mut self, number: u64, room: &str, password: Option<Secret>) -> Result<(), Problem> {
        let name = self.at_home(room)?;
        self.enter(Entry { password, bare: !room.contains('@'), ..Entry::new(Some(number), name) })
    }

    fn join_invited(&mut self, number: u64, invite: Invite, password: Option<Secret>) -> Result<(), Problem> {
        if self.server_key(&invite.server).is_none_or(|key| key.fingerprint() != invite.pin) {
            let text = format!("this invite is for another server ({})", invite.server);
            return Err(Problem::new("other_server", REFUSED, text));
        }
        let Some(room) = invite.room else {
            self.done(Some(number), 0);
            return Ok(());
        };
        let name = FullName::new(room.label, invite.server);
        let password = room.secret.or(password);
        // The id is the invite's word, not the server's; whether the room is private is found out at the door.
        let kind = password.is_some().then_some(RoomKind::Private);
        let id = kind.map(|_| Id(room.id));
        self.enter(Entry { room: id, kind, password, ..Entry::new(Some(number), name) })
    }

    /// Into a room that we were in, after a gap or a removal for a lost link.
    pub(super) fn rejoin(&mut self, id: RoomId) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let Kind::Room { name, access } = &conversation.kind else { return };
        let entry = Entry {
            room: Some(id),
            kind: Some(access.kind),
            keys: access.keys.clone(),
            password: access.secret.clone(),
            ..Entry::new(None, name.clone())
        };
        conversation.rejoining = true;
        conversation.syncing = false;
        conversation.commit_lost();
        conversation.outbox.ground();
        self.drop_posts(&id);
        let number = self.add_entry(entry);
        self.step(number);
    }

    fn enter(&mut self, entry: Entry) -> Result<(), Problem> {
        if self.rooms().len() >= ROOMS_PER_CLIENT {
            let text = format!("at most {ROOMS_PER_CLIENT} rooms at once");
            return Err(Problem::new("too_many", FAILED, text).hint("/leave one"));
        }
        let taken = |c: &Conversation| matches!(&c.kind, Kind::Room { name, .. } if *name == entry.name);
        if self.conversations.values().any(taken) {
            return Err(Problem::new("already_in", FAILED, format!("you are in {} already", entry.name)));
        }
        let number = self.add_entry(entry);
        self.step(number);
        Ok(())
    }

    fn add_entry(&mut self, mut entry: Entry) -> u64 {
        entry.deadline = entry.ticket.map_or(Duration::MAX, |_| self.now + ENTRY_DEADLINE);
        self.next_entry += 1;
        self.entries.insert(self.next_entry, entry);
        self.next_entry
    }
}
