//! Bans, here and in the whole mesh: who is kept out, by whom, until when.
//!
//! ```text
//! list      all that are known, this server's own and those of others
//! enforce   at the door, and at once when a ban is made: sessions end, leaves are removed
//! gossip    what the servers of a mesh tell each other
//! ```
//!
//! A ban is its server's signed word. Only that server lifts it.

mod enforce;
mod gossip;
mod list;

use super::super::core::{Core, LoadError};
use super::super::io::Output;
use super::{Officer, To, Told};
use crate::crypto::identity::{Fingerprint, PublicKey};
use crate::limits::ADMIN_PAGE;
use crate::store::Entry;
use crate::wire::admin::{Answer, Ask, BanView, Failure, Page, Role, Whom};
use crate::wire::ban::{self, Ban, Network, SignedBan, Target};
use crate::wire::name::{FullName, Name};
use crate::wire::relay::Head;
use crate::wire::text::shown;
use crate::wire::vouch::{NodeId, ServerTrust};
use list::{BanList, BanRef, Held, Origin};

/// The bans, and what other servers may do with them.
#[derive(Debug, Default)]
pub(super) struct Bans {
    list: BanList,
    pace: gossip::Pace,
    /// Messages with bans, and bans, that were not taken.
    refused: u64,
}

impl Bans {
    pub(super) fn load(register: &[Entry], trust: &ServerTrust, now_ms: u64) -> Result<Self, LoadError> {
        Ok(Self { list: BanList::load(register, trust, now_ms)?, ..Self::default() })
    }
}

impl Core {
    pub(super) fn ban_ask(&mut self, officer: &Officer, ask: &Ask) -> Told {
        match ask {
            Ask::Ban { whom, for_s, reason, here } => {
                let target = self.target(officer, whom, !here)?;
                let until_ms = self.until(*for_s)?;
                self.ban(officer, target, until_ms, reason.as_deref().unwrap_or_default(), !here)
            }
            Ask::Unban { id } => self.unban(id),
            Ask::Bans { after } => Ok(self.list_bans(after.as_deref())),
            _ => Err(Answer::failed(Failure::Malformed, "this is not about bans")),
        }
    }

    fn ban(&mut self, officer: &Officer, target: Target, until_ms: Option<u64>, reason: &str, mesh: bool) -> Told {
        let (own, wall_ms) = (self.own_node(), self.wall_ms);
        if let Some((at, _)) = self
            .moderation
            .bans
            .list
            .of(own)
            .find(|(_, held)| held.ban().holds(wall_ms) && same(&held.ban().target, &target))
        {
            let why = format!("{} is banned already: {}", told(&target), at.id);
            return Err(Answer::failed_with(
                Failure::Already,
                why,
                format!("to change it, lift it first: unban {}", at.id),
            ));
        }
        self.room_for_ban(own).map_err(|()| {
            Answer::failed_with(Failure::Full, "there are as many bans as there may be", "lift some, see `bans`")
        })?;
        let origin = self.own_origin();
        let id = origin.last_id + 1;
        let new = Ban::new(&origin.key(), origin.name, (id, 0), target.clone());
        let (reason, by) = (reason.to_owned(), officer.named());
        self.say_ban(Ban { reason, by, since_ms: wall_ms, until_ms, mesh, ..new });
        let ended = self.keep_out();
        let until = until_ms.map(|until| format!(" until {}", enforce::time(until))).unwrap_or_default();
        let what = format!("{} is banned{until}{}", told(&target), if mesh { "" } else { " on this server" });
        Ok(Answer::Done { what, notes: self.notes(&target, mesh, ended), id: Some(id.to_string()), token: None })
    }

    fn unban(&mut self, typed: &str) -> Told {
        let (id, server) = typed.split_once('@').map_or((typed, None), |(id, server)| (id, Some(server)));
        let own = self.own_node();
        let foreign = server.filter(|server| *server != self.config.name.as_str());
        let fits = |(at, held): &(&BanRef, &Held)| {
            let here =
                foreign.map_or(at.origin == own, |server| at.origin != own && held.ban().server.as_str() == server);
            here && id.parse() == Ok(at.id) && held.ban().holds(self.wall_ms)
        };
        let Some((at, ban)) = self.moderation.bans.list.iter().find(fits).map(|(at, held)| (*at, held.ban().clone()))
        else {
            let why = format!("there is no ban {}", shown(typed));
            return Err(Answer::failed_with(Failure::UnknownId, why, "see `bans`"));
        };
        if at.origin != own {
            let why = format!("{} has made this ban, and only there it is lifted", ban.server);
            return Err(Answer::failed_with(Failure::NotAllowed, why, format!("at {}: unban {}", ban.server, at.id)));
        }
        let what = format!("{} is not banned any more", told(&ban.target));
        if ban.mesh {
            self.say_ban(Ban { lifted: true, ..ban });
        } else {
            self.strike_ban(&at);
        }
        Ok(Answer::done(what))
    }

    fn list_bans(&self, after: Option<&str>) -> Answer {
        let own = self.own_node();
        let mut rows: Vec<_> =
            self.moderation.bans.list.iter().filter(|(_, held)| held.ban().holds(self.wall_ms)).collect();
        rows.sort_by_key(|(at, held)| (at.origin != own, &held.ban().server, at.origin, at.id));
        let label = |at: &BanRef, ban: &Ban| match at.origin == own {
            true => at.id.to_string(),
            false => format!("{}@{}", at.id, ban.server),
        };
        // The row that it was may be gone; what came after it by its id is still after it.
        let (id, server) = after.map_or((None, None), |after| match after.split_once('@') {
            Some((id, server)) => (id.parse().ok(), Name::parse(server).ok()),
            None => (after.parse::<u64>().ok(), None),
        });
        let passed = |at: &BanRef, ban: &Ban| {
            let place = (at.origin != own).then_some(&ban.server);
            id.is_some_and(|id| (place, at.id) <= (server.as_ref(), id))
        };
        let mut left = rows.into_iter().filter(|(at, held)| !passed(at, held.ban())).peekable();
        let mut page = Page::whole(Vec::new());
        for (at, held) in left.by_ref().take(ADMIN_PAGE) {
            page.rows.push(view(label(at, held.ban()), held));
        }
        if left.peek().is_some() {
            page.next = page.rows.last().map(|row| row.id.clone());
        }
        Answer::Bans(page)
    }

    /// Whom to ban, if the officer may.
    fn target(&self, officer: &Officer, whom: &Whom, mesh: bool) -> Result<Target, Answer> {
        let bad = |why: String| Answer::failed(Failure::BadValue, why);
        match whom {
            Whom::Name(typed) => {
                let (name, key) = self.named(typed)?;
                key.map_or(Ok(()), |key| self.may_touch(officer, &key))?;
                Ok(Target::Name { name, key: key.map(|key| key.fingerprint().0.into()) })
            }
            Whom::Fingerprint(text) => {
                let wanted: Fingerprint = text.parse().map_err(|error| bad(format!("{error}")))?;
                let officers = officer.person.iter().map(|(_, key)| *key).chain(self.moderation.roles.keys());
                let known = officers.into_iter().find(|key| key.fingerprint() == wanted);
                known.map_or(Ok(()), |key| self.may_touch(officer, &key))?;
                Ok(Target::Key(wanted.0.into()))
            }
            Whom::Network(text) => {
                let network: Network = text.parse().map_err(|error: ban::BadNetwork| bad(error.to_string()))?;
                if mesh && network.is_wide() {
                    let why = format!("{network} is more than one server may shut for all: /8 of IPv4, /16 of IPv6");
                    return Err(Answer::failed_with(Failure::BadValue, why, "--here bans it on this server only"));
                }
                if network.is_wide() && officer.role < Role::Operator {
                    let why = format!("{network} is more than a moderator may shut: /8 of IPv4, /16 of IPv6");
                    return Err(Answer::failed(Failure::NotAllowed, why));
                }
                self.may_shut(officer, network, mesh)?;
                Ok(Target::Network(network))
            }
        }
    }

    /// Somebody, and the key behind the name if that is known. Of another server's names it need not be.
    fn named(&self, typed: &str) -> Result<(FullName, Option<PublicKey>), Answer> {
        let unknown = match self.person(typed) {
            Ok((name, key)) => return Ok((name, Some(key))),
            Err(unknown) => unknown,
        };
        let parts = typed.trim_start_matches('@').split_once('@');
        let parsed = parts.and_then(|(name, server)| Some((Name::parse(name).ok()?, Name::parse(server).ok()?)));
        let Some((name, server)) = parsed.filter(|(_, server)| *server != self.config.name) else {
            return Err(unknown);
        };
        let name = FullName::new(name, server);
        let key = self.key_behind(&name).or_else(|| self.moderation.roles.named(&name));
        Ok((name, key))
    }

    /// Nobody shuts out oneself, nor who has as much to say and is connected from there.
    fn may_shut(&self, officer: &Officer, network: Network, mesh: bool) -> Result<(), Answer> {
        let refused = |why: String| {
            Answer::failed_with(Failure::NotAllowed, why, "at the admin socket of the server it can be done")
        };
        let asker = match officer.to {
            To::Session(session, _) => self.sessions.get(&session),
            To::Socket(_) => None,
        };
        if let Some(via) = asker.and_then(|session| session.via.as_ref()).filter(|_| mesh) {
            let why = format!("you come through {via}: whether it would lock you out there is not known here");
            return Err(refused(why));
        }
        for session in self.sessions.values().filter(|s| s.via.is_none() && network.contains(s.addr.ip())) {
            if officer.person.as_ref().is_some_and(|(_, key)| *key == session.key) {
                return Err(refused("your own address is in this network: it would lock you out".into()));
            }
            if let (Err(_), Some(name)) = (self.may_touch(officer, &session.key), &session.name) {
                return Err(refused(format!("{name} is connected from there, and may do as much as you")));
            }
        }
        Ok(())
    }

    fn until(&self, for_s: Option<u64>) -> Result<Option<u64>, Answer> {
        match for_s {
            None => Ok(None),
            Some(seconds) if (1..=LONGEST_S).contains(&seconds) => {
                Ok(Some(self.wall_ms.saturating_add(seconds * 1000)))
            }
            Some(_) => {
                let why = "a ban is for a second at least and for 100 years at most";
                Err(Answer::failed_with(Failure::BadValue, why, "without a time it is for good"))
            }
        }
    }

    fn notes(&self, target: &Target, mesh: bool, ended: usize) -> Vec<String> {
        let mut notes = Vec::new();
        if ended > 0 {
            notes.push(format!("{ended} session{} ended here", if ended == 1 { "" } else { "s" }));
        }
        if target.name().is_some() && target.key().is_none() {
            let server = target.name().map_or("", |name| name.server.as_str());
            notes.push(format!(
                "the key behind this name is not known here: it is bound when somebody comes with the name; banned by its \
                 fingerprint, or at {server}, it would be at once"
            ));
        }
        if target.network().is_some() {
            notes.push("who comes through another server is judged there, by the address that it sees".into());
        }
        if mesh && self.mesh_word().is_some() {
            notes.push("servers that are away hear of it when they are back".into());
        }
        notes
    }

    /// Signs what is said of an own ban, keeps it, and tells the other servers if it is for them.
    fn say_ban(&mut self, ban: Ban) {
        let (own, origin) = (self.own_node(), self.own_origin());
        let number = self.wall_ms.max(origin.highest + 1);
        let signed = SignedBan::sign(&self.identity, Ban { number, ..ban });
        let at = BanRef { origin: own, id: signed.said().id };
        let list = &mut self.moderation.bans.list;
        let seen = list.get(&at).and_then(|held| held.seen);
        self.out.write(list.keep_origin(Origin { highest: number, last_id: origin.last_id.max(at.id), ..origin }));
        self.out.write(list.keep(at, Held { signed: signed.clone(), seen }));
        let one = [signed];
        let one = one.iter().filter(|signed| signed.said().mesh);
        let (key, vouch) = (self.identity.public(), self.config.vouch.as_ref());
        if let Some(page) = ban::Page::fill(&key, &self.config.name, vouch, &mut one.peekable()) {
            let body = page.to_bytes().into();
            self.out.output(Output::Gossip { to: None, head: Head::Bans, body });
        }
    }

    fn strike_ban(&mut self, at: &BanRef) {
        for write in self.moderation.bans.list.strike(at) {
            self.out.write(write);
        }
    }

    /// Room for one more ban of a server: who was lifted long ago makes place.
    fn room_for_ban(&mut self, origin: NodeId) -> Result<(), ()> {
        let own = self.own_node();
        if self.moderation.bans.list.is_full(&origin, own) {
            let oldest = self.moderation.bans.list.oldest_lifted(origin).ok_or(())?;
            self.strike_ban(&oldest);
        }
        Ok(())
    }

    fn own_node(&self) -> NodeId {
        NodeId::of(&self.identity.public())
    }

    fn own_origin(&self) -> Origin {
        let known = self.moderation.bans.list.origin(&self.own_node()).cloned();
        let name = self.config.name.clone();
        let new = || Origin::new(&self.identity.public(), name.clone(), None);
        Origin { name: name.clone(), ..known.unwrap_or_else(new) }
    }
}

/// Whether two bans would be for the same; a name is one, whatever is known of its key.
fn same(one: &Target, other: &Target) -> bool {
    match (one.name(), other.name()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn told(target: &Target) -> String {
    match target {
        Target::Name { name, .. } => name.to_string(),
        Target::Key(key) => Fingerprint(**key).to_string(),
        Target::Network(network) => network.to_string(),
    }
}

fn view(id: String, held: &Held) -> BanView {
    let ban = held.ban();
    BanView {
        id,
        name: ban.target.name().map(ToString::to_string),
        fingerprint: held.key().map(|key| key.to_string()),
        network: ban.target.network().map(|network| network.to_string()),
        reason: ban.reason.clone(),
        by: ban.by.clone(),
        since_ms: ban.since_ms,
        until_ms: ban.until_ms,
        mesh: ban.mesh,
    }
}

/// A hundred years.
const LONGEST_S: u64 = 100 * 365 * 24 * 3600;
