//! Rooms: which there are, who is in them, creating, finding and giving them up.

use super::attempts::source;
use super::core::{Answer, Core, LoadError, own_certs};
use super::doors::What;
use super::io::{LogEvent, SessionId};
use super::joins::{Lease, Waiting};
use super::outbox::too_many;
use super::sessions::Asker;
use super::timers::Timer;
use crate::crypto::identity::PublicKey;
use crate::group::{Change, Directory, Grant};
use crate::limits::{REPEATS_KNOWN, ROOM_LIST_MAX, ROOMS_PER_CLIENT};
use crate::store::{Digest, LoadedRoom, RoomState, Write};
use crate::wire::frame::{Code, Published, Refusal, Reply, RoomInfo};
use crate::wire::id::RoomId;
use crate::wire::log::{Chain, RemoveReason};
use crate::wire::name::{FullName, Name};
use crate::wire::policy::RoomKind;
use minicbor::bytes::ByteArray;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// One room or direct conversation.
pub(super) struct Room {
    pub(super) id: RoomId,
    /// `None` for direct conversations.
    pub(super) label: Option<Name>,
    pub(super) kind: RoomKind,
    /// Private rooms: the PHC hash of the door key.
    pub(super) door: Option<String>,
    pub(super) directory: Directory,
    /// The number of the last row, and the chain there.
    pub(super) head: u64,
    pub(super) chain: Chain,
    pub(super) recent: Recent,
    /// Sessions that rows are pushed to: members that are at the log's end.
    pub(super) subscribers: BTreeMap<SessionId, PublicKey>,
    /// Members without a subscribed session, and since when.
    pub(super) lost: BTreeMap<PublicKey, Duration>,
    /// Members that should be out, and why; `None`: they left by themselves.
    pub(super) wanted: BTreeMap<PublicKey, Option<RemoveReason>>,
    pub(super) committer: super::committer::Duty,
    pub(super) lease: Option<Lease>,
    pub(super) queue: VecDeque<Waiting>,
    pub(super) last_used_ms: u64,
    /// Bytes logged since the log was trimmed.
    pub(super) untrimmed: u64,
    /// When the timer of this room that was set last is due.
    pub(super) armed: Option<Duration>,
}

/// The rows whose bytes are known again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<Digest>,
    rows: BTreeMap<Digest, (u64, u64)>,
}

impl Recent {
    /// Number and time of the row with these bytes.
    pub(super) fn find(&self, digest: &Digest) -> Option<(u64, u64)> {
        self.rows.get(digest).copied()
    }

    pub(super) fn add(&mut self, digest: Digest, seq: u64, time_ms: u64) {
        if self.rows.insert(digest, (seq, time_ms)).is_none() {
            self.order.push_back(digest);
        }
        if self.order.len() > REPEATS_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
    }
}

impl Room {
    /// A room of a moment ago, with an empty log.
    pub(super) fn new(id: RoomId, label: Option<Name>, directory: Directory, door: Option<String>) -> Self {
        Self {
            id,
            label,
            kind: directory.policy().kind,
            door,
            directory,
            head: 0,
            chain: Chain::start(&id),
            recent: Recent::default(),
            subscribers: BTreeMap::new(),
            lost: BTreeMap::new(),
            wanted: BTreeMap::new(),
            committer: super::committer::Duty::default(),
            lease: None,
            queue: VecDeque::new(),
            last_used_ms: 0,
            untrimmed: 0,
            armed: None,
        }
    }

    /// A room after a restart. Certificates that have expired meanwhile do not keep it from being taken up.
    pub(super) fn load(
        stored: LoadedRoom,
        server: &PublicKey,
        name: &Name,
        now: Duration,
        wall_ms: u64,
    ) -> Result<Self, LoadError> {
        let state = stored.state;
        let (standing, reasons): (Vec<_>, Vec<_>) = stored.standing.into_iter().map(|s| (s.bytes, s.reason)).unzip();
        let grant = Grant { group_info: state.group_info, tree: state.tree, vouch: state.vouch, proposals: standing };
        let certs = own_certs(*server, name.clone(), 0);
        let directory = Directory::open(*server, stored.id.0, &grant, &certs)
            .map_err(|source| LoadError { room: stored.id, source })?;
        let wanted = directory.standing().map(|m| m.key).zip(reasons).collect();
        let lost = directory.members().map(|m| (m.key, now)).collect();
        let mut room = Self::new(stored.id, stored.label, directory, stored.door);
        for (seq, time_ms, digest) in stored.recent {
            room.recent.add(digest, seq, time_ms);
        }
        let last_used_ms = stored.last_used_ms.max(wall_ms);
        Ok(Self { head: stored.head, chain: Chain(stored.chain), wanted, lost, last_used_ms, ..room })
    }

    /// What is kept of the present epoch.
    pub(super) fn state(&self, since: u64) -> RoomState {
        let Grant { group_info, tree, vouch, .. } = self.directory.grant();
        RoomState { epoch: self.directory.epoch(), since, group_info, tree, vouch }
    }

    /// What is kept of a new room.
    fn stored(&self) -> LoadedRoom {
        LoadedRoom {
            id: self.id,
            label: self.label.clone(),
            kind: self.kind,
            door: self.door.clone(),
            state: self.state(0),
            head: self.head,
            chain: self.chain.0,
            last_used_ms: self.last_used_ms,
            standing: Vec::new(),
            recent: Vec::new(),
        }
    }

    /// No more pushes; if the session's key is still a member, its grace begins.
    pub(super) fn unsubscribe(&mut self, session: SessionId, now: Duration, wall_ms: u64) {
        let Some(key) = self.subscribers.remove(&session) else { return };
        self.last_used_ms = self.last_used_ms.max(wall_ms);
        if self.directory.is_member(&key) {
            self.lost.insert(key, now);
        }
    }
}

/// All rooms, found by id, label and member.
#[derive(Default)]
pub(super) struct Rooms {
    by_id: BTreeMap<RoomId, Room>,
    /// By skeleton.
    labels: BTreeMap<String, RoomId>,
    of: BTreeMap<PublicKey, BTreeSet<RoomId>>,
}

impl Rooms {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn ids(&self) -> Vec<RoomId> {
        self.by_id.keys().copied().collect()
    }

    pub(super) fn get(&self, id: &RoomId) -> Option<&Room> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &RoomId) -> Option<&mut Room> {
        self.by_id.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.by_id.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.by_id.values_mut()
    }

    /// Whether a room with this label is there, or one that looks like it.
    pub(super) fn looks_taken(&self, label: &Name) -> bool {
        self.labels.contains_key(&label.skeleton())
    }

    /// The room of exactly this label.
    pub(super) fn by_label(&self, label: &Name) -> Option<&Room> {
        let room = self.by_id.get(self.labels.get(&label.skeleton())?)?;
        (room.label.as_ref() == Some(label)).then_some(room)
    }

    pub(super) fn insert(&mut self, room: Room) {
        if let Some(label) = &room.label {
            self.labels.insert(label.skeleton(), room.id);
        }
        for member in room.directory.members() {
            self.of.entry(member.key).or_default().insert(room.id);
        }
        self.by_id.insert(room.id, room);
    }

    pub(super) fn remove(&mut self, id: &RoomId) -> Option<Room> {
        let room = self.by_id.remove(id)?;
        if let Some(label) = &room.label {
            self.labels.remove(&label.skeleton());
        }
        for member in room.directory.members() {
            self.leave(&member.key, id);
        }
        Some(room)
    }

    /// Follows a commit that the room's directory has applied.
    pub(super) fn follow(&mut self, id: &RoomId, change: &Change) {
        let removed = change.removed.iter().map(|r| &r.member);
        for gone in change.left.iter().chain(removed).chain(&change.replaced) {
            self.leave(&gone.key, id);
        }
        self.of.entry(change.committer.key).or_default().insert(*id);
    }

    pub(super) fn is_member(&self, key: &PublicKey, id: &RoomId) -> bool {
        self.of.get(key).is_some_and(|rooms| rooms.contains(id))
    }

    pub(super) fn directs_of(&self, key: &PublicKey) -> Vec<RoomId> {
        self.rooms_of(key).filter(|r| r.kind == RoomKind::Direct).map(|r| r.id).collect()
    }

    /// Whether a client is in as many rooms as it may be.
    pub(super) fn full_for(&self, key: &PublicKey) -> bool {
        self.rooms_of(key).filter(|r| r.kind != RoomKind::Direct).count() >= ROOMS_PER_CLIENT
    }

    fn rooms_of(&self, key: &PublicKey) -> impl Iterator<Item = &Room> {
        self.of.get(key).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    fn leave(&mut self, key: &PublicKey, id: &RoomId) {
        if let Some(rooms) = self.of.get_mut(key) {
            rooms.remove(id);
            if rooms.is_empty() {
                self.of.remove(key);
            }
        }
    }
}

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
        if !self.new_things.take(source(asker.addr.ip()), self.now) {
            return Err(too_many("too many new rooms from this address"));
        }
        let new = self.check_new_room(asker, room, published)?;
        match (new.directory.policy().kind, door) {
            (RoomKind::Public, None) => self.make_room(asker, new, None),
            (RoomKind::Private, Some(door)) => {
                let door = zeroize::Zeroizing::new(*door);
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

    fn check_label(&self, label: &Name) -> Result<(), Refusal> {
        if self.rooms.looks_taken(label) {
            let message = format!("there is a room {label} already, or one that looks like it");
            return Err(Refusal::new(Code::LabelTaken, message));
        }
        Ok(())
    }

    /// The last step of creation. Somebody may have been faster while the door was hashed.
    pub(super) fn make_room(&mut self, asker: &Asker, new: NewRoom, door: Option<String>) -> Answer {
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

    /// A member's session is at the end of the log: rows are pushed to it from now on.
    pub(super) fn subscribe(&mut self, session: SessionId, room: RoomId) {
        let (Some(state), Some(room)) = (self.sessions.get_mut(&session), self.rooms.get_mut(&room)) else { return };
        state.rooms.insert(room.id);
        room.subscribers.insert(session, state.key);
        room.lost.remove(&state.key);
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

    pub(super) fn resolve(&self, label: &str) -> Answer {
        let label = Name::parse(label).map_err(|e| Refusal::new(Code::BadName, e.to_string()))?;
        let made_up = self.secret.made_up_room(&label);
        let (room, private) = match self.rooms.by_label(&label) {
            Some(room) => (room.id, room.kind == RoomKind::Private),
            None => (made_up, true),
        };
        Ok(Some(Reply::Resolved { room, private }))
    }

    pub(super) fn list_rooms(&self) -> Reply {
        let public = self.rooms.iter().filter(|r| r.kind == RoomKind::Public);
        let rows = public.filter_map(|room| {
            let members = u32::try_from(room.directory.members().count()).unwrap_or(u32::MAX);
            let name = FullName::new(room.label.clone()?, self.config.name.clone());
            Some(RoomInfo { room: name, id: room.id, members })
        });
        Reply::Rooms(rows.take(ROOM_LIST_MAX).collect())
    }

    /// Empty public rooms and direct conversations that nobody has used for long go away.
    pub(super) fn expire_rooms(&mut self) {
        let age = |ms: u64| Duration::from_millis(self.wall_ms.saturating_sub(ms));
        let unused = self.rooms.iter().filter(|room| match room.kind {
            RoomKind::Public => age(room.last_used_ms) >= self.config.room_ttl,
            RoomKind::Direct => age(room.last_used_ms) >= self.config.log_age,
            RoomKind::Private => false,
        });
        let waits = |room: &Room| room.lease.is_some() || !room.queue.is_empty();
        let gone: Vec<RoomId> = unused.filter(|r| r.subscribers.is_empty() && !waits(r)).map(|r| r.id).collect();
        for id in gone {
            self.out.write(Write::RemoveRoom { room: id });
            if let Some(label) = self.rooms.remove(&id).and_then(|room| room.label) {
                self.out.log(LogEvent::RoomExpired { label });
            }
        }
    }

    pub(super) fn room_due(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id) {
            room.armed = None;
            room.drop_late_lease(self.now);
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
}
