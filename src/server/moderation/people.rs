//! Looking at people, and speaking to them.

use super::super::core::Core;
use super::super::room::Room;
use super::{Officer, Told};
use crate::crypto::identity::PublicKey;
use crate::limits::{ADMIN_PAGE, TEXT_MAX};
use crate::wire::admin::{Answer, Ask, Failure, Page, UserView};
use crate::wire::frame::Push;
use crate::wire::name::{FullName, Name};
use crate::wire::text::shown;
use std::collections::BTreeMap;

impl Core {
    pub(super) fn people_ask(&mut self, officer: &Officer, ask: &Ask) -> Told {
        match ask {
            Ask::Show { name } => self.show_person(name),
            Ask::Message { name, text } => self.message(name, text),
            Ask::Broadcast { text } => self.broadcast(text),
            Ask::Kick { name, room, reason } => self.kick(officer, name, room.as_deref(), reason.as_deref()),
            Ask::Mute { name, room, for_s, reason } => {
                self.mute(officer, name, room.as_deref(), *for_s, reason.as_deref())
            }
            Ask::Unmute { name, room } => self.unmute(officer, name, room.as_deref()),
            Ask::Mutes => Ok(self.list_mutes()),
            Ask::Release { name } => self.release(officer, name),
            Ask::Users { after } => self.list_people(after.as_deref()),
            other => Err(Answer::failed(Failure::Malformed, format!("{other:?} is not about people"))),
        }
    }

    /// Somebody whom this server knows: `NAME` or `NAME@SERVER`, of its own or here from another server.
    pub(super) fn person(&self, typed: &str) -> Result<(FullName, PublicKey), Answer> {
        let unknown = || unknown_person(typed);
        let full = self.full_name(typed)?;
        if full.server == self.config.name {
            let key = self.names.owner(&full.name).ok_or_else(unknown)?;
            return Ok((full, key));
        }
        let session = self.guests.get(&full).and_then(|session| self.sessions.get(session)).ok_or_else(unknown)?;
        Ok((full, session.key))
    }

    /// A name as it is typed, with this server's where none is given; whether anybody has it is not looked at.
    pub(super) fn full_name(&self, typed: &str) -> Result<FullName, Answer> {
        let unknown = || unknown_person(typed);
        let typed = typed.trim_start_matches('@');
        let (name, server) = typed.split_once('@').map_or((typed, None), |(name, server)| (name, Some(server)));
        let name = Name::parse(name).map_err(|_| unknown())?;
        let server = server.map_or_else(|| Ok(self.config.name.clone()), Name::parse).map_err(|_| unknown())?;
        Ok(FullName::new(name, server))
    }

    /// A room of this server: `LABEL` or `LABEL@SERVER`, perhaps with a `#`.
    pub(super) fn room_here(&self, typed: &str) -> Result<&Room, Answer> {
        let unknown = || {
            let why = format!("there is no room {} on this server", shown(typed));
            Answer::failed_with(Failure::UnknownRoom, why, "see `rooms`")
        };
        let typed = typed.trim_start_matches('#');
        let (label, server) = typed.split_once('@').map_or((typed, None), |(label, server)| (label, Some(server)));
        let here = server.is_none_or(|server| Name::parse(server).is_ok_and(|server| server == self.config.name));
        let label = Name::parse(label).ok().filter(|_| here).ok_or_else(unknown)?;
        self.rooms.by_label(&label).ok_or_else(unknown)
    }

    /// The session under which somebody is here now.
    pub(super) fn session_of(&self, name: &FullName, key: &PublicKey) -> Option<u64> {
        let session = *self.online.get(key)?;
        self.sessions.get(&session).filter(|s| s.name.as_ref() == Some(name)).map(|_| session)
    }

    /// Labels of the rooms that somebody is in under a name.
    fn labels_of(&self, name: &FullName, key: &PublicKey) -> Vec<String> {
        let there = |room: &&Room| room.directory.members().any(|m| m.key == *key && m.name == *name);
        let stays = |room: &&Room| !room.wanted.contains_key(key);
        let rooms = self.rooms.rooms_of(key).filter(stays).filter(there);
        rooms.filter_map(|room| room.label.as_ref().map(ToString::to_string)).collect()
    }

    fn view(&self, name: FullName, key: &PublicKey) -> UserView {
        let session = self.session_of(&name, key).and_then(|session| self.sessions.get(&session));
        UserView {
            name: name.to_string(),
            fingerprint: key.fingerprint().to_string(),
            online: session.is_some(),
            address: session.filter(|s| s.via.is_none()).map(|s| s.addr.to_string()),
            via: session.and_then(|s| s.via.as_ref()).map(ToString::to_string),
            role: self.moderation.roles.of(key),
            muted: self.moderation.mutes.any(key, self.wall_ms),
            ..UserView::default()
        }
    }

    fn show_person(&self, typed: &str) -> Told {
        let (name, key) = self.person(typed)?;
        let rooms = self.labels_of(&name, &key);
        Ok(Answer::User(Box::new(UserView { rooms, ..self.view(name, &key) })))
    }

    /// All own names, and guests that are here; a page in the order of their full names.
    fn list_people(&self, after: Option<&str>) -> Told {
        let after = after.map(|typed| self.full_name(typed)).transpose()?;
        let guests = self.guests.iter().filter_map(|(name, id)| Some((name.clone(), self.sessions.get(id)?.key)));
        let own = self.names.iter().map(|(name, key)| (FullName::new(name.clone(), self.config.name.clone()), *key));
        let mut page = BTreeMap::new();
        for (name, key) in own.chain(guests).filter(|(name, _)| after.as_ref().is_none_or(|after| name > after)) {
            page.insert(name, key);
            if page.len() > ADMIN_PAGE + 1 {
                page.pop_last();
            }
        }
        let more = page.len() > ADMIN_PAGE;
        if more {
            page.pop_last();
        }
        let next = page.last_key_value().filter(|_| more).map(|(name, _)| name.to_string());
        let rows = page.into_iter().map(|(name, key)| self.view(name, &key)).collect();
        Ok(Answer::Users(Page { rows, next }))
    }

    fn message(&mut self, typed: &str, text: &str) -> Told {
        let (name, key) = self.person(typed)?;
        fits(text)?;
        let session = self.session_of(&name, &key).ok_or_else(|| not_here(&name))?;
        self.out.push(session, Push::Notice { text: text.to_owned() });
        Ok(Answer::done(format!("{name} has been told")))
    }

    fn broadcast(&mut self, text: &str) -> Told {
        fits(text)?;
        let everybody: Vec<_> = self.online.values().copied().collect();
        let many = everybody.len();
        self.out.fan_out(everybody.into_iter(), Push::Notice { text: text.to_owned() });
        Ok(Answer::done(format!("{many} {} been told", if many == 1 { "person has" } else { "people have" })))
    }
}

pub(super) fn not_here(name: &FullName) -> Answer {
    Answer::failed_with(Failure::UnknownUser, format!("{name} is not here"), "see `users` for who is")
}

fn unknown_person(typed: &str) -> Answer {
    let why = format!("nobody of the name {} is known here", shown(typed));
    Answer::failed_with(Failure::UnknownUser, why, "see `users`")
}

fn fits(text: &str) -> Result<(), Answer> {
    if text.trim().is_empty() {
        return Err(Answer::failed(Failure::BadValue, "there is nothing to say"));
    }
    if text.len() > TEXT_MAX {
        return Err(Answer::failed(Failure::BadValue, format!("a text has at most {TEXT_MAX} bytes")));
    }
    Ok(())
}
