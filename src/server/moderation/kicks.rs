//! Putting somebody out: of one room, of all and off the server, or with the name that they had.

use super::super::core::Core;
use super::people::not_here;
use super::{Officer, Told};
use crate::crypto::identity::PublicKey;
use crate::store::{List, Write};
use crate::wire::admin::{Answer, Failure};
use crate::wire::frame::Push;
use crate::wire::id::RoomId;
use crate::wire::log::RemoveReason;
use crate::wire::name::FullName;
use crate::wire::policy::RoomKind;

impl Core {
    pub(super) fn kick(&mut self, officer: &Officer, typed: &str, room: Option<&str>, reason: Option<&str>) -> Told {
        let (name, key) = match self.person(typed) {
            Ok(person) => person,
            // A guest may be gone and its leaf still be there.
            Err(unknown) => self.member_named(typed).ok_or(unknown)?,
        };
        self.may_touch(officer, &key)?;
        match room {
            Some(room) => self.kick_from(&name, &key, room, reason),
            None => self.kick_off(&name, &key, reason),
        }
    }

    fn kick_from(&mut self, name: &FullName, key: &PublicKey, room: &str, reason: Option<&str>) -> Told {
        let room = self.room_here(room)?;
        let (id, label) = (room.id, room.label.as_ref().map(ToString::to_string).unwrap_or_default());
        if room.turns_out(key) {
            return Err(Answer::failed(Failure::Already, format!("{name} is on the way out of {label}")));
        }
        if !room.directory.members().any(|m| m.key == *key && m.name == *name) {
            return Err(Answer::failed_with(Failure::UnknownUser, format!("{name} is not in {label}"), "see `show`"));
        }
        // First the reason: a client that ends with its last room would not hear it afterwards.
        if let Some(session) = self.session_of(name, key) {
            let text = with_reason(format!("the server has put you out of {label}"), reason);
            self.out.push(session, Push::Notice { text });
        }
        let nobody = self.turn_out(id, key, RemoveReason::Kicked);
        let knows = self.secret_known(id).then(|| known(&label));
        Ok(done(format!("{name} is out of {label}"), nobody.then(|| waits(&label)).into_iter().chain(knows)))
    }

    fn kick_off(&mut self, name: &FullName, key: &PublicKey, reason: Option<&str>) -> Told {
        let (session, rooms) = (self.session_of(name, key), self.rooms_under(name, key));
        if session.is_none() && rooms.is_empty() {
            return Err(not_here(name));
        }
        self.send_off(name, key, "kicked", reason.map(str::to_owned));
        let notes = self.turn_out_of_all(&rooms, key, RemoveReason::Kicked);
        let away = session.is_none().then(|| format!("{name} was not connected"));
        Ok(done(
            format!("{name} is out of {} and off the server", rooms_of(rooms.len())),
            notes.into_iter().chain(away),
        ))
    }

    /// Frees a name whose key is lost.
    pub(super) fn release(&mut self, officer: &Officer, typed: &str) -> Told {
        let (name, key) = self.person(typed)?;
        if name.server != self.config.name {
            let why = format!("{name} is a name of another server");
            return Err(Answer::failed_with(Failure::NotAllowed, why, format!("ask {}", name.server)));
        }
        self.may_touch(officer, &key)?;
        if self.moderation.allowed.is_only(&key.fingerprint(), &name) {
            let why = format!("{name} is the last on the list of those who may get in: without it everybody gets in");
            return Err(Answer::failed_with(
                Failure::NotAllowed,
                why,
                "`allow` somebody else first, or `disallow` them",
            ));
        }
        let rooms = self.rooms_under(&name, &key);
        self.send_off(&name, &key, "kicked", Some("the name was released".into()));
        let mut notes = self.turn_out_of_all(&rooms, &key, RemoveReason::Released);
        let under = |id: &RoomId| self.rooms.get(id).is_some_and(|r| r.directory.members().any(|m| m.name == name));
        let directs: Vec<RoomId> = self.rooms.directs_of(&key).into_iter().filter(under).collect();
        directs.into_iter().for_each(|id| self.drop_direct(id, &key));
        self.names.remove(&name.name);
        self.out.write(Write::FreeName { name: name.name.clone() });
        self.forget_guests(std::iter::once(key));
        notes.extend(self.forget_entries_of(&name, &key));
        notes.push(
            "until somebody takes it, the key that had it can take it again; ban that key if it was stolen".into(),
        );
        Ok(done(format!("{name} is free; who meets its next owner is told that the key has changed"), notes))
    }

    /// What was given to a key under a name goes with the name. Says what that was.
    fn forget_entries_of(&mut self, name: &FullName, key: &PublicKey) -> Vec<String> {
        let lists = &mut self.moderation;
        let mut struck = Vec::new();
        if lists.roles.forget(key, name) {
            struck.push((List::Role, key.as_bytes().to_vec(), "its role"));
        }
        struck.extend(lists.mutes.forget(key, name).into_iter().map(|key| (List::Mute, key, "a mute of it")));
        if let Some(key) = lists.allowed.forget(&key.fingerprint(), name) {
            struck.push((List::Allowed, key, "its place on the list of those who may get in"));
        }
        let told = struck.iter().map(|(_, _, what)| format!("{what} is gone too")).collect();
        for (list, key, _) in struck {
            self.out.write(Write::Strike { list, key });
        }
        told
    }

    /// A member of a room of ours, by its full name.
    fn member_named(&self, typed: &str) -> Option<(FullName, PublicKey)> {
        let name = self.full_name(typed).ok()?;
        let rooms = self.rooms.iter().filter(|room| room.kind != RoomKind::Direct);
        let mut members = rooms.flat_map(|room| room.directory.members());
        members.find(|m| m.name == name).map(|m| (m.name.clone(), m.key))
    }

    /// Rooms that somebody is in under a name, and is to stay in so far; direct conversations are none.
    fn rooms_under(&self, name: &FullName, key: &PublicKey) -> Vec<RoomId> {
        let rooms = self.rooms.rooms_of(key).filter(|room| room.kind != RoomKind::Direct);
        let in_it = rooms.filter(|room| room.directory.members().any(|m| m.key == *key && m.name == *name));
        in_it.filter(|room| !room.turns_out(key)).map(|room| room.id).collect()
    }

    /// Whether a private room's secret stays what it is for now.
    fn secret_known(&self, id: RoomId) -> bool {
        let room = self.rooms.get(&id).filter(|room| room.kind == RoomKind::Private);
        room.is_some_and(|room| !room.subscribers.values().any(|key| *key == room.directory.policy().owner()))
    }

    fn turn_out_of_all(&mut self, rooms: &[RoomId], key: &PublicKey, reason: RemoveReason) -> Vec<String> {
        let mut notes = Vec::new();
        for id in rooms {
            if self.turn_out(*id, key, reason) {
                let label = self.rooms.get(id).and_then(|room| room.label.as_ref()).map(ToString::to_string);
                notes.push(waits(&label.unwrap_or_default()));
            }
        }
        notes
    }

    /// A member has no word in a room any more and hears nothing of it; its leaf goes with the next commit. Whether nobody is there
    /// now who could commit that. The proposal is in the log all the same, so that a restart does not forget it, and whoever goes
    /// hears it as the last thing.
    pub(in crate::server) fn turn_out(&mut self, id: RoomId, key: &PublicKey, reason: RemoveReason) -> bool {
        let session = self.online.get(key).copied();
        let Some(room) = self.rooms.get_mut(&id) else { return false };
        room.wanted.insert(*key, Some(reason));
        if let Some(session) = session {
            self.wait_no_more(session, id);
        }
        self.propose_removals(id);
        if let Some(session) = session {
            self.unsubscribe(session, id);
        }
        self.settle(id);
        self.rooms.get(&id).is_some_and(|room| room.subscribers.is_empty() && room.directory.is_member(key))
    }

    /// Ends the session of somebody who is here under a name, for good as far as the client is honest.
    pub(in crate::server) fn send_off(
        &mut self,
        name: &FullName,
        key: &PublicKey,
        word: &'static str,
        detail: Option<String>,
    ) {
        if let Some(session) = self.session_of(name, key) {
            self.out.push(session, Push::Bye { reason: word.into(), detail });
            self.close(session, word);
        }
    }
}

fn done(what: String, notes: impl IntoIterator<Item = String>) -> Answer {
    Answer::Done { what, notes: notes.into_iter().collect(), id: None, token: None }
}

fn rooms_of(count: usize) -> String {
    if count == 1 { "1 room".into() } else { format!("{count} rooms") }
}

fn known(label: &str) -> String {
    format!(
        "the owner of {label} is away: until its client changes the secret, whoever knows that can come in with a new key"
    )
}

fn waits(label: &str) -> String {
    format!("nobody is in {label} who could take the leaf out; the next one who comes does it")
}

pub(super) fn with_reason(text: String, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}
