//! Looking at people and speaking to them; kicks, mutes, released names.

use super::super::core::Core;
use super::{Officer, Told};
use crate::crypto::identity::PublicKey;
use crate::wire::admin::{Answer, Ask, Failure};
use crate::wire::name::{FullName, Name};

impl Core {
    pub(super) fn people_ask(&mut self, _officer: &Officer, ask: &Ask) -> Told {
        Err(Answer::failed(Failure::Failed, format!("{ask:?} is not understood")))
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
