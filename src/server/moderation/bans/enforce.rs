//! Bans at the door, and at once when they come to be known.

use super::super::super::core::Core;
use super::super::super::io::SessionId;
use super::super::super::sessions::BANNED;
use super::list::{Held, Person};
use crate::crypto::identity::PublicKey;
use crate::wire::ban::{Ban, Target};
use crate::wire::frame::{Code, Push, Refusal};
use crate::wire::id::RoomId;
use crate::wire::log::RemoveReason;
use crate::wire::name::FullName;
use crate::wire::policy::RoomKind;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl Core {
    /// Lets in nobody whose key, or whose address at a connection to this server, is banned.
    pub(in crate::server) fn barred(&self, key: &PublicKey, ip: Option<IpAddr>) -> Result<(), Refusal> {
        self.ban_on(key, None, ip).map_or(Ok(()), |ban| Err(self.banned(ban)))
    }

    /// Lets in nobody by a banned name. Where the name is proved to be the key's, a ban that knew of no key is bound to it.
    pub(in crate::server) fn barred_name(
        &mut self,
        name: &FullName,
        key: &PublicKey,
        proven: bool,
    ) -> Result<(), Refusal> {
        let Some(refusal) = self.ban_on(key, Some(name), None).map(|ban| self.banned(ban)) else { return Ok(()) };
        if proven {
            self.bind(name, key);
            // It may be here under another name.
            self.keep_out();
        }
        Err(refusal)
    }

    /// Whether somebody is banned here, by name or key.
    pub(in crate::server) fn is_banned(&self, name: &FullName, key: &PublicKey) -> bool {
        self.ban_on(key, Some(name), None).is_some()
    }

    fn ban_on(&self, key: &PublicKey, name: Option<&FullName>, ip: Option<IpAddr>) -> Option<&Ban> {
        let has_role = self.moderation.roles.of(key).is_some();
        let who = Person { key: key.fingerprint(), name, ip, has_role };
        self.moderation.bans.list.find(who, self.own_node(), self.wall_ms).map(|(_, ban)| ban)
    }

    /// Ends the sessions of those who are banned, and has their leaves removed from the rooms of this server; how many sessions.
    pub(in crate::server) fn keep_out(&mut self) -> usize {
        let banned = |(id, session): (&SessionId, &crate::server::sessions::Session)| {
            let ip = session.via.is_none().then(|| session.addr.ip());
            let ban = self.ban_on(&session.key, Some(session.name.as_ref()?), ip)?;
            Some((*id, session.key, Some(ban.reason.clone()).filter(|reason| !reason.is_empty())))
        };
        let sessions: Vec<_> = self.sessions.iter().filter_map(banned).collect();
        let rooms = self.banned_members(sessions.iter().map(|(_, key, _)| *key).collect());
        for (id, _, detail) in &sessions {
            self.out.push(*id, Push::Bye { reason: BANNED.into(), detail: detail.clone() });
            self.close(*id, BANNED);
        }
        rooms.into_iter().for_each(|room| self.settle(room));
        sessions.len()
    }

    /// Wants those out of their rooms who are banned, and some others; the rooms that this concerns.
    pub(in crate::server) fn banned_members(&mut self, others: BTreeSet<PublicKey>) -> Vec<RoomId> {
        let rooms = || self.rooms.iter().filter(|room| room.kind != RoomKind::Direct);
        let members: BTreeMap<PublicKey, &FullName> =
            rooms().flat_map(|room| room.directory.members()).map(|member| (member.key, &member.name)).collect();
        let banned = members.into_iter().filter(|(key, name)| self.is_banned(name, key));
        let out: BTreeSet<PublicKey> = banned.map(|(key, _)| key).chain(others).collect();
        let mut concerned = Vec::new();
        for room in self.rooms.iter_mut().filter(|room| room.kind != RoomKind::Direct) {
            for key in out.iter().filter(|key| room.directory.is_member(key)) {
                if !room.turns_out(key) {
                    room.wanted.insert(*key, Some(RemoveReason::Banned));
                }
                concerned.push(room.id);
            }
        }
        concerned.dedup();
        concerned
    }

    /// The key that is known to be behind a name.
    pub(super) fn key_behind(&self, name: &FullName) -> Option<PublicKey> {
        if name.server == self.config.name {
            return self.names.owner(&name.name);
        }
        let online = self.guests.get(name).and_then(|session| self.sessions.get(session)).map(|session| session.key);
        let members = || self.rooms.iter().flat_map(|room| room.directory.members());
        online.or_else(|| members().find(|member| member.name == *name).map(|member| member.key))
    }

    /// Bans by this name are from now on for this key too, under any name. Of an own ban the other servers hear.
    pub(super) fn bind(&mut self, name: &FullName, key: &PublicKey) {
        let own = self.own_node();
        for at in self.moderation.bans.list.unbound(name, self.wall_ms) {
            let Some(held) = self.moderation.bans.list.get(&at).cloned() else { continue };
            if at.origin == own {
                let target = Target::Name { name: name.clone(), key: Some(key.fingerprint().0.into()) };
                self.say_ban(Ban { target, ..held.ban().clone() });
            } else {
                let write = self.moderation.bans.list.keep(at, Held { seen: Some(key.fingerprint()), ..held });
                self.out.write(write);
            }
        }
    }

    fn banned(&self, ban: &Ban) -> Refusal {
        let by = if ban.server == self.config.name { String::new() } else { format!(" by {}", ban.server) };
        let until = ban.until_ms.map(|until| format!(" until {}", time(until))).unwrap_or_default();
        let why = if ban.reason.is_empty() { String::new() } else { format!(": {}", ban.reason) };
        Refusal::new(Code::Banned, format!("you are banned{by}{until}{why}"))
            .hint(format!("only whoever runs {} can lift it", ban.server))
    }
}

/// A time, for people.
pub(super) fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "the end of time".into(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
