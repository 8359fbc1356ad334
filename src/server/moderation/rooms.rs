//! Looking at rooms, closing and locking them, and asking their owners for what only they can do.
//!
//! Who owns a room, who moderates it and what its secret is stands in its policy, which its members take from its owner alone: nothing here
//! can change that, and nothing here tries.

use super::super::core::{Core, LoadError};
use super::super::joins::locked_room;
use super::super::outbox::wrong_room_or_password;
use super::super::room::Room;
use super::{Officer, Told, entries};
use crate::crypto::identity::PublicKey;
use crate::limits::{ADMIN_PAGE, REGISTER_MAX, WISHES_WAITING};
use crate::server::SessionId;
use crate::store::{Entry, List, Write};
use crate::wire::admin::{Answer, Ask, Failure, Page, RoomView, Wish};
use crate::wire::encode;
use crate::wire::frame::Push;
use crate::wire::id::{Id, RoomId};
use crate::wire::name::FullName;
use crate::wire::policy::RoomKind;
use std::collections::{BTreeMap, VecDeque};

/// Rooms that nobody joins.
#[derive(Debug, Default)]
pub(in crate::server) struct Locks(BTreeMap<RoomId, Lock>);

#[derive(Debug, minicbor::Encode, minicbor::Decode)]
struct Lock {
    #[n(0)]
    by: String,
    #[n(1)]
    since_ms: u64,
}

/// What owners who are away are to be asked, the oldest first. Lost with the process.
#[derive(Debug, Default)]
pub(super) struct Wishes(VecDeque<(RoomId, Wish)>);

impl Locks {
    pub(super) fn load(register: &[Entry]) -> Result<Self, LoadError> {
        let locks = entries(register, List::Locked, LOCK_MAX).map(|entry| {
            let (room, lock) = entry?;
            let room = room.try_into().map_err(|_| LoadError::Register(List::Locked.as_str()))?;
            Ok((Id(room), lock))
        });
        Ok(Self(locks.collect::<Result<_, LoadError>>()?))
    }

    /// Whether nobody may join this room.
    pub(in crate::server) fn hold(&self, room: &RoomId) -> bool {
        self.0.contains_key(room)
    }
}

impl Core {
    pub(super) fn room_ask(&mut self, officer: &Officer, ask: &Ask) -> Told {
        match ask {
            Ask::Room { room } => self.show_room(room),
            Ask::Close { room, reason } => self.close_room(room, reason.clone()),
            Ask::Lock { room } => self.lock_room(officer, room),
            Ask::Unlock { room } => self.unlock_room(room),
            Ask::AskOwner { room, wish } => self.ask_owner(room, wish),
            Ask::Rooms { after } => Ok(self.page_of_rooms(after.as_deref())),
            _ => Err(Answer::failed(Failure::Malformed, "this is no question about rooms")),
        }
    }

    fn page_of_rooms(&self, after: Option<&str>) -> Answer {
        let mut rooms = self.rooms.after(after);
        let more = rooms.len() > ADMIN_PAGE;
        rooms.truncate(ADMIN_PAGE);
        let last = rooms.last().and_then(|room| room.label.as_ref()).map(ToString::to_string);
        let rows = rooms.into_iter().map(|room| self.view_of(room)).collect();
        Answer::Rooms(Page { rows, next: last.filter(|_| more) })
    }

    fn show_room(&self, typed: &str) -> Told {
        let room = self.room_here(typed)?;
        let names = room.directory.members().map(|member| member.name.to_string()).collect();
        Ok(Answer::Room(Box::new(RoomView { names, ..self.view_of(room) })))
    }

    fn view_of(&self, room: &Room) -> RoomView {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let owner = room.directory.policy().owner();
        let member = room.directory.members().find(|member| member.key == owner);
        RoomView {
            room: self.title_of(room),
            id: room.id.to_string(),
            private: room.kind == RoomKind::Private,
            locked: self.moderation.locks.hold(&room.id),
            members: count(room.directory.members().filter(|m| !room.wanted.contains_key(&m.key)).count()),
            present: count(room.subscribers.len()),
            epoch: room.directory.epoch(),
            policy_version: room.directory.policy().version,
            log_rows: room.head,
            last_used_ms: room.last_used_ms,
            owner: member.map_or_else(|| owner.fingerprint().to_string(), |member| member.name.to_string()),
            names: Vec::new(),
        }
    }

    fn title_of(&self, room: &Room) -> String {
        room.label.clone().map_or_else(String::new, |l| FullName::new(l, self.config.name.clone()).to_string())
    }

    /// The room and its log go; whoever is there hears it.
    fn close_room(&mut self, typed: &str, reason: Option<String>) -> Told {
        let (id, title) = self.room_here(typed).map(|room| (room.id, self.title_of(room)))?;
        let Some(mut room) = self.rooms.remove(&id) else {
            return Err(Answer::failed(Failure::Failed, "the room is gone already"));
        };
        self.out.write(Write::RemoveRoom { room: id });
        self.strike_lock(&id);
        self.moderation.wishes.0.retain(|(room, _)| *room != id);
        let (mut told, mut away) = (0_usize, 0_usize);
        for key in room.directory.members().map(|member| member.key) {
            let Some(session) = self.online.get(&key).copied() else {
                away += 1;
                continue;
            };
            told += 1;
            if let Some(state) = self.sessions.get_mut(&session) {
                state.rooms.remove(&id);
            }
            self.out.push(session, Push::RoomClosed { room: id, reason: reason.clone() });
        }
        for (session, request) in room.everybody_away() {
            if let Some(state) = self.sessions.get_mut(&session) {
                state.waits.remove(&id);
            }
            self.out.refuse(session, request, wrong_room_or_password());
        }
        self.forget_guests(room.directory.members().map(|member| member.key));
        let notes = (away > 0).then(|| format!("{away} members are away and find it gone when they come back"));
        let notes = notes.into_iter().collect();
        let what = format!("{title} is closed, its log is gone; {told} members were told");
        Ok(Answer::Done { what, notes, id: None, token: None })
    }

    fn lock_room(&mut self, officer: &Officer, typed: &str) -> Told {
        let (id, title) = self.room_here(typed).map(|room| (room.id, self.title_of(room)))?;
        let locks = &mut self.moderation.locks.0;
        if locks.contains_key(&id) {
            return Err(Answer::failed(Failure::Already, format!("{title} is locked already")));
        }
        if locks.len() >= REGISTER_MAX {
            return Err(Answer::failed(Failure::Full, "there are as many locked rooms as there may be"));
        }
        let lock = Lock { by: officer.named(), since_ms: self.wall_ms };
        self.out.write(Write::Keep(Entry { list: List::Locked, key: id.0.to_vec(), value: encode(&lock) }));
        locks.insert(id, lock);
        let away = self.rooms.get_mut(&id).map(Room::send_strangers_away).unwrap_or_default();
        for (session, request) in away {
            if let Some(state) = self.sessions.get_mut(&session) {
                state.waits.remove(&id);
            }
            self.out.refuse(session, request, locked_room());
        }
        self.settle(id);
        let notes = vec!["members who come back within their grace are let in".to_owned()];
        Ok(Answer::Done { what: format!("nobody joins {title} now"), notes, id: None, token: None })
    }

    fn unlock_room(&mut self, typed: &str) -> Told {
        let (id, title) = self.room_here(typed).map(|room| (room.id, self.title_of(room)))?;
        if self.strike_lock(&id) {
            Ok(Answer::done(format!("{title} can be joined again")))
        } else {
            Err(Answer::failed(Failure::Already, format!("{title} is not locked")))
        }
    }

    fn strike_lock(&mut self, id: &RoomId) -> bool {
        let held = self.moderation.locks.0.remove(id).is_some();
        if held {
            self.out.write(Write::Strike { list: List::Locked, key: id.0.to_vec() });
        }
        held
    }

    /// Locks of rooms that are gone go too.
    pub(in crate::server) fn forget_locks(&mut self) {
        let gone: Vec<RoomId> =
            self.moderation.locks.0.keys().filter(|id| self.rooms.get(id).is_none()).copied().collect();
        gone.iter().for_each(|id| {
            self.strike_lock(id);
        });
        let rooms = &self.rooms;
        self.moderation.wishes.0.retain(|(room, _)| rooms.get(room).is_some());
    }

    /// Tells the owner what an operator would like; what comes of it is the owner's own business.
    fn ask_owner(&mut self, typed: &str, wish: &Wish) -> Told {
        let room = self.room_here(typed)?;
        let (id, title, owner) = (room.id, self.title_of(room), room.directory.policy().owner());
        match wish {
            Wish::NewSecret if room.kind != RoomKind::Private => {
                return Err(Answer::failed(Failure::BadValue, format!("{title} is public and has no secret")));
            }
            Wish::HandOver(name) => {
                let (name, key) = self.person(name)?;
                if key == owner {
                    return Err(Answer::failed(Failure::Already, format!("{title} is {name}'s already")));
                }
                if !room.directory.is_member(&key) {
                    let why = format!("{name} is not in {title}: a room is handed over to a member");
                    return Err(Answer::failed(Failure::BadValue, why));
                }
            }
            Wish::NewSecret => {}
        }
        let present = room.subscribers.iter().find(|(_, key)| **key == owner).map(|(session, _)| *session);
        let what = format!("the owner of {title} is asked; it is theirs to do it or not");
        if let Some(session) = present {
            self.out.push(session, Push::Wish { room: id, wish: wish.clone() });
            return Ok(Answer::done(what));
        }
        let wishes = &mut self.moderation.wishes.0;
        if !wishes.iter().any(|(room, known)| *room == id && known == wish) {
            if wishes.len() >= WISHES_WAITING {
                return Err(Answer::failed(Failure::Full, "too many wishes wait for owners who are away"));
            }
            wishes.push_back((id, wish.clone()));
        }
        let note =
            "the owner is away and hears it when they are in the room again; a restart of this server forgets it";
        Ok(Answer::Done { what, notes: vec![note.into()], id: None, token: None })
    }

    /// An owner is in its room again: what was wished meanwhile.
    pub(in crate::server) fn tell_wishes(&mut self, session: SessionId, id: RoomId, key: &PublicKey) {
        if self.rooms.get(&id).is_none_or(|room| room.directory.policy().owner() != *key) {
            return;
        }
        let wishes = std::mem::take(&mut self.moderation.wishes.0);
        let (theirs, others) = wishes.into_iter().partition(|(room, _)| *room == id);
        self.moderation.wishes.0 = others;
        let theirs: VecDeque<(RoomId, Wish)> = theirs;
        for (room, wish) in theirs {
            self.out.push(session, Push::Wish { room, wish });
        }
    }
}

const LOCK_MAX: usize = 512;
