//! Who gets in: the list of those who may, and what else is asked at the door.

use super::super::core::{Core, LoadError};
use super::{Officer, Told, entries, fitting};
use crate::crypto::identity::{Fingerprint, PublicKey};
use crate::limits::REGISTER_MAX;
use crate::store::{Entry, List, Write};
use crate::wire::admin::{AllowView, Answer, Ask, Failure};
use crate::wire::encode;
use crate::wire::frame::{Code, Refusal};
use crate::wire::name::FullName;
use crate::wire::text::shown;
use std::collections::BTreeMap;

/// Those who may get in; while it is empty, everybody may.
#[derive(Debug, Default)]
pub(super) struct Allowed(BTreeMap<Fingerprint, Listed>);

#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode)]
struct Listed {
    /// If it was listed by its name.
    #[n(0)]
    name: Option<FullName>,
    #[n(1)]
    by: String,
}

impl Allowed {
    pub(super) fn load(register: &[Entry]) -> Result<Self, LoadError> {
        let all = entries(register, List::Allowed, LISTED_MAX).map(|entry| {
            let (key, listed) = entry?;
            Ok((Fingerprint(key.try_into().map_err(|_| LoadError::Register(List::Allowed.as_str()))?), listed))
        });
        Ok(Self(all.collect::<Result<_, LoadError>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list would be empty without a key that was listed under a name.
    pub(super) fn is_only(&self, key: &Fingerprint, name: &FullName) -> bool {
        self.0.len() == 1 && self.0.get(key).is_some_and(|listed| listed.name.as_ref() == Some(name))
    }

    /// Drops a key that was listed under a name; its key in the register.
    pub(super) fn forget(&mut self, key: &Fingerprint, name: &FullName) -> Option<Vec<u8>> {
        self.0.get(key).filter(|listed| listed.name.as_ref() == Some(name))?;
        self.0.remove(key).map(|_| key.0.to_vec())
    }
}

impl Core {
    pub(super) fn gate_ask(&mut self, officer: &Officer, ask: &Ask) -> Told {
        match ask {
            Ask::Allow { whom } => self.allow(officer, whom),
            Ask::Disallow { whom } => self.disallow(whom),
            Ask::Allowed => Ok(self.list_allowed()),
            Ask::Registration { mode } => self.set_registration(*mode),
            Ask::Defcon { level } => self.set_level(*level),
            Ask::Settings => Ok(self.settings_view()),
            other => Err(Answer::failed(Failure::Malformed, format!("{other:?} is not about the gate"))),
        }
    }

    /// Whether a key gets in at all, whatever its name; looked at before anything costly.
    pub(in crate::server) fn may_enter(&self, key: &PublicKey) -> Result<(), Refusal> {
        let lists = &self.moderation;
        if (lists.allowed.is_empty() && lists.settings.strangers()) || self.is_known(key) {
            return Ok(());
        }
        Err(Refusal::new(Code::NotListed, "only those get in now whom the server has on its list")
            .hint(format!("ask whoever runs it; your fingerprint is {}", key.fingerprint())))
    }

    /// Whether a key has a role or stands on the list.
    fn is_known(&self, key: &PublicKey) -> bool {
        self.moderation.roles.of(key).is_some() || self.moderation.allowed.0.contains_key(&key.fingerprint())
    }

    /// Who is here and would not get in again.
    pub(super) fn unlisted_note(&self) -> Option<String> {
        let many = self.online.keys().filter(|key| !self.is_known(key)).count();
        (many > 0).then(|| {
            format!("{many} who are here now would not get in again; they stay until they leave or are kicked")
        })
    }

    fn allow(&mut self, officer: &Officer, whom: &str) -> Told {
        let (name, key) = self.fingerprint_or_name(whom)?;
        let shown = name.as_ref().map_or_else(|| key.to_string(), ToString::to_string);
        let list = &mut self.moderation.allowed.0;
        if list.contains_key(&key) {
            return Err(Answer::failed(Failure::Already, format!("{shown} is on the list already")));
        }
        if list.len() >= REGISTER_MAX {
            return Err(Answer::failed(Failure::Full, "the list is as long as it may be"));
        }
        let first = list.is_empty();
        let listed = Listed { name, by: officer.named() };
        self.out.write(Write::Keep(Entry { list: List::Allowed, key: key.0.to_vec(), value: encode(&listed) }));
        list.insert(key, listed);
        let mut notes = Vec::new();
        if first {
            notes.push("from now on only those on the list and those with a role get in".to_owned());
            notes.extend(self.unlisted_note());
        }
        Ok(Answer::Done { what: format!("{shown} is on the list"), notes, id: None, token: None })
    }

    fn disallow(&mut self, whom: &str) -> Told {
        let by_print = whom.parse::<Fingerprint>().ok();
        let name = self.full_name(whom).ok();
        let named = |listed: &Listed| listed.name.is_some() && listed.name == name;
        let mut list = self.moderation.allowed.0.iter();
        let found = list.find(|(key, listed)| Some(**key) == by_print || named(listed)).map(|(key, _)| *key);
        // Listed by its fingerprint, and named now.
        let known = || self.person(whom).ok().map(|(_, key)| key.fingerprint());
        let key = found.or_else(|| known().filter(|key| self.moderation.allowed.0.contains_key(key)));
        let Some(key) = key else {
            let why = format!("{} is not on the list", shown(whom));
            return Err(Answer::failed_with(Failure::UnknownUser, why, "see `allow list`"));
        };
        self.moderation.allowed.0.remove(&key);
        self.out.write(Write::Strike { list: List::Allowed, key: key.0.to_vec() });
        let empty = self.moderation.allowed.is_empty();
        let note = empty.then(|| "the list is empty: everybody gets in".to_owned());
        let what = format!("{} is off the list", shown(whom));
        Ok(Answer::Done { what, notes: note.into_iter().collect(), id: None, token: None })
    }

    /// 64 hex digits, or the name of somebody who is known here.
    fn fingerprint_or_name(&self, whom: &str) -> Result<(Option<FullName>, Fingerprint), Answer> {
        if let Ok(key) = whom.parse::<Fingerprint>() {
            return Ok((None, key));
        }
        self.person(whom).map(|(name, key)| (Some(name), key.fingerprint()))
    }

    fn list_allowed(&self) -> Answer {
        let view = |(key, listed): (&Fingerprint, &Listed)| AllowView {
            fingerprint: key.to_string(),
            name: listed.name.as_ref().map(ToString::to_string),
            by: listed.by.clone(),
        };
        Answer::Allowed(fitting(self.moderation.allowed.0.iter().map(view), |row| row.fingerprint.clone()))
    }
}

const LISTED_MAX: usize = 512;
