//! Creating rooms, and finding them.

use super::attempts::source;
use super::core::{Answer, Core};
use super::doors::What;
use super::io::{Door, LogEvent};
use super::outbox::too_many;
use super::rates::Doing;
use super::room::Room;
use super::sessions::Asker;
use crate::group::{Directory, Grant};
use crate::limits::ROOM_LIST_MAX;
use crate::store::Write;
use crate::wire::frame::{Code, Published, Refusal, Reply, RoomInfo};
use crate::wire::id::RoomId;
use crate::wire::name::{FullName, Name};
use crate::wire::policy::RoomKind;
use minicbor::bytes::ByteArray;

/// A room that is ready but for its door's hash.
#[derive(Debug)]
pub(super) struct NewRoom {
    room: RoomId,
    label: Name,
    directory: Directory,
}

impl Core {
    pub(super) fn create_room(
        &mut self,
        asker: &Asker,
        id: u64,
        room: RoomId,
        door: Option<ByteArray<32>>,
        published: Published,
    ) -> Answer {
        if self.rooms.full_for(&asker.key) {
            return Err(too_many("you are in as many rooms as one may be"));
        }
        if !self.level().new_rooms {
            return Err(Refusal::new(Code::NotAllowed, "no new rooms are made on this server now"));
        }
        self.check_space()?;
        if !self.new_things.take(source(asker.addr.ip()), self.now) {
            return Err(too_many("too many new rooms from this address"));
        }
        let new = self.check_new_room(asker, room, published)?;
        match (new.directory.policy().kind, door) {
            (RoomKind::Public, None) => self.make_room(asker, new, None),
            (RoomKind::Private, Some(door)) => {
                let door = Door::new(*door);
                self.submit(asker, id, door, What::Create(Box::new(new)))?;
                Ok(None)
            }
            _ => Err(Refusal::new(Code::NotAllowed, "a private room, and no other, has a door key")),
        }
    }

    fn check_new_room(&self, asker: &Asker, room: RoomId, published: Published) -> Result<NewRoom, Refusal> {
        let not_allowed = |why: &str| Refusal::new(Code::NotAllowed, why.to_owned());
        let epoch = published.epoch;
        let directory = self.open_directory(room, published)?;
        let policy = directory.policy();
        if policy.kind == RoomKind::Direct || directory.epoch() != 0 || epoch != 0 {
            return Err(not_allowed("a new room is public or private and in epoch 0"));
        }
        if policy.owner() != asker.key || !directory.members().map(|m| m.key).eq([asker.key]) {
            return Err(not_allowed("a new room has its creator as owner and only member"));
        }
        let label = Name::parse(&policy.label).map_err(|e| Refusal::new(Code::BadName, e.to_string()))?;
        if label.as_str() != policy.label {
            return Err(Refusal::new(Code::BadName, "the room's label is not normalised"));
        }
        self.check_label(&label)?;
        Ok(NewRoom { room, label, directory })
    }

    /// Takes up a group that somebody has just made.
    pub(super) fn open_directory(&self, room: RoomId, published: Published) -> Result<Directory, Refusal> {
        if self.rooms.get(&room).is_some() {
            return Err(Refusal::new(Code::NotAllowed, "this id is in use"));
        }
        let grant = Grant {
            group_info: published.group_info.into(),
            tree: published.tree.into(),
            vouch: published.vouch.map(|v| *v),
            proposals: Vec::new(),
        };
        Directory::open(self.identity.public(), room.0, &grant, &self.certs())
            .map_err(|e| Refusal::new(Code::NotAllowed, e.to_string()))
    }

    fn check_space(&self) -> Result<(), Refusal> {
        if self.rooms.labelled() >= self.bounds.rooms {
            return Err(Refusal::new(Code::TooMany, "the server has as many rooms as it may have"));
        }
        Ok(())
    }

    fn check_label(&self, label: &Name) -> Result<(), Refusal> {
        if self.rooms.looks_taken(label) {
            let message = format!("there is a room {label} already, or one that looks like it");
            return Err(Refusal::new(Code::LabelTaken, message));
        }
        Ok(())
    }

    /// The last step of creation. Somebody may have been faster while the door was hashed.
    pub(super) fn make_room(&mut self, asker: &Asker, new: NewRoom, door: Option<String>) -> Answer {
        self.check_space()?;
        self.check_label(&new.label)?;
        if self.rooms.get(&new.room).is_some() {
            return Err(Refusal::new(Code::NotAllowed, "this id is in use"));
        }
        let private = door.is_some();
        self.out.log(LogEvent::RoomCreated { label: new.label.clone(), private });
        self.add_room(Room::new(new.room, Some(new.label), new.directory, door));
        self.subscribe(asker.session, new.room);
        self.settle(new.room);
        Ok(Some(Reply::Sequenced { seq: 0, time_ms: self.wall_ms }))
    }

    /// Keeps a new room; nobody is subscribed yet.
    pub(super) fn add_room(&mut self, mut room: Room) {
        room.last_used_ms = self.wall_ms;
        room.lost = room.directory.members().map(|m| (m.key, self.now)).collect();
        self.out.write(Write::NewRoom(Box::new(room.stored())));
        self.rooms.insert(room);
    }

    pub(super) fn resolve(&self, label: &str) -> Answer {
        let label = Name::parse(label).map_err(|e| Refusal::new(Code::BadName, e.to_string()))?;
        let made_up = self.secret.made_up_room(&label);
        let (room, private) = match self.rooms.by_label(&label) {
            Some(room) => (room.id, room.kind == RoomKind::Private),
            None => (made_up, true),
        };
        Ok(Some(Reply::Resolved { room, private }))
    }

    /// Costs a look at each room's members, so that each key and address has so many of it.
    pub(super) fn list_rooms(&mut self, asker: &Asker) -> Answer {
        self.spend(asker, Doing::ListRooms, 1)?;
        let public = self.rooms.iter().filter(|r| r.kind == RoomKind::Public);
        let rows = public.filter_map(|room| {
            // Who has left stands in the tree until another member commits it, which the last one has nobody for.
            let members = room.directory.members().filter(|m| !room.wanted.contains_key(&m.key)).count();
            let members = u32::try_from(members).unwrap_or(u32::MAX);
            let name = FullName::new(room.label.clone()?, self.config.name.clone());
            Some(RoomInfo { room: name, id: room.id, members })
        });
        Ok(Some(Reply::Rooms(rows.take(ROOM_LIST_MAX).collect())))
    }
}
