//! Into a room, step by step: resolve the label, derive the keys, take the join lease, check what the server hands out, commit.

use super::conversation::{Access, Conversation, Kind, kind_of};
use super::core::{Core, Ticket};
use super::effects::Effect;
use super::event::Event;
use super::governing::Fresh;
use super::links::{grant_of, published_of};
use super::problem::{FAILED, NO_LINK, Problem, REFUSED, UNVERIFIED};
use super::requests::Purpose;
use super::running::ENTRY_PATIENCE;
use crate::crypto::room::RoomKeys;
use crate::crypto::secret::Secret;
use crate::group::{JoinError, Refusal, Room, Target};
use crate::wire::frame::{self, Code, Reply, Request};
use crate::wire::id::RoomId;
use crate::wire::log::{Chain, RowKind};
use crate::wire::name::{FullName, Name};
use crate::wire::policy::{Policy, RoomKind};
use minicbor::bytes::ByteArray;
use rand_core::RngCore;
use std::time::Duration;

/// A creation or a join under way.
pub(super) struct Entry {
    pub ticket: Ticket,
    pub create: bool,
    pub name: FullName,
    pub room: Option<RoomId>,
    /// Known once the label is resolved.
    pub kind: Option<RoomKind>,
    pub password: Option<Secret>,
    pub generated: bool,
    pub keys: Option<RoomKeys>,
    pub step: Step,
    pub tries: u32,
    pub deadline: Duration,
    /// That it takes long was told.
    pub told: bool,
    /// Its server was not named: another one's may be meant.
    pub bare: bool,
}

pub(super) enum Step {
    /// Next is whatever is still missing.
    Idle,
    /// For an answer of the server.
    Waiting,
    /// For the user's password or its derivation.
    Password,
    Creating(Box<Creating>),
    Joining(Box<Joining>),
}

pub(super) struct Creating {
    room: Room,
    request: Request,
}

pub(super) struct Joining {
    room: Room,
    commit: Vec<u8>,
    at: (u64, Chain),
}

impl Core {
    pub(super) fn is_entering(&self) -> bool {
        self.entries.values().any(|entry| entry.ticket.is_some()) || self.looks_around()
    }

    /// Does whatever is missing next.
    pub(super) fn step(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.step = Step::Waiting;
        let (Some(room), Some(kind)) = (entry.room, entry.kind) else {
            let (label, server) = (entry.name.name.to_string(), entry.name.server.clone());
            self.request(&server, Request::Resolve { label }, Purpose::Resolve(number));
            return;
        };
        if kind == RoomKind::Private && entry.keys.is_none() {
            entry.step = Step::Password;
            let effect = match (&entry.password, entry.ticket) {
                (Some(password), _) => Effect::DeriveRoom { ticket: number, password: password.clone(), room },
                (None, Some(command)) => Effect::AskPassword { number: command, room: entry.name.to_string() },
                (None, None) => return self.give_up(number, no_password()),
            };
            return self.effect(effect);
        }
        if entry.create {
            return self.make_room(number);
        }
        let (door, server) = (entry.door(), entry.name.server.clone());
        self.request_for(&server, Request::Enter { room, door }, Purpose::Enter(number), ENTER_DEADLINE);
    }

    pub(super) fn password_given(&mut self, command: u64, password: Option<Secret>) {
        let wanted = |e: &Entry| e.ticket == Some(command) && matches!(e.step, Step::Password) && e.password.is_none();
        let Some((&number, entry)) = self.entries.iter_mut().find(|(_, e)| wanted(e)) else {
            return self.own_secret_given(command, password);
        };
        entry.password = password;
        entry.deadline = self.now + ENTRY_DEADLINE;
        if entry.password.is_none() { self.give_up(number, no_password()) } else { self.step(number) }
    }

    pub(super) fn room_derived(&mut self, number: u64, keys: RoomKeys) {
        let Some(entry) = self.entries.get_mut(&number) else { return self.secret_derived(number, keys) };
        if matches!(entry.step, Step::Password) {
            entry.keys = Some(keys);
            self.step(number);
        }
    }

    fn make_room(&mut self, number: u64) {
        let Some(server) = self.entries.get(&number).map(|entry| entry.name.server.clone()) else { return };
        let Some(server_key) = self.server_key(&server) else { return };
        let (Some(entry), Some(home)) = (self.entries.get_mut(&number), &self.home) else { return };
        let (Some(id), Some(kind)) = (entry.room, entry.kind) else { return };
        let join = entry.keys.as_ref().map(|keys| keys.join.clone());
        let (owner, join_key) = (home.me.identity.public(), join.as_ref().map(|j| j.public()));
        let policy = Policy::new(kind, entry.name.name.to_string(), owner, join_key);
        match Room::create(&home.me, server_key, id.0, policy, join) {
            Ok((room, grant)) => {
                let published = published_of(room.epoch(), grant);
                let request = Request::CreateRoom { room: id, door: entry.door(), published };
                entry.step = Step::Creating(Box::new(Creating { room, request: request.clone() }));
                self.request(&server, request, Purpose::Create(number));
            }
            Err(error) => self.give_up(number, Self::internal(&error)),
        }
    }

    pub(super) fn entry_reply(&mut self, purpose: &Purpose, reply: Reply) {
        match (purpose, reply) {
            (Purpose::Resolve(n), Reply::Resolved { room, private }) => self.resolved(*n, room, private),
            (Purpose::Create(n), Reply::Sequenced { .. }) => self.created(*n),
            // The creation came through before the link broke.
            (Purpose::Probe(n), Reply::Log { .. }) => {
                let id = self.entries.get(n).and_then(|entry| entry.room);
                self.created(*n);
                id.into_iter().for_each(|id| self.resync(id));
            }
            (Purpose::Probe(n), Reply::Refused(_)) => self.create_again(*n),
            (Purpose::Enter(n), entered @ Reply::Entered { .. }) => self.entered(*n, entered),
            (Purpose::Join(n), Reply::Sequenced { seq, .. }) => self.joined(*n, seq),
            (Purpose::Join(n), Reply::Refused(refusal)) => self.join_refused(*n, refusal),
            (Purpose::Resolve(n) | Purpose::Create(n) | Purpose::Enter(n), Reply::Refused(refusal)) => {
                self.give_up(*n, refusal.into());
            }
            (
                Purpose::Resolve(n) | Purpose::Create(n) | Purpose::Enter(n) | Purpose::Join(n) | Purpose::Probe(n),
                _,
            ) => {
                self.give_up(*n, Problem::new("malformed", FAILED, "the server's answer makes no sense"));
            }
            _ => {}
        }
    }

    fn resolved(&mut self, number: u64, room: RoomId, private: bool) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if self.conversations.contains_key(&room) {
            let text = format!("you are in {} already", entry.name);
            return self.give_up(number, Problem::new("already_in", FAILED, text));
        }
        if entry.password.is_some() && !private {
            // Else a server could have us talk in the open where we meant a locked room.
            let text = format!("{} is public, and a password was given", entry.name);
            return self.give_up(number, Problem::new("not_private", REFUSED, text));
        }
        entry.room = Some(room);
        entry.kind = Some(if private { RoomKind::Private } else { RoomKind::Public });
        self.step(number);
    }

    fn created(&mut self, number: u64) {
        let Some(mut entry) = self.take_entry(number) else { return };
        let Step::Creating(creating) = std::mem::replace(&mut entry.step, Step::Idle) else { return };
        let Some(id) = entry.room else { return };
        let start = (0, Chain::start(&id));
        let secret = entry.password.as_ref().filter(|_| entry.generated).map(|s| s.expose().to_owned());
        let (ticket, private) = (entry.ticket, entry.kind == Some(RoomKind::Private));
        self.add_room(id, &entry, creating.room, start);
        let Some(conversation) = self.conversations.get(&id) else { return };
        let invite = self.invite_to(conversation, false).unwrap_or_default();
        let room = entry.name.to_string();
        self.tell(ticket, Event::RoomCreated { room, id: id.to_string(), private, invite, secret });
        self.welcome(id, ticket);
    }

    fn create_again(&mut self, number: u64) {
        let Some(Entry { step: Step::Creating(creating), name, .. }) = self.entries.get(&number) else { return };
        let (request, server) = (creating.request.clone(), name.server.clone());
        self.request(&server, request, Purpose::Create(number));
    }

    fn entered(&mut self, number: u64, reply: Reply) {
        let Reply::Entered { lease, published, seq, chain, proposals } = reply else { return };
        let Some(server) = self.entries.get(&number).map(|entry| entry.name.server.clone()) else { return };
        let (certs, Some(key)) = (self.certs(), self.server_key(&server)) else { return };
        let (Some(entry), Some(home)) = (self.entries.get_mut(&number), &self.home) else { return };
        let (Some(id), Some(kind)) = (entry.room, entry.kind) else { return };
        let target = Target { room_id: id.0, kind, label: entry.name.name.to_string(), server: key };
        let join = entry.keys.as_ref().map(|keys| keys.join.clone());
        let grant = grant_of(published, proposals);
        match Room::join(&home.me, &target, &grant, join, &certs) {
            Ok((room, out)) => {
                let at = (seq, Chain(*chain));
                let message = out.bytes.clone().into();
                let published = super::links::published_commit(out.published);
                let commit = Request::Commit { room: id, lease: Some(lease), message, published, door: None };
                entry.step = Step::Joining(Box::new(Joining { room, commit: out.bytes, at }));
                self.request(&server, commit, Purpose::Join(number));
            }
            Err(error) => self.not_believed(number, &error),
        }
    }

    fn not_believed(&mut self, number: u64, error: &JoinError) {
        let Some(entry) = self.entries.get(&number) else { return };
        let (ticket, room) = (entry.ticket, entry.name.to_string());
        let Some(broken) = error.integrity() else { return self.give_up(number, Self::internal(error)) };
        if let JoinError::Member(Refusal::Cert(refused)) = error {
            self.false_name(room.clone(), refused);
        }
        self.integrity(ticket, room, kind_of(broken), None);
        let problem = Problem::new(kind_of(broken), UNVERIFIED, error.to_string());
        self.give_up(number, problem.hint("the server may be handing out a room of its own, or an old state"));
    }

    fn joined(&mut self, number: u64, seq: u64) {
        let Some(mut entry) = self.take_entry(number) else { return };
        let Step::Joining(joining) = std::mem::replace(&mut entry.step, Step::Idle) else { return };
        let (Some(id), ticket) = (entry.room, entry.ticket) else { return };
        let Joining { room, commit, at } = *joining;
        self.add_room(id, &entry, room, at);
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.history.remember_own(&commit);
        if at.0.checked_add(1) == Some(seq) {
            conversation.history.append(seq, RowKind::Commit, &commit);
        } else {
            // Others spoke between our lease and our commit: their rows belong to the chain too.
            conversation.joined_at = Some((seq, commit));
            self.resync(id);
        }
        self.welcome(id, ticket);
    }

    /// The entry, unless its server has handed out the id of another server's room: it must not get at that one.
    fn take_entry(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        let there = entry.room.and_then(|id| self.conversations.get(&id));
        if there.is_none_or(|conversation| conversation.server == entry.name.server) {
            return Some(entry);
        }
        let text = format!("{} has the id of another room of yours", entry.name);
        self.fail(entry.ticket, Problem::new("already_in", FAILED, text));
        None
    }

    /// Puts the room in place; one that it replaces hands over what it had to say.
    fn add_room(&mut self, id: RoomId, entry: &Entry, room: Room, at: (u64, Chain)) {
        let access = Access {
            kind: entry.kind.unwrap_or(RoomKind::Public),
            keys: entry.keys.clone(),
            secret: entry.password.clone(),
        };
        let kind = Kind::Room { name: entry.name.clone(), access: Box::new(access) };
        let server = entry.name.server.clone();
        let mut session = [0; 8];
        self.rng.fill_bytes(&mut session);
        let mut conversation = Conversation::new((id, server), kind, room, at, session);
        conversation.renew_at = self.next_renewal();
        if let Some(mut old) = self.conversations.remove(&id) {
            for item in old.outbox.drain(true) {
                // Both have one bound.
                let _ = conversation.outbox.push(item);
            }
            conversation.leaving = old.leaving;
            conversation.mends = old.mends;
            conversation.rule = old.rule;
            conversation.held_sent = old.held_sent;
        }
        conversation.rule.begin(conversation.room.policy());
        self.conversations.insert(id, conversation);
        if entry.ticket.is_some() || self.current.is_none() {
            self.current = Some(id);
        }
    }

    fn welcome(&mut self, id: RoomId, ticket: Ticket) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let members: Vec<_> = conversation.room.members().map(|m| (m.name.clone(), m.key)).collect();
        let names = members.iter().map(|(name, _)| name.to_string()).collect();
        let room = conversation.title();
        self.tell(ticket, Event::Joined { room, id: id.to_string(), members: names });
        members.iter().for_each(|(name, key)| self.meet(name, key));
        self.done(ticket, 0);
    }

    fn join_refused(&mut self, number: u64, refusal: frame::Refusal) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.tries += 1;
        // Another commit won, or the lease was over.
        let again = matches!(refusal.code, Code::Stale | Code::NotAllowed) && entry.tries < TRIES;
        if again { self.step(number) } else { self.give_up(number, refusal.into()) }
    }

    fn give_up(&mut self, number: u64, problem: Problem) {
        if self.try_new_secret(number) {
            return;
        }
        let Some(entry) = self.entries.remove(&number) else { return };
        if entry.bare && problem.code == Code::WrongRoomOrPassword.as_str() {
            return self.look_around(entry.ticket, entry.name, problem);
        }
        self.tell(entry.ticket, problem.clone().event());
        if entry.ticket.is_none()
            && let Some(id) = entry.room
        {
            self.drop_room(&id, if problem.code == "banned" { "banned" } else { "lost" });
        }
        self.done(entry.ticket, problem.exit);
    }

    /// Our own commit with a new secret may have been logged without our hearing of it: then the old one leads nowhere.
    fn try_new_secret(&mut self, number: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.ticket.is_none()) else { return false };
        let conversation = entry.room.and_then(|id| self.conversations.get(&id));
        let planned = conversation.and_then(|conversation| conversation.rule.acts.front());
        let Some(Fresh { secret, keys: Some(keys), .. }) = planned.and_then(|p| p.fresh.clone()) else { return false };
        if entry.keys.as_ref().is_some_and(|old| old.join.public() == keys.join.public()) {
            return false;
        }
        (entry.password, entry.keys) = (Some(secret), Some(keys));
        self.step(number);
        true
    }

    /// The link stands again: every step that waits for the server is taken once more.
    pub(super) fn resume_entries(&mut self, server: &Name) {
        let there = self.entries.iter().filter(|(_, entry)| entry.name.server == *server);
        let numbers: Vec<u64> = there.map(|(number, _)| *number).collect();
        for number in numbers {
            let Some(entry) = self.entries.get(&number) else { continue };
            match (&entry.step, entry.room) {
                (Step::Password, _) => {}
                (Step::Creating(_), Some(room)) => {
                    self.request(server, Request::Log { room, after: 0 }, Purpose::Probe(number));
                }
                _ => self.step(number),
            }
        }
    }

    /// What somebody waits for at a server that is not to be had: nobody shall wait for nothing.
    pub(super) fn fail_unreachable(&mut self, server: &Name) -> bool {
        let problem = if self.server_key(server).is_some() {
            Problem::new("server_away", NO_LINK, format!("the server {server} is out of reach now"))
        } else {
            Problem::new("other_server", REFUSED, format!("no server {server} is known in the mesh"))
        };
        let entries = self.fail_entries(server, &problem);
        self.fail_waiting_at(server, &problem) || entries
    }

    /// Whether there were any.
    pub(super) fn fail_entries(&mut self, server: &Name, problem: &Problem) -> bool {
        let there = |e: &Entry| e.name.server == *server && e.ticket.is_some() && !matches!(e.step, Step::Password);
        let numbers: Vec<u64> = self.entries.iter().filter(|(_, e)| there(e)).map(|(n, _)| *n).collect();
        numbers.iter().for_each(|number| self.give_up(*number, problem.clone()));
        !numbers.is_empty()
    }

    pub(super) fn entries_timeout(&self) -> Option<Duration> {
        let runs = |e: &&Entry| !matches!(e.step, Step::Password);
        let told = |e: &Entry| if e.told { e.deadline } else { e.deadline.min(e.tells_at()) };
        self.entries.values().filter(runs).map(told).min().filter(|d| *d != Duration::MAX)
    }

    pub(super) fn entries_timeouts(&mut self) {
        let late = |e: &Entry| self.now >= e.deadline && !matches!(e.step, Step::Password);
        let late: Vec<u64> = self.entries.iter().filter(|(_, e)| late(e)).map(|(n, _)| *n).collect();
        late.into_iter().for_each(|number| self.give_up(number, Problem::timeout("the server")));
    }
}

impl Entry {
    pub fn new(ticket: Ticket, name: FullName) -> Self {
        Self {
            ticket,
            create: false,
            name,
            room: None,
            kind: None,
            password: None,
            generated: false,
            keys: None,
            step: Step::Idle,
            tries: 0,
            deadline: Duration::MAX,
            told: false,
            bare: false,
        }
    }

    /// When whoever waits for it is told what it waits for.
    pub fn tells_at(&self) -> Duration {
        let waits = self.ticket.is_some() && !matches!(self.step, Step::Password);
        let began = self.deadline.checked_sub(ENTRY_DEADLINE).filter(|_| waits);
        began.map_or(Duration::MAX, |began| began + ENTRY_PATIENCE)
    }

    fn door(&self) -> Option<ByteArray<32>> {
        self.keys.as_ref().map(|keys| (*keys.door.as_bytes()).into())
    }
}

fn no_password() -> Problem {
    Problem::new("wrong_room_or_password", REFUSED, "there is no public room of that name, and no password was given")
        .hint("--password-file gives one")
}

/// From the command to being in; waiting for the password apart.
pub(super) const ENTRY_DEADLINE: Duration = Duration::from_secs(180);
/// For the join lease of a room that many want to enter.
const ENTER_DEADLINE: Duration = Duration::from_secs(120);
/// Commits that may lose against others before we give up.
const TRIES: u32 = 64;
