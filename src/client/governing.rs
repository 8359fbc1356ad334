//! What a room's owner and moderators do in it: each act becomes one commit, made again until it wins an epoch or is no longer needed.

use super::acts::{Act, Step};
use super::commands::Deed;
use super::conversation::Conversation;
use super::core::{Core, Ticket};
use super::dispatch::no_room;
use super::effects::Effect;
use super::event::Event;
use super::problem::{FAILED, NOT_FOUND, Problem, REFUSED};
use super::rotating::Rotation;
use crate::crypto::identity::PublicKey;
use crate::crypto::room::{RoomKeys, generate_room_secret, weak_secret};
use crate::crypto::secret::Secret;
use crate::group::{Change, CommitError, Governing, MemberInfo, Sealer};
use crate::limits::TEXT_MAX;
use crate::wire::admin::Wish;
use crate::wire::id::RoomId;
use crate::wire::name::FullName;
use crate::wire::payload::Body;
use crate::wire::policy::{MODERATORS_MAX, Policy, ROOM_BANS_MAX, TOPIC_MAX};
use std::collections::{BTreeSet, VecDeque};

/// A room's government as this client has part in it.
#[derive(Debug, Default)]
pub(super) struct Rule {
    /// The policy that the user knows.
    pub told: Option<Policy>,
    /// What is to be done, the first of it now.
    pub acts: VecDeque<Planned>,
    pub rotation: Rotation,
    /// Muted members of whom the user knows that they speak all the same.
    pub shouters: BTreeSet<PublicKey>,
}

/// An act, until its commit is logged.
#[derive(Debug)]
pub(super) struct Planned {
    pub ticket: Ticket,
    pub act: Act,
    /// The new secret that comes with it.
    pub fresh: Option<Fresh>,
    stage: Stage,
    tries: u32,
}

/// A secret that is not in force yet.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub secret: Secret,
    pub keys: Option<RoomKeys>,
    /// Not the user's own words.
    generated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Ready,
    /// The user is asked for the new secret.
    Asking,
    /// Its keys are derived, under this number.
    Deriving(u64),
    /// The commit is on its way, out of this epoch.
    Sent(u64),
}

impl Planned {
    pub const fn new(ticket: Ticket, act: Act) -> Self {
        Self { ticket, act, fresh: None, stage: Stage::Ready, tries: 0 }
    }

    /// Whether it ends with another secret.
    const fn renews(&self) -> bool {
        matches!(self.act, Act::Rotate | Act::Secret(_)) || self.fresh.is_some()
    }
}

impl Rule {
    /// We are in the room, perhaps not for the first time, and this is its policy.
    pub fn begin(&mut self, policy: &Policy) {
        if self.told.as_ref().is_none_or(|told| told.join_key() != policy.join_key()) {
            self.rotation = Rotation::default();
        }
        self.told = Some(policy.clone());
    }

    /// Whether another secret is on its way already.
    pub fn is_renewing(&self) -> bool {
        self.acts.iter().any(Planned::renews)
    }
}

impl Core {
    /// `/kick NAME`, `/topic TEXT` and the like, in the current room.
    pub(super) fn govern_typed(&mut self, number: u64, deed: Deed) -> Result<(), Problem> {
        let id = self.room_named(None)?;
        let reason = match &deed {
            Deed::Kick { reason, .. } => reason.clone(),
            _ => None,
        };
        let act = self.act_of(&id, deed)?;
        let conversation = self.conversations.get(&id).ok_or_else(no_room)?;
        if let Step::Never(problem) = act.step(&conversation.room, true) {
            return Err(problem);
        }
        if conversation.rule.acts.len() >= ACTS_WAITING {
            return Err(Problem::full());
        }
        if let (Some(reason), Act::Kick(key)) = (reason, &act) {
            let whom = conversation.room.member(key).map(|member| member.name.to_string()).unwrap_or_default();
            let text = format!("kick {whom}: {reason}");
            if text.len() > TEXT_MAX {
                return Err(Problem::new("too_large", FAILED, "the reason is too long"));
            }
            // Said first, so that they hear it too.
            self.queue(&id, Body::Text(text), None)?;
        }
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.rule.acts.push_back(Planned::new(Some(number), act));
        }
        Ok(())
    }

    fn act_of(&self, id: &RoomId, deed: Deed) -> Result<Act, Problem> {
        let conversation = self.conversations.get(id).ok_or_else(no_room)?;
        let policy = conversation.room.policy();
        let full = |count: usize, most: usize| match count < most {
            true => Ok(()),
            false => Err(Problem::new("too_many", FAILED, format!("a room has at most {most} of these"))),
        };
        let act = match deed {
            Deed::Kick { name, .. } => Act::Kick(self.member_named(conversation, &name)?),
            Deed::Ban { name } => {
                full(policy.banned().count(), ROOM_BANS_MAX)?;
                let known = || self.peers.pinned(&self.full_name(&name).ok()?);
                let key = self.member_named(conversation, &name).or_else(|problem| known().ok_or(problem))?;
                Act::Ban(key)
            }
            Deed::Unban { name } => Act::Unban(self.on_list(policy.banned(), &name, "banned")?),
            Deed::Mute { name } => {
                full(policy.muted().count(), ROOM_BANS_MAX)?;
                Act::Mute(self.member_named(conversation, &name)?)
            }
            Deed::Unmute { name } => Act::Unmute(self.on_list(policy.muted(), &name, "muted")?),
            Deed::Op { name } => {
                full(policy.moderators().count(), MODERATORS_MAX)?;
                Act::Op(self.member_named(conversation, &name)?)
            }
            Deed::Deop { name } => Act::Deop(self.on_list(policy.moderators(), &name, "moderator")?),
            Deed::Topic { text } if text.len() > TOPIC_MAX => {
                return Err(Problem::new("too_large", FAILED, format!("a topic has at most {TOPIC_MAX} bytes")));
            }
            Deed::Topic { text } => Act::Topic(text),
            Deed::Owner { name } => Act::HandOver(self.member_named(conversation, &name)?),
            Deed::Password { own } => Act::Secret(own),
        };
        let own = conversation.room.own_key();
        if matches!(&act, Act::Kick(key) | Act::Ban(key) | Act::Mute(key) | Act::HandOver(key) if *key == own) {
            return Err(Problem::new("yourself", FAILED, "that is you").hint("/leave leaves a room"));
        }
        Ok(act)
    }

    fn member_named(&self, conversation: &Conversation, name: &str) -> Result<PublicKey, Problem> {
        let name = self.full_name(name)?;
        let member = conversation.room.members().find(|member| member.name == name);
        let text = || format!("{name} is not in {}", conversation.title());
        member.map(|member| member.key).ok_or_else(|| Problem::new("not_found", NOT_FOUND, text()))
    }

    /// One of a list of keys, by the name that belongs to it or the beginning of its fingerprint.
    fn on_list(&self, mut keys: impl Iterator<Item = PublicKey>, name: &str, what: &str) -> Result<PublicKey, Problem> {
        let pinned = self.full_name(name).ok().and_then(|name| self.key_named(&name));
        let starts = |key: &PublicKey| name.len() >= 8 && key.fingerprint().to_string().starts_with(name);
        let found = keys.find(|key| Some(*key) == pinned || starts(key));
        found.ok_or_else(|| {
            let text = format!("nobody of the name {name} is {what} here");
            Problem::new("not_found", NOT_FOUND, text)
                .hint("/members shows who is what; the beginning of a fingerprint will do")
        })
    }

    fn key_named(&self, name: &FullName) -> Option<PublicKey> {
        if self.me() == Some(name) { Some(self.config.identity.public()) } else { self.peers.pinned(name) }
    }

    /// How people call the owner of a key: a member's name, one that it was seen with, or its fingerprint.
    pub(super) fn called(&self, conversation: &Conversation, key: &PublicKey) -> String {
        let member = conversation.room.member(key).map(|member| &member.name);
        let known = || self.peers.name_of(key);
        member.or_else(known).map_or_else(|| key.fingerprint().to_string(), ToString::to_string)
    }

    /// A commit is in the log: what it means for those who govern the room, and for its secret.
    pub(super) fn ruled(&mut self, id: RoomId, change: &Change, gone: &[(MemberInfo, &'static str)]) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let (now, own) = (conversation.room.policy().clone(), conversation.room.own_key());
        let before = conversation.rule.told.replace(now.clone());
        if let Some(before) = before.as_ref().filter(|before| **before != now) {
            conversation.rule.shouters.retain(|key| now.is_muted(key));
            self.tell_of_policy(id, before, &now, &change.committer.name);
        }
        self.secret_follows(id, before.as_ref(), change, gone);
        if change.committer.key == own && !change.joined {
            self.act_logged(id, change.epoch);
        }
    }

    fn tell_of_policy(&mut self, id: RoomId, before: &Policy, now: &Policy, by: &FullName) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let (room, by) = (conversation.title(), by.to_string());
        let mut events = Vec::new();
        if before.topic != now.topic {
            events.push(Event::TopicChanged { room: room.clone(), topic: now.topic.clone(), by: by.clone() });
        }
        let mut role = |key: &PublicKey, role: &str| {
            let (name, role) = (self.called(conversation, key), role.to_owned());
            events.push(Event::RoleChanged { room: room.clone(), name, role, by: by.clone() });
        };
        if before.owner() != now.owner() {
            role(&now.owner(), "owner");
        }
        let lists = |policy: &Policy| -> [BTreeSet<PublicKey>; 3] {
            [policy.moderators().collect(), policy.muted().collect(), policy.banned().collect()]
        };
        let words = [("moderator", "no_moderator"), ("muted", "unmuted"), ("banned", "unbanned")];
        for ((before, now), (on, off)) in lists(before).iter().zip(&lists(now)).zip(words) {
            now.difference(before).for_each(|key| role(key, on));
            before.difference(now).for_each(|key| role(key, off));
        }
        events.into_iter().for_each(|event| self.tell(None, event));
    }

    /// Somebody who is muted has said something all the same: told once.
    pub(super) fn shouted(&mut self, id: RoomId, sender: &Sealer) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        if conversation.rule.shouters.len() < ROOM_BANS_MAX && conversation.rule.shouters.insert(sender.key) {
            let room = conversation.title();
            self.integrity(None, room, "muted", Some(sender.name.to_string()));
        }
    }

    /// An operator asks something of us that only the owner of the room can do. It is for the user to do it.
    pub(super) fn wished(&mut self, id: RoomId, wish: Wish) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        if conversation.room.policy().owner() != conversation.room.own_key() {
            return;
        }
        let room = conversation.title();
        let (wish, name) = match wish {
            Wish::NewSecret => ("new_secret", None),
            Wish::HandOver(name) => ("hand_over", Some(name)),
        };
        self.tell(None, Event::Wished { room, wish: wish.into(), name });
    }

    /// Does what is to be done next in a room.
    pub(super) fn govern(&mut self, id: RoomId) {
        while self.govern_next(id) {}
    }

    /// Whether the first act has come to an end, so that the next one is to be looked at.
    fn govern_next(&mut self, id: RoomId) -> bool {
        let Some(conversation) = self.conversations.get_mut(&id) else { return false };
        // Whether a commit that was on its way has won is not known yet.
        let unsure = conversation.syncing || conversation.rejoining || conversation.left;
        let Some(planned) = conversation.rule.acts.front_mut().filter(|_| !unsure) else { return false };
        match planned.stage {
            Stage::Sent(epoch) if conversation.commit.as_ref().is_some_and(|(of, _)| *of == epoch) => return false,
            Stage::Sent(_) => (planned.stage, planned.tries) = (Stage::Ready, planned.tries + 1),
            Stage::Asking | Stage::Deriving(_) => return false,
            Stage::Ready => {}
        }
        let (act, tries, fresh) = (planned.act.clone(), planned.tries, planned.fresh.clone());
        let join = fresh.as_ref().and_then(|fresh| fresh.keys.as_ref()).map(|keys| keys.join.clone());
        let in_force = join.as_ref().is_some_and(|join| conversation.room.policy().join_key() == Some(join.public()));
        let behind = conversation.stale.is_some_and(|epoch| conversation.room.epoch() <= epoch);
        if behind || !conversation.may_commit() {
            return false;
        }
        let stale = conversation.rule.rotation.is_stale() || conversation.kick_stands();
        match act.step(&conversation.room, stale) {
            _ if in_force => self.act_done(id),
            Step::Done => self.act_done(id),
            Step::Never(problem) => self.act_failed(id, problem),
            Step::Commit { .. } if tries >= TRIES => {
                self.act_failed(id, Problem::new("busy", FAILED, "others changed the room again and again"))
            }
            Step::Commit { secret: true, .. } if join.is_none() => self.renew_secret(id),
            Step::Commit { remove, policy, secret } => {
                let join = join.filter(|_| secret);
                let door = fresh.and_then(|fresh| fresh.keys).filter(|_| secret).map(|keys| keys.door);
                let epoch = conversation.room.epoch();
                match conversation.room.govern(Governing { remove, policy, join }) {
                    Ok(out) => {
                        if let Some(planned) = conversation.rule.acts.front_mut() {
                            planned.stage = Stage::Sent(epoch);
                        }
                        self.send_commit(id, out, door.map(|door| (*door.as_bytes()).into()));
                    }
                    Err(error) => return self.act_failed(id, cannot(&error)),
                }
                false
            }
        }
    }

    /// A new secret and its keys, before the commit that puts it in force.
    fn renew_secret(&mut self, id: RoomId) -> bool {
        let generated = generate_room_secret(&mut self.rng);
        let Some(conversation) = self.conversations.get_mut(&id) else { return false };
        let title = conversation.title();
        let Some(planned) = conversation.rule.acts.front_mut() else { return false };
        if let (Act::Secret(true), None, Some(number)) = (&planned.act, &planned.fresh, planned.ticket) {
            planned.stage = Stage::Asking;
            self.effect(Effect::AskPassword { number, room: title });
            return false;
        }
        self.next_entry += 1;
        let ticket = self.next_entry;
        planned.stage = Stage::Deriving(ticket);
        let fresh = planned.fresh.get_or_insert(Fresh { secret: generated, keys: None, generated: true });
        let password = fresh.secret.clone();
        self.effect(Effect::DeriveRoom { ticket, password, room: id });
        false
    }

    /// The user's own words for a new secret, or none.
    pub(super) fn own_secret_given(&mut self, command: u64, secret: Option<Secret>) {
        let asked = |c: &Conversation| {
            c.rule.acts.front().is_some_and(|p| p.ticket == Some(command) && p.stage == Stage::Asking)
        };
        let Some(id) = self.conversations.values().find(|c| asked(c)).map(|c| c.id) else { return };
        let Some(secret) = secret else {
            self.act_failed(id, Problem::new("no_password", FAILED, "no password was given"));
            return;
        };
        if weak_secret(&secret) {
            let text = "the new password can be guessed by who holds the server's file; /password makes a strong one";
            self.tell(Some(command), Event::Notice { from: "password".into(), text: text.into() });
        }
        let planned = self.conversations.get_mut(&id).and_then(|c| c.rule.acts.front_mut());
        if let Some(planned) = planned {
            planned.stage = Stage::Ready;
            planned.fresh = Some(Fresh { secret, keys: None, generated: false });
        }
    }

    /// The keys of a new secret.
    pub(super) fn secret_derived(&mut self, number: u64, keys: RoomKeys) {
        let of = |c: &Conversation| c.rule.acts.front().is_some_and(|p| p.stage == Stage::Deriving(number));
        if let Some(conversation) = self.conversations.values_mut().find(|c| of(c)) {
            if let Some(planned) = conversation.rule.acts.front_mut() {
                planned.stage = Stage::Ready;
                planned.fresh.iter_mut().for_each(|fresh| fresh.keys = Some(keys.clone()));
            }
            return;
        }
        self.secret_learned(number, keys);
    }

    /// A commit of ours is in the log: whether it was an act's.
    pub(super) fn act_logged(&mut self, id: RoomId, epoch: u64) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let front = conversation.rule.acts.front();
        if front.is_some_and(|p| matches!(p.stage, Stage::Sent(of) if of.checked_add(1) == Some(epoch))) {
            self.act_done(id);
        }
    }

    /// The server does not take an act's commit, and will not take it again.
    pub(super) fn act_refused(&mut self, id: RoomId, epoch: u64, problem: Problem) {
        let front = self.conversations.get(&id).and_then(|c| c.rule.acts.front());
        if front.is_some_and(|planned| planned.stage == Stage::Sent(epoch)) {
            let rotating = front.is_some_and(|planned| planned.act == Act::Rotate);
            self.act_failed(id, problem);
            if rotating {
                self.rotate_later(id);
            }
        }
    }

    /// The first act is done: its secret, if there is one, is in force.
    fn act_done(&mut self, id: RoomId) -> bool {
        let Some(conversation) = self.conversations.get_mut(&id) else { return false };
        let Some(Planned { ticket, act, fresh, .. }) = conversation.rule.acts.pop_front() else { return false };
        if let Some(Fresh { secret, keys: Some(keys), generated }) = fresh
            && conversation.room.policy().join_key() == Some(keys.join.public())
        {
            self.secret_renewed(id, ticket, secret, keys, generated);
        }
        if ticket.is_some() {
            self.tell(ticket, Event::Ok { command: act.word().into() });
            self.done(ticket, 0);
        }
        true
    }

    fn act_failed(&mut self, id: RoomId, problem: Problem) -> bool {
        let planned = self.conversations.get_mut(&id).and_then(|c| c.rule.acts.pop_front());
        let Some(Planned { ticket, act, .. }) = planned else { return false };
        if act != Act::Rotate {
            // Its new secret would have done for what another act needs one for.
            self.rotate_if_stale(id);
        }
        if ticket.is_some() {
            self.fail(ticket, problem);
        }
        true
    }
}

fn cannot(error: &CommitError) -> Problem {
    match error {
        CommitError::NoJoinKey => {
            Problem::new("no_secret", FAILED, "you do not have the room's new secret yet").hint("try again in a while")
        }
        CommitError::Refused(_) => Problem::new("not_allowed", REFUSED, error.to_string()),
        _ => Core::internal(error),
    }
}

/// Acts that may wait in one room.
const ACTS_WAITING: usize = 32;
/// Commits of one act that may lose against others.
const TRIES: u32 = 64;
