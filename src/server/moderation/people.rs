//! Looking at people and speaking to them; kicks, mutes, released names.

use super::super::core::Core;
use super::{Officer, Told};
use crate::crypto::identity::PublicKey;
use crate::wire::admin::{Answer, Ask, Failure};
use crate::wire::log::RemoveReason;
use crate::wire::name::{FullName, Name};

impl Core {
    pub(super) fn people_ask(&mut self, officer: &Officer, ask: &Ask) -> Told {
        if let Ask::Kick { name, room: Some(room), .. } = ask {
            return self.kick_from_room(officer, name, room);
        }
        Err(Answer::failed(Failure::Failed, format!("{ask:?} is not understood")))
    }

    fn kick_from_room(&mut self, officer: &Officer, name: &str, room: &str) -> Told {
        let (name, key) = self.person(name)?;
        let room = self.room_named(room)?.id;
        self.may_touch(officer, &key)?;
        self.expel(room, &key, RemoveReason::Kicked);
        Ok(Answer::done(format!("{name} is kicked")))
    }

    /// Somebody whom this server knows: `NAME` or `NAME@SERVER`, of its own or here from another server.
    pub(super) fn person(&self, typed: &str) -> Result<(FullName, PublicKey), Answer> {
        let unknown = || {
            let why = format!("nobody of the name {} is known here", crate::wire::text::shown(typed));
            Answer::failed_with(Failure::UnknownUser, why, "see `users`")
        };
        let (name, server) = typed.trim_start_matches('@').split_once('@').map_or((typed, None), |(n, s)| (n, Some(s)));
        let name = Name::parse(name.trim_start_matches('@')).map_err(|_| unknown())?;
        let server = server.map_or_else(|| Ok(self.config.name.clone()), Name::parse).map_err(|_| unknown())?;
        let full = FullName::new(name, server);
        if full.server == self.config.name {
            let key = self.names.owner(&full.name).ok_or_else(unknown)?;
            return Ok((full, key));
        }
        let session = self.guests.get(&full).and_then(|session| self.sessions.get(session)).ok_or_else(unknown)?;
        Ok((full, session.key))
    }
}
