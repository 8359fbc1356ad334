//! Which rooms there are, and who is in them.

use super::room::Room;
use crate::crypto::identity::PublicKey;
use crate::group::Change;
use crate::limits::ROOMS_PER_CLIENT;
use crate::wire::id::RoomId;
use crate::wire::name::Name;
use crate::wire::policy::RoomKind;
use std::collections::{BTreeMap, BTreeSet};

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

    /// Public and private ones.
    pub(super) fn labelled(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn directs(&self) -> usize {
        self.by_id.len().saturating_sub(self.labels.len())
    }

    pub(super) fn quietest_direct(&self) -> Option<RoomId> {
        let directs = self.by_id.values().filter(|r| r.kind == RoomKind::Direct);
        directs.min_by_key(|r| r.last_used_ms).map(|r| r.id)
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

    /// Public and private ones, in the order of their labels, those after one.
    pub(super) fn after(&self, label: Option<&str>) -> Vec<&Room> {
        let labelled = self.by_id.values().filter_map(|room| Some((room.label.as_ref()?.as_str(), room)));
        let mut rooms: Vec<_> = labelled.filter(|(own, _)| label.is_none_or(|label| *own > label)).collect();
        rooms.sort_unstable_by_key(|(label, _)| *label);
        rooms.into_iter().map(|(_, room)| room).collect()
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

    /// All that a key is a member of.
    pub(super) fn rooms_of(&self, key: &PublicKey) -> impl Iterator<Item = &Room> {
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
