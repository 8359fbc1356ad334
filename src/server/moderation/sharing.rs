//! Rules on what may be shared: kept, signed, and told to everybody who is here. The server itself sees no file.

use super::super::core::{Core, LoadError};
use super::super::forwarding::Stay;
use super::super::io::{Output, SessionId};
use super::{Officer, Told, entries};
use crate::crypto::identity::PublicKey;
use crate::limits::{REASON_MAX, REGISTER_MAX, RULE_MAX, SHARING_MAX};
use crate::store::{Entry, List, Write};
use crate::transfer::restrict::{check, fits, person};
use crate::wire::admin::{Answer, Ask, Failure, Page};
use crate::wire::frame::{Code, Push, Refusal};
use crate::wire::id::RoomId;
use crate::wire::name::{FullName, Name};
use crate::wire::sharing::{Document, Limits, Rule, RuleView, Scope};
use crate::wire::text::shown;
use crate::wire::{decode, encode};
use minicbor::bytes::ByteVec;
use std::collections::BTreeMap;

/// The rules, and what outlives each of them.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    rules: BTreeMap<u64, Kept>,
    head: Head,
    /// As it is pushed; made when it is needed.
    signed: Option<ByteVec>,
}

/// A rule, and for whom or where it is in words.
#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode)]
struct Kept {
    #[n(0)]
    rule: Rule,
    #[n(1)]
    whom: Option<String>,
    #[n(2)]
    by: String,
}

/// Numbers that only grow, whatever becomes of the rules.
#[derive(Debug, Clone, Default, minicbor::Encode, minicbor::Decode)]
struct Head {
    #[n(0)]
    last_id: u64,
    /// Of the document; 0 as long as there was never a rule.
    #[n(1)]
    version: u64,
    #[n(2)]
    changed_ms: u64,
}

impl Sharing {
    pub(super) fn load(register: &[Entry]) -> Result<Self, LoadError> {
        let broken = || LoadError::Register(List::Rule.as_str());
        let (heads, rules): (Vec<_>, Vec<_>) =
            register.iter().filter(|entry| entry.list == List::Rule).cloned().partition(|entry| entry.key == HEAD);
        let head = match heads.first() {
            Some(entry) => decode(&entry.value, RULE_MAX).map_err(|_| broken())?,
            // Rules without their numbers: some would be given twice.
            None if !rules.is_empty() => return Err(broken()),
            None => Head::default(),
        };
        let rules = entries(&rules, List::Rule, KEPT_MAX).map(|entry| {
            let (key, kept): (_, Kept) = entry?;
            if key == kept.rule.id.to_be_bytes() { Ok((kept.rule.id, kept)) } else { Err(broken()) }
        });
        Ok(Self { rules: rules.collect::<Result<_, LoadError>>()?, head, signed: None })
    }
}

impl Core {
    pub(super) fn sharing_ask(&mut self, officer: &Officer, ask: &Ask) -> Told {
        match ask {
            Ask::Restrict { room, user, limits, reason } => {
                self.restrict(officer, room.as_deref(), user.as_deref(), limits, reason.clone())
            }
            Ask::Unrestrict { id } => self.unrestrict(*id),
            _ => Ok(self.list_rules()),
        }
    }

    /// Tells somebody who has just logged in what may not be shared here, if that was ever anything.
    pub(in crate::server) fn tell_sharing(&mut self, session: SessionId) {
        if let Some(document) = self.sharing_document() {
            self.out.push(session, Push::Sharing(document));
        }
    }

    fn restrict(
        &mut self,
        officer: &Officer,
        room: Option<&str>,
        user: Option<&str>,
        limits: &Limits,
        reason: Option<String>,
    ) -> Told {
        let limits = self.sound_limits(limits)?;
        if reason.as_ref().is_some_and(|reason| reason.len() > REASON_MAX) {
            return Err(Answer::failed(Failure::BadValue, format!("a reason has at most {REASON_MAX} bytes")));
        }
        let (scope, whom) = match (room, user) {
            (Some(_), Some(_)) => {
                let why = "a rule is for a room or for a user, not for both";
                return Err(Answer::failed_with(Failure::BadValue, why, "make two rules"));
            }
            (Some(room), None) => {
                let (id, name) = self.own_room(room)?;
                (Scope::Room(id), Some(name.to_string()))
            }
            (None, Some(user)) => {
                let (name, key) = self.person(user)?;
                self.may_touch(officer, &key)?;
                (Scope::user(&key), Some(name.to_string()))
            }
            (None, None) => (Scope::All, None),
        };
        let sharing = &self.moderation.sharing;
        let id = sharing.head.last_id + 1;
        let rule = Rule { id, scope, limits, reason };
        let kept = Kept { rule, whom: whom.clone(), by: officer.named() };
        let value = encode(&kept);
        let rules = sharing.rules.values().map(|kept| encode(&kept.rule).len()).sum::<usize>();
        let all = sharing.rules.values().map(|kept| &kept.rule.limits).chain([&kept.rule.limits]);
        let full = !fits(all)
            || sharing.rules.len() >= REGISTER_MAX
            || rules + encode(&kept.rule).len() > SHARING_MAX - HEADROOM;
        if value.len() > RULE_MAX || full {
            let why = if full { "there are as many rules as there may be" } else { "the rule is too long" };
            return Err(Answer::failed_with(Failure::Full, why, "see `restrictions`; lift one, or make it shorter"));
        }
        self.moderation.sharing.head.last_id = id;
        self.moderation.sharing.rules.insert(id, kept);
        self.out.write(Write::Keep(Entry { list: List::Rule, key: id.to_be_bytes().to_vec(), value }));
        self.rules_changed();
        let whom = whom.map_or_else(|| "everybody here".to_owned(), |whom| shown(&whom));
        Ok(Answer::Done {
            what: format!("rule {id} holds for {whom}"),
            notes: vec!["the programs of both ends of a transfer hold to it; the server sees no files".into()],
            id: Some(id.to_string()),
            token: None,
        })
    }

    fn unrestrict(&mut self, id: u64) -> Told {
        if self.moderation.sharing.rules.remove(&id).is_none() {
            let why = format!("there is no rule {id}");
            return Err(Answer::failed_with(Failure::UnknownId, why, "see `restrictions`"));
        }
        self.out.write(Write::Strike { list: List::Rule, key: id.to_be_bytes().to_vec() });
        self.rules_changed();
        Ok(Answer::done(format!("rule {id} holds no longer")))
    }

    fn list_rules(&self) -> Answer {
        let view = |kept: &Kept| {
            let Rule { id, scope, limits, reason } = kept.rule.clone();
            let (room, user) = match scope {
                Scope::All => (None, None),
                Scope::Room(_) => (kept.whom.clone(), None),
                Scope::User(_) => (None, kept.whom.clone()),
            };
            RuleView { id, room, user, limits, reason }
        };
        Answer::Restrictions(Page::whole(self.moderation.sharing.rules.values().map(view).collect()))
    }

    /// The limits in their one form, with full names.
    fn sound_limits(&self, limits: &Limits) -> Result<Limits, Answer> {
        let mut limits = limits.clone();
        for name in &mut limits.only {
            let bare = name.trim_start_matches('@');
            let full = if bare.contains('@') { bare.to_owned() } else { format!("{bare}@{}", self.config.name) };
            // Who is of this server has to be known, or a slip of the pen would shut everybody out.
            if person(&full).is_some_and(|full| full.server == self.config.name) {
                self.person(&full)?;
            }
            *name = full;
        }
        check(&limits).map_err(|error| Answer::failed(Failure::BadValue, error.to_string()))
    }

    /// A room of ours, by its label or its full name.
    fn own_room(&self, typed: &str) -> Result<(RoomId, FullName), Answer> {
        let unknown = || {
            let why = format!("there is no room {} here", shown(typed));
            Answer::failed_with(Failure::UnknownRoom, why, "see `rooms`")
        };
        let bare = typed.trim_start_matches('#');
        let (label, server) = bare.split_once('@').map_or((bare, None), |(label, server)| (label, Some(server)));
        if server.is_some_and(|server| Name::parse(server).ok().as_ref() != Some(&self.config.name)) {
            return Err(unknown());
        }
        let label = Name::parse(label).map_err(|_| unknown())?;
        let room = self.rooms.by_label(&label).ok_or_else(unknown)?;
        Ok((room.id, FullName::new(label, self.config.name.clone())))
    }

    /// A relayed transfer is all that a server sees of files: none for whom a rule switches sharing off.
    pub(in crate::server) fn may_relay(&self, key: &PublicKey) -> Result<(), Refusal> {
        let theirs = |scope: &Scope| *scope == Scope::All || *scope == Scope::user(key);
        let rules = self.moderation.sharing.rules.values().map(|kept| &kept.rule);
        match rules.into_iter().find(|rule| rule.limits.off && theirs(&rule.scope)) {
            None => Ok(()),
            Some(rule) => {
                let why = format!("rule {} of the server {}: nothing is shared", rule.id, self.config.name);
                Err(Refusal::new(Code::NotAllowed, why))
            }
        }
    }

    /// What that means for the legs of somebody who is here.
    pub(in crate::server) fn stay(&self, key: &PublicKey) -> Stay {
        if self.may_relay(key).is_ok() { Stay::Here } else { Stay::Barred }
    }

    /// Rules for rooms that are gone.
    pub(super) fn prune_rules(&mut self) {
        let gone = |kept: &Kept| matches!(kept.rule.scope, Scope::Room(id) if self.rooms.get(&id).is_none());
        let rules = &self.moderation.sharing.rules;
        let gone: Vec<u64> = rules.iter().filter(|(_, kept)| gone(kept)).map(|(id, _)| *id).collect();
        for id in &gone {
            self.moderation.sharing.rules.remove(id);
            self.out.write(Write::Strike { list: List::Rule, key: id.to_be_bytes().to_vec() });
        }
        if !gone.is_empty() {
            self.rules_changed();
        }
    }

    /// The next version, for everybody who is here.
    fn rules_changed(&mut self) {
        let sharing = &mut self.moderation.sharing;
        sharing.head.version += 1;
        sharing.head.changed_ms = self.wall_ms;
        sharing.signed = None;
        let value = encode(&sharing.head);
        self.out.write(Write::Keep(Entry { list: List::Rule, key: HEAD.to_vec(), value }));
        if let Some(document) = self.sharing_document() {
            self.out.fan_out(self.online.values().copied(), Push::Sharing(document));
        }
        let stays: Vec<_> = self.online.keys().map(|key| (*key, self.stay(key))).collect();
        for (user, stay) in stays {
            self.out.output(Output::Legs { user, stay });
        }
    }

    /// Signed; `None` as long as there was never a rule.
    fn sharing_document(&mut self) -> Option<ByteVec> {
        let sharing = &mut self.moderation.sharing;
        if sharing.signed.is_none() && sharing.head.version > 0 {
            let rules = sharing.rules.values().map(|kept| kept.rule.clone()).collect();
            let (server, Head { version, changed_ms, .. }) = (self.config.name.clone(), sharing.head.clone());
            let document = Document { server, version, rules, issued_ms: changed_ms };
            sharing.signed = Some(document.sign(&self.identity).into());
        }
        sharing.signed.clone()
    }
}

/// The key of the [`Head`] among the rules, whose keys have eight bytes.
const HEAD: &[u8] = b"head";
/// What a document has beside its rules, bytes.
const HEADROOM: usize = 1024;
/// A rule as it is kept: names beside it.
const KEPT_MAX: usize = RULE_MAX + 1024;
