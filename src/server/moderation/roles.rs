//! Who has a role.

use super::super::core::{Core, LoadError};
use super::{Officer, Told, entries};
use crate::crypto::identity::PublicKey;
use crate::limits::REGISTER_MAX;
use crate::store::{Entry, List, Write};
use crate::wire::admin::{Answer, Ask, Failure, Page, Role, RoleView};
use crate::wire::{encode, name::FullName};
use std::collections::BTreeMap;

/// By key: a name may change hands.
#[derive(Debug, Default)]
pub(super) struct Roles(BTreeMap<PublicKey, Holder>);

#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode)]
struct Holder {
    #[n(0)]
    name: FullName,
    #[n(1)]
    role: Role,
    #[n(2)]
    by: String,
    #[n(3)]
    since_ms: u64,
}

impl Roles {
    pub(super) fn load(register: &[Entry]) -> Result<Self, LoadError> {
        let roles = entries(register, List::Role, HOLDER_MAX).map(|entry| {
            let (key, holder) = entry?;
            let key = key.try_into().map_err(|_| LoadError::Register(List::Role.as_str()))?;
            Ok((PublicKey::from_bytes(key), holder))
        });
        Ok(Self(roles.collect::<Result<_, LoadError>>()?))
    }

    /// The role of a key, if it has one.
    pub(super) fn of(&self, key: &PublicKey) -> Option<Role> {
        self.0.get(key).map(|holder| holder.role)
    }

    /// Drops the role that a key was given under a name; whether it had one.
    pub(super) fn forget(&mut self, key: &PublicKey, name: &FullName) -> bool {
        self.0.get(key).is_some_and(|holder| holder.name == *name) && self.0.remove(key).is_some()
    }
}

impl Core {
    pub(super) fn role_ask(&mut self, officer: &Officer, ask: &Ask) -> Told {
        match ask {
            Ask::Grant { name, role } => self.grant_role(officer, name, *role),
            Ask::Revoke { name } => self.revoke_role(name),
            _ => Ok(self.list_roles()),
        }
    }

    fn list_roles(&self) -> Answer {
        let view = |(key, holder): (&PublicKey, &Holder)| RoleView {
            name: holder.name.to_string(),
            fingerprint: key.fingerprint().to_string(),
            role: holder.role,
            by: holder.by.clone(),
            since_ms: holder.since_ms,
        };
        Answer::Roles(Page::whole(self.moderation.roles.0.iter().map(view).collect()))
    }

    fn grant_role(&mut self, officer: &Officer, name: &str, role: Role) -> Told {
        if role == Role::Owner {
            return Err(Answer::failed_with(
                Failure::BadValue,
                "the owner of a server is who can open its admin socket",
                "roles to give are operator and moderator",
            ));
        }
        let (name, key) = self.person(name)?;
        let roles = &mut self.moderation.roles.0;
        if roles.get(&key).is_some_and(|holder| holder.role == role) {
            return Err(Answer::failed(Failure::Already, format!("{name} is {} already", role.as_str())));
        }
        if roles.len() >= REGISTER_MAX && !roles.contains_key(&key) {
            return Err(Answer::failed(Failure::Full, "there are as many roles as there may be"));
        }
        let holder = Holder { name: name.clone(), role, by: officer.named(), since_ms: self.wall_ms };
        let entry = Entry { list: List::Role, key: key.as_bytes().to_vec(), value: encode(&holder) };
        roles.insert(key, holder);
        self.out.write(Write::Keep(entry));
        Ok(Answer::done(format!("{name} is {} now", role.as_str())))
    }

    fn revoke_role(&mut self, name: &str) -> Told {
        let roles = &self.moderation.roles.0;
        let named = roles.iter().find(|(_, holder)| {
            holder.name.to_string() == *name
                || (holder.name.name.as_str() == name && holder.name.server == self.config.name)
        });
        let Some((key, name)) = named.map(|(key, holder)| (*key, holder.name.clone())) else {
            return Err(Answer::failed_with(Failure::UnknownUser, format!("{name} has no role here"), "see `roles`"));
        };
        self.moderation.roles.0.remove(&key);
        self.out.write(Write::Strike { list: List::Role, key: key.as_bytes().to_vec() });
        Ok(Answer::done(format!("{name} has no role any more")))
    }
}

const HOLDER_MAX: usize = 1024;
