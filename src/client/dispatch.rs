//! From a parsed command to the concern that does it. What a command needs is checked here, once.

use super::commands::{self, Command, Needs, ParseError, TABLE, Way};
use super::conversation::{Conversation, Kind};
use super::core::Core;
use super::effects::FilesCommand;
use super::event::Event;
use super::problem::{FAILED, NOT_FOUND, Problem, UNVERIFIED, USAGE};
use super::requests::Purpose;
use super::survey::About;
use crate::crypto::identity::PublicKey;
use crate::wire::frame::Request;
use crate::wire::id::RoomId;
use crate::wire::invite::{Host, Invite, InvitedRoom};
use crate::wire::name::{FullName, Name};
use crate::wire::payload::Body;
use sha2::{Digest, Sha512};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl Core {
    pub(super) fn run_line(&mut self, number: u64, line: &str) {
        match commands::parse(line) {
            Ok(command) => match self.allowed(&command) {
                Ok(()) => self.run(number, command),
                Err(problem) => self.fail(Some(number), problem),
            },
            Err(error) => self.fail(Some(number), error.into()),
        }
    }

    fn allowed(&self, command: &Command) -> Result<(), Problem> {
        match commands::spec(command).map(|spec| spec.needs) {
            Some(Needs::Link) if self.link.is_none() => Err(Problem::no_link()),
            Some(Needs::Room) if self.rooms().is_empty() => Err(no_room()),
            _ => Ok(()),
        }
    }

    fn run(&mut self, number: u64, command: Command) {
        let ticket = Some(number);
        let result = match command {
            Command::Say { room, text } => self.say(number, room.as_deref(), text),
            Command::Tell { to, text } => {
                self.full_name(&to).and_then(|to| self.send_direct(&to, Body::Text(text), ticket))
            }
            Command::Operator { text } => self.ask(Request::Operator { text }, Purpose::Operator(ticket)),
            Command::Rooms => self.ask_all(number, About::Rooms),
            Command::PingServer => self.ask_all(number, About::RoundTrips),
            Command::Peers | Command::Members => self.show_peers(number),
            Command::Quit => return self.quit(number),
            Command::WhoHas { pattern } => self.who_has(number, pattern),
            Command::Ping { to } => self.full_name(&to).and_then(|to| self.ping(number, &to)),
            Command::GetFile { from: None, file, kind } => {
                let wait = self.config.files.wait;
                self.room_named(None).and_then(|room| self.get_from_any(number, room, file, kind, wait))
            }
            Command::GetFile { from: Some(from), file, kind } => {
                let wait = self.config.files.wait;
                self.full_name(&from).and_then(|peer| self.get_from(number, self.current, &peer, file, kind, wait))
            }
            Command::SendFile { to, path } => self.full_name(&to).and_then(|to| self.offer_file(number, to, &path)),
            Command::Accept { id } => self.accept_offer(number, &id),
            Command::Refuse { id } => self.refuse_offer(number, &id),
            Command::Grant { name } => self.full_name(&name).and_then(|name| self.grant(number, name)),
            Command::Share(share) => {
                self.transfers.share_asked(number, &share);
                self.tell_files(FilesCommand::Share(share));
                Ok(())
            }
            Command::Window(n) => self.setting(number, "setwindowsize", FilesCommand::Window(n)),
            Command::MaxUploads(n) => {
                self.set_max_uploads(number, n);
                Ok(())
            }
            Command::Rate { way, limit } => self.set_rate(number, way, limit),
            Command::Transfers => self.show_transfers(number),
            Command::Stats => self.show_stats(number),
            Command::Cancel { id } => self.cancel(number, &id),
            Command::Trust { name } => self.full_name(&name).and_then(|name| self.trust(number, &name)),
            Command::Ignore { name } => self.full_name(&name).map(|name| {
                self.peers.ignore(name);
                self.ok(number, "ignore");
            }),
            Command::Verify { name } => self.full_name(&name).and_then(|name| self.verify(number, &name)),
            Command::Create { room, private } => self.create_room(number, &room, private, None),
            Command::Join { room } => self.join_typed(number, &room),
            Command::Leave { room } => self.leave_room(number, room.as_deref()),
            Command::Switch { room } => self.room_named(Some(&room)).map(|id| {
                self.current = Some(id);
                self.ok(number, "room");
            }),
            Command::Invite { with_secret } => self.show_invite(number, with_secret),
            Command::Restrict { flags } => self.restrict_room(number, &flags),
            Command::Unrestrict { id } => self.unrestrict_room(number, id),
            Command::Restrictions => self.show_restrictions(number),
            Command::Govern(deed) => self.govern_typed(number, deed),
            Command::Help { about } => self.help(number, about.as_deref()),
        };
        if let Err(problem) = result {
            self.fail(ticket, problem);
        }
    }

    /// A `getfile` command for another process, in a room of its choice; nothing else is taken from there.
    pub(super) fn run_fetch(&mut self, number: u64, room: &str, line: &str, wait: bool) {
        if let Err(problem) = self.try_fetch(number, room, line, wait) {
            self.fail(Some(number), problem);
        }
    }

    fn try_fetch(&mut self, number: u64, room: &str, line: &str, wait: bool) -> Result<(), Problem> {
        let command = commands::parse(line)?;
        self.allowed(&command)?;
        let room = self.room_named(Some(room)).map_err(|problem| {
            problem.hint("enter it in the running client, or give this command another directory with --data")
        })?;
        match command {
            Command::GetFile { from: None, file, kind } => self.get_from_any(number, room, file, kind, wait),
            Command::GetFile { from: Some(from), file, kind } => {
                self.full_name(&from).and_then(|peer| self.get_from(number, Some(room), &peer, file, kind, wait))
            }
            _ => Err(Problem::new("usage", USAGE, "only files are fetched for other processes")),
        }
    }

    pub(super) fn ok(&mut self, number: u64, command: &str) {
        self.tell(Some(number), Event::Ok { command: command.to_owned() });
        self.done(Some(number), 0);
    }

    fn ask(&mut self, body: Request, purpose: Purpose) -> Result<(), Problem> {
        let access = self.link.as_ref().map(|link| link.server.clone()).ok_or_else(Problem::no_link)?;
        if self.request(&access, body, purpose) { Ok(()) } else { Err(Problem::no_link()) }
    }

    fn say(&mut self, number: u64, room: Option<&str>, text: String) -> Result<(), Problem> {
        let id = self.room_named(room)?;
        self.queue(&id, Body::Text(text), Some(number))
    }

    fn show_peers(&mut self, number: u64) -> Result<(), Problem> {
        let id = self.room_named(None)?;
        let conversation = self.conversations.get(&id).ok_or_else(no_room)?;
        let peers = conversation.room.members().map(|m| m.name.to_string()).collect();
        let (room, policy) = (conversation.title(), conversation.room.policy());
        let called = |keys: Vec<PublicKey>| keys.iter().map(|key| self.called(conversation, key)).collect();
        let topic = Some(policy.topic.clone()).filter(|topic| !topic.is_empty());
        let owner = Some(self.called(conversation, &policy.owner()));
        let moderators = called(policy.moderators().collect());
        let (muted, banned) = (called(policy.muted().collect()), called(policy.banned().collect()));
        self.tell(Some(number), Event::Peers { room, peers, topic, owner, moderators, muted, banned });
        self.done(Some(number), 0);
        Ok(())
    }

    fn setting(&mut self, number: u64, name: &str, command: FilesCommand) -> Result<(), Problem> {
        self.tell_files(command);
        self.ok(number, name);
        Ok(())
    }

    fn set_rate(&mut self, number: u64, way: Way, limit: Option<u64>) -> Result<(), Problem> {
        let rules = &mut self.config.files;
        match way {
            Way::Up => rules.up = limit,
            Way::Down => rules.down = limit,
        }
        let (up, down) = (rules.up, rules.down);
        self.setting(number, "setrate", FilesCommand::Rates { up, down })
    }

    fn show_invite(&mut self, number: u64, with_secret: bool) -> Result<(), Problem> {
        let id = self.room_named(None)?;
        let conversation = self.conversations.get(&id).ok_or_else(no_room)?;
        let lacking = || Problem::new("no_secret", FAILED, "this room has no secret, or it is not known here");
        if with_secret && conversation.secret().is_none() {
            return Err(lacking());
        }
        let text = self.invite_to(conversation, with_secret).ok_or_else(|| {
            Problem::new("no_invite", FAILED, "the server's address is not known here, so there is no invite")
        })?;
        self.tell(Some(number), Event::Notice { from: "invite".into(), text });
        self.done(Some(number), 0);
        Ok(())
    }

    /// The invite to a room, if the server's address is known.
    pub(super) fn invite_to(&self, conversation: &Conversation, with_secret: bool) -> Option<String> {
        let Kind::Room { name, access } = &conversation.kind else { return None };
        let (host, port) = self.endpoint_of(&conversation.server)?;
        let server = conversation.server.clone();
        let room = InvitedRoom { label: name.name.clone(), id: conversation.id.0, secret: access.secret.clone() };
        let pin = self.server_key(&server)?.fingerprint();
        let invite = Invite { host, port, pin, server, room: Some(room) };
        Some(invite.to_url(with_secret).to_string())
    }

    /// Where a server is reached: as we were told at the start, or as the mesh says.
    fn endpoint_of(&self, server: &Name) -> Option<(Host, u16)> {
        let first = self.first.as_ref().is_some_and(|first| first == server);
        let given = self.config.endpoint.clone().filter(|_| first);
        given.or_else(|| self.servers.endpoint(server).map(|endpoint| (endpoint.host, endpoint.port)))
    }

    fn trust(&mut self, number: u64, name: &FullName) -> Result<(), Problem> {
        // The name belongs to nobody.
        if name.name.as_str() == "server" && self.is_home(&name.server) && self.trust_authorities() {
            self.ok(number, "trust");
            return Ok(());
        }
        let key = self
            .peers
            .trust(name)
            .ok_or_else(|| Problem::new("not_changed", FAILED, format!("no changed key of {name} is waiting")))?;
        self.effect(super::effects::Effect::Pin { name: name.clone(), key });
        self.follow_key(name);
        self.ok(number, "trust");
        Ok(())
    }

    fn verify(&mut self, number: u64, name: &FullName) -> Result<(), Problem> {
        let key = self
            .peers
            .pinned(name)
            .ok_or_else(|| Problem::new("not_found", NOT_FOUND, format!("no key of {name} is known yet")))?;
        if self.peers.is_changed(name) {
            return Err(key_changed(name));
        }
        let (me, own) = self.me().map(|me| (me.clone(), self.config.identity.public())).ok_or_else(Problem::no_link)?;
        let text = format!(
            "{} is the safety number with {name}: it must read the same there",
            safety((&me, own), (name, key))
        );
        self.tell(Some(number), Event::Notice { from: "verify".into(), text });
        self.done(Some(number), 0);
        Ok(())
    }

    fn help(&mut self, number: u64, about: Option<&str>) -> Result<(), Problem> {
        let rows: Vec<_> = match about {
            None => TABLE.iter().collect(),
            Some(name) => vec![commands::row(name).ok_or_else(|| ParseError::Unknown(name.to_owned()))?],
        };
        for spec in rows {
            let text = format!("{}: {}", spec.usage, spec.help);
            self.tell(Some(number), Event::Notice { from: "help".into(), text });
        }
        self.done(Some(number), 0);
        Ok(())
    }

    /// `NAME` or `NAME@SERVER`. Without a server it is who has that name in our rooms, the present one first; where nobody
    /// has, or somebody of our own server does, our server's.
    pub(super) fn full_name(&self, text: &str) -> Result<FullName, Problem> {
        if text.parse::<IpAddr>().is_ok() {
            return Err(Problem::new("not_here", NOT_FOUND, "no peer shows this address"));
        }
        let wanted = self.at_home(text)?;
        if text.contains('@') {
            return Ok(wanted);
        }
        let current = self.current.and_then(|id| self.conversations.get(&id));
        let here: BTreeSet<_> = current.into_iter().flat_map(|c| namesakes(c, &wanted.name)).collect();
        let anywhere = || self.conversations.values().flat_map(|c| namesakes(c, &wanted.name)).collect();
        only(if here.is_empty() { anywhere() } else { here }, wanted)
    }

    /// `NAME` or `NAME@SERVER`; without a server it is at ours.
    pub(super) fn at_home(&self, text: &str) -> Result<FullName, Problem> {
        full_name(text, self.home.as_ref().map(|h| &h.server).ok_or_else(Problem::no_link)?)
    }

    /// The room of that name, or the current one. Without a server it is one at ours, or else the only one of that label.
    pub(super) fn room_named(&self, name: Option<&str>) -> Result<RoomId, Problem> {
        let Some(text) = name else { return self.current.ok_or_else(no_room) };
        let wanted = self.at_home(text)?;
        let label = |name: &FullName| *name == wanted || !text.contains('@') && name.name == wanted.name;
        let rooms = self.conversations.values().filter_map(|c| match &c.kind {
            Kind::Room { name, .. } if label(name) => Some((name.clone(), c.id)),
            _ => None,
        });
        let rooms: BTreeMap<FullName, RoomId> = rooms.collect();
        let name = only(rooms.keys().cloned().collect(), wanted)?;
        let found = rooms.get(&name).copied();
        found.ok_or_else(|| Problem::new("not_member", NOT_FOUND, format!("you are not in {name}")).hint("/join it"))
    }
}

/// The members of that name, of whatever server.
fn namesakes(conversation: &Conversation, name: &Name) -> Vec<FullName> {
    conversation.room.members().filter(|m| m.name.name == *name).map(|m| m.name.clone()).collect()
}

/// The one that is meant: ours, or the only one.
fn only(found: BTreeSet<FullName>, ours: FullName) -> Result<FullName, Problem> {
    if found.is_empty() || found.contains(&ours) {
        return Ok(ours);
    }
    let mut all = found.iter();
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one.clone()),
        _ => {
            let names: Vec<String> = found.iter().map(ToString::to_string).collect();
            let text = format!("{} may be {}", ours.name, names.join(" or "));
            Err(Problem::new("ambiguous", USAGE, text).hint("say which, with its server"))
        }
    }
}

fn full_name(text: &str, home: &Name) -> Result<FullName, Problem> {
    let (name, server) = text.split_once('@').map_or((text, None), |(name, server)| (name, Some(server)));
    let bad = |e: crate::wire::name::NameError| Problem::new("bad_name", USAGE, e.to_string());
    let server = server.map(Name::parse).transpose().map_err(bad)?.unwrap_or_else(|| home.clone());
    Ok(FullName::new(Name::parse(name).map_err(bad)?, server))
}

/// Sixty digits that both sides compute alike from both names and keys.
fn safety(a: (&FullName, PublicKey), b: (&FullName, PublicKey)) -> String {
    let mut sides = [(a.0.to_string(), a.1), (b.0.to_string(), b.1)];
    sides.sort();
    let mut hash = Sha512::new().chain_update(b"secchat/1 safety number\0");
    for (name, key) in &sides {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(key.as_bytes());
    }
    let groups = hash.finalize();
    let groups = groups.chunks_exact(5).take(12).map(|chunk| {
        let number = chunk.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        format!("{:05}", number % 100_000)
    });
    groups.collect::<Vec<_>>().join(" ")
}

pub(super) fn no_room() -> Problem {
    Problem::new("no_room", USAGE, "you are in no room").hint("/create ROOM or /join ROOM")
}

pub(super) fn key_changed(name: &FullName) -> Problem {
    Problem::new("key_changed", UNVERIFIED, format!("the key of {name} has changed, so nothing is sent there"))
        .hint(format!("ask them why, then @me trust {name}"))
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        let problem = Self::new(error.code(), USAGE, error.to_string());
        if matches!(error, ParseError::Unknown(_)) { problem.hint("/help lists the commands") } else { problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_compute_one_safety_number() {
        let name = |n: &str| full_name(n, &Name::parse("s1").unwrap()).unwrap();
        let (alice, bob) = (name("alice"), name("bob"));
        let key = |n| PublicKey::from_bytes([n; 32]);
        let number = safety((&alice, key(1)), (&bob, key(2)));
        assert_eq!(number, safety((&bob, key(2)), (&alice, key(1))));
        assert_ne!(number, safety((&alice, key(1)), (&bob, key(3))));
        assert_eq!(number.len(), 71);
    }
}
