//! Direct conversations: key packages, groups of two, and their end.

use super::core::{Answer, Core};
use super::outbox::too_many;
use super::rates::Doing;
use super::room::Room;
use super::sessions::Asker;
use crate::crypto::identity::PublicKey;
use crate::limits::{DIRECTS_PER_CLIENT, DOOR_WINDOW, FRAME_MAX, KEY_PACKAGE_MAX, KEY_PACKAGES, KEY_PACKAGES_LOW};
use crate::store::Write;
use crate::wire::frame::{Code, Published, Push, Refusal, Reply};
use crate::wire::id::RoomId;
use crate::wire::name::FullName;
use crate::wire::policy::RoomKind;
use minicbor::bytes::ByteVec;

impl Core {
    pub(super) fn publish_key_packages(&mut self, asker: &Asker, single: Vec<ByteVec>, last_resort: ByteVec) -> Answer {
        let too_large = single.iter().chain([&last_resort]).any(|p| p.len() > KEY_PACKAGE_MAX);
        if single.len() > KEY_PACKAGES || too_large {
            return Err(Refusal::new(Code::TooLarge, "too many key packages, or too large ones"));
        }
        if let Some(session) = self.sessions.get_mut(&asker.session) {
            session.packages = single.into();
            session.last_resort = Some(last_resort);
        }
        Ok(Some(Reply::Done))
    }

    pub(super) fn take_key_package(&mut self, asker: &Asker, peer: &FullName) -> Answer {
        self.spend(asker, Doing::TakePackage, 1)?;
        let id = self.whereabouts(peer).ok_or_else(|| not_here(peer))?.session;
        let session = self.sessions.get_mut(&id).ok_or_else(|| not_here(peer))?;
        let package = session.packages.pop_front();
        // Making a stock costs its owner work, and voids the stock before the last: whoever takes many must not cause many.
        let asked = session.told_low.is_some_and(|told| self.now < told + DOOR_WINDOW);
        if session.last_resort.is_some() && session.packages.len() < KEY_PACKAGES_LOW && !asked {
            session.told_low = Some(self.now);
            self.out.push(id, Push::KeyPackagesLow);
        }
        let package = package.or_else(|| session.last_resort.clone());
        Ok(Some(Reply::KeyPackage(package.ok_or_else(|| not_here(peer))?)))
    }

    pub(super) fn create_direct(
        &mut self,
        asker: &Asker,
        room: RoomId,
        peer: &FullName,
        welcome: ByteVec,
        published: Published,
    ) -> Answer {
        let peer = self.whereabouts(peer).ok_or_else(|| not_here(peer))?;
        self.may_speak(asker, None)?;
        self.spend(asker, Doing::BeginDirect, 1)?;
        let many = |key: &PublicKey| self.rooms.directs_of(key).len() >= DIRECTS_PER_CLIENT;
        if many(&asker.key) || many(&peer.key) {
            return Err(too_many("too many conversations"));
        }
        // The push to the peer carries both.
        if welcome.len().saturating_add(published.tree.len()) > FRAME_MAX / 2 {
            return Err(Refusal::new(Code::TooLarge, "the welcome is too large"));
        }
        let tree = published.tree.clone();
        let directory = self.open_directory(room, published)?;
        let policy = directory.policy();
        let mut members: Vec<_> = directory.members().map(|m| m.key).collect();
        members.sort_unstable();
        let mut both = [asker.key, peer.key];
        both.sort_unstable();
        if policy.kind != RoomKind::Direct || policy.owner() != asker.key || members != both {
            return Err(Refusal::new(Code::NotAllowed, "not a conversation of these two"));
        }
        self.make_way(asker, &peer);
        for (key, session) in [(asker.key, asker.session), (peer.key, peer.session)] {
            if let Some(instance) = self.sessions.get(&session).map(|s| s.instance) {
                self.remember_instance(key, instance);
            }
        }
        self.add_room(Room::new(room, None, directory, None));
        self.subscribe(asker.session, room);
        self.subscribe(peer.session, room);
        self.out.push(peer.session, Push::Direct { room, welcome, tree });
        Ok(Some(Reply::Sequenced { seq: 0, time_ms: self.wall_ms }))
    }

    /// The asker has no state of a conversation.
    pub(super) fn no_state(&mut self, asker: &Asker, room: RoomId) -> Answer {
        if self.rooms.get(&room).is_none_or(|r| r.kind != RoomKind::Direct) {
            return Err(Refusal::new(Code::NotAllowed, "only a direct conversation is dropped"));
        }
        self.drop_direct(room, &asker.key);
        Ok(Some(Reply::Done))
    }

    /// Ends a conversation; everybody in it but `from` is told.
    pub(super) fn drop_direct(&mut self, id: RoomId, from: &PublicKey) {
        let Some(room) = self.rooms.remove(&id) else { return };
        self.out.write(Write::RemoveRoom { room: id });
        for member in room.directory.members().map(|m| m.key) {
            let Some(session) = self.online.get(&member).copied() else { continue };
            if let Some(state) = self.sessions.get_mut(&session) {
                state.rooms.remove(&id);
            }
            if member != *from {
                self.out.push(session, Push::DirectClosed { room: id });
            }
        }
        self.forget_guests(room.directory.members().map(|m| m.key));
    }

    /// Two may meet while each begins a conversation, so two groups of a pair live side by side; of more the quietest goes,
    /// and of too many in all.
    fn make_way(&mut self, asker: &Asker, peer: &Asker) {
        let nobody = PublicKey::from_bytes([0; 32]);
        if self.rooms.directs() >= self.bounds.directs
            && let Some(quietest) = self.rooms.quietest_direct()
        {
            self.drop_direct(quietest, &nobody);
        }
        let mut shared = self.rooms.directs_of(&asker.key);
        shared.retain(|id| self.rooms.is_member(&peer.key, id));
        if shared.len() < DIRECTS_PER_PAIR {
            return;
        }
        let used = |id: &RoomId| self.rooms.get(id).map_or(0, |r| r.last_used_ms);
        if let Some(oldest) = shared.into_iter().min_by_key(used) {
            self.drop_direct(oldest, &nobody);
        }
    }

    /// The session of somebody who is here under exactly this name.
    fn whereabouts(&self, name: &FullName) -> Option<Asker> {
        if name.server != self.config.name {
            return self.asker(*self.guests.get(name)?);
        }
        let key = self.names.owner(&name.name)?;
        self.asker(*self.online.get(&key)?).filter(|a| a.name == *name)
    }
}

pub(super) fn not_here(person: &FullName) -> Refusal {
    Refusal::new(Code::NotHere, format!("{person} is not here"))
}

/// Groups that two people may have at once.
const DIRECTS_PER_PAIR: usize = 4;
