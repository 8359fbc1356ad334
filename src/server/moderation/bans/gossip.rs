//! Bans between servers: each says what it knows when it meets another one, and once a minute; what the other lacks is sent, and every
//! change to all at once.
//!
//! A ban is judged by its own signature, whoever brings it; what is known already costs nothing but a look.

use super::super::super::attempts::Attempts;
use super::super::super::core::Core;
use super::super::super::io::{LogEvent, Output};
use super::list::{BanRef, Held, Origin};
use crate::limits::{BAN_ANSWERS, BAN_PAGES, BANS_TAKEN, BANS_WINDOW, DOOR_WINDOW};
use crate::mesh::NodeInfo;
use crate::wire::ban::{Known, Page, SignedBan, Summary};
use crate::wire::name::Name;
use crate::wire::relay::Head;
use crate::wire::vouch::{Doubt, NodeId, ServerCert};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much other servers may ask and tell.
#[derive(Debug)]
pub(super) struct Pace {
    pages: Attempts<NodeId>,
    /// By the server whose bans they are.
    taken: Attempts<NodeId>,
    answers: Attempts<NodeId>,
    /// All own bans at once, to a server that has other ones of the same numbers.
    all: Attempts<NodeId>,
    told: Attempts<NodeId>,
    heard: Attempts<NodeId>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pages: Attempts::new(BAN_PAGES, BANS_WINDOW),
            taken: Attempts::new(BANS_TAKEN, DOOR_WINDOW),
            answers: Attempts::new(BAN_ANSWERS, DOOR_WINDOW),
            all: Attempts::new(1, DOOR_WINDOW),
            told: Attempts::new(1, BANS_WINDOW),
            heard: Attempts::new(LINES, BANS_WINDOW),
        }
    }
}

/// Why bans of another server are not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("they make no sense")]
    Malformed,
    #[error("they are of a server that is not trusted here: {0}")]
    Origin(#[from] Doubt),
    #[error("the signature of a ban of {0} does not hold")]
    Forged(Name),
    #[error("a ban is not of {0}, among whose it stands, or not for other servers")]
    NotTheirs(Name),
    #[error("{0} has more bans, or makes them faster, than is taken")]
    TooMany(Name),
    #[error("they come too fast")]
    TooFast,
}

impl Core {
    /// Another server is there: it hears what is known here, and then sends what is lacking.
    pub(in crate::server) fn server_up(&mut self, info: &NodeInfo) {
        if let Some(origin) =
            self.moderation.bans.list.origin(&info.id).filter(|known| is_newer(&info.vouch, &known.vouch))
        {
            let origin = Origin { vouch: info.vouch.clone(), ..origin.clone() };
            let write = self.moderation.bans.list.keep_origin(origin);
            self.out.write(write);
        }
        self.tell_known(Some(info.id));
    }

    /// Now and then: what was lost on the way, or held back by somebody, is found so.
    pub(in crate::server) fn ban_housekeeping(&mut self) {
        for at in self.moderation.bans.list.outdated(self.wall_ms) {
            self.strike_ban(&at);
        }
        let Pace { pages, taken, answers, all, told, heard } = &mut self.moderation.bans.pace;
        [pages, taken, answers, all, told, heard].into_iter().for_each(|attempts| attempts.prune(self.now));
        if self.mesh_word().is_some() {
            self.tell_known(None);
        }
    }

    /// Bans of other servers, and messages with them, that were not taken.
    pub(in crate::server) const fn bans_refused(&self) -> u64 {
        self.moderation.bans.refused
    }

    /// Another server says what it knows.
    pub(in crate::server) fn bans_known(&mut self, from: NodeId, server: &Name, body: &[u8]) {
        let (now, pace) = (self.now, &mut self.moderation.bans.pace);
        let read = if pace.answers.take(from, now) {
            Summary::from_bytes(body).map_err(|_| Refused::Malformed)
        } else {
            Err(Refused::TooFast)
        };
        match read {
            Ok(summary) => self.send_lacking(from, &summary),
            Err(why) => self.refuse_bans(from, server, &why),
        }
    }

    /// Another server says bans, its own or those of a third one.
    pub(in crate::server) fn bans_told(&mut self, from: NodeId, server: &Name, body: &[u8]) {
        let (now, pace) = (self.now, &mut self.moderation.bans.pace);
        let read = if !pace.pages.take(from, now) {
            Err(Refused::TooFast)
        } else {
            Page::from_bytes(body).map_err(|_| Refused::Malformed)
        };
        let mut taken = 0;
        if let Err(why) = read.and_then(|page| self.take_page(&page, &mut taken)) {
            self.refuse_bans(from, server, &why);
        }
        if taken > 0 {
            let ended = self.keep_out();
            if self.moderation.bans.pace.heard.take(from, now) {
                self.out.log(LogEvent::BansTaken { from: server.clone(), taken, ended });
            }
        }
    }

    /// Takes the bans of a page until one is wrong: whatever else stands there, that costs one verification.
    fn take_page(&mut self, page: &Page, taken: &mut usize) -> Result<(), Refused> {
        self.trust.check_server(&page.server, &page.origin(), page.vouch.as_ref(), self.wall_ms)?;
        let list = &self.moderation.bans.list;
        let node = NodeId::of(&page.origin());
        let known = list.origin(&node).cloned();
        if known.is_none() && list.knows_too_many() {
            return Err(Refused::TooMany(page.server.clone()));
        }
        let mut origin = known.clone().unwrap_or_else(|| Origin::new(&page.origin(), page.server.clone(), None));
        origin.name.clone_from(&page.server);
        if is_newer(&page.vouch, &origin.vouch) && node != self.own_node() {
            origin.vouch.clone_from(&page.vouch);
        }
        let mut result = Ok(());
        for bytes in &page.bans {
            match self.take_ban(node, &mut origin, bytes) {
                Ok(new) => *taken += usize::from(new),
                Err(why) => {
                    result = Err(why);
                    break;
                }
            }
        }
        // Where nothing of a server was taken, nothing is kept of it.
        let floor = self.moderation.bans.list.origin(&node).map_or(origin.floor, |origin| origin.floor);
        let origin = Origin { floor, ..origin };
        if (known.is_some() || *taken > 0) && known.as_ref() != Some(&origin) {
            let write = self.moderation.bans.list.keep_origin(origin);
            self.out.write(write);
        }
        result
    }

    /// Whether a ban is news.
    fn take_ban(&mut self, node: NodeId, origin: &mut Origin, bytes: &[u8]) -> Result<bool, Refused> {
        let signed = SignedBan::from_bytes(bytes).map_err(|_| Refused::Malformed)?;
        let ban = signed.said();
        if ban.origin() != origin.key() || ban.server != origin.name || !ban.mesh {
            return Err(Refused::NotTheirs(origin.name.clone()));
        }
        let at = BanRef { origin: node, id: ban.id };
        let held = self.moderation.bans.list.get(&at);
        let least = held.map_or(origin.floor, |held| held.ban().number);
        // Of our own bans others know more only where we have lost what we knew.
        let least = if node == self.own_node() { least.max(origin.highest) } else { least };
        if ban.number <= least || ban.is_over(self.wall_ms) {
            return Ok(false);
        }
        let seen = held.and_then(|held| held.seen);
        let too_many = || Refused::TooMany(origin.name.clone());
        if !self.moderation.bans.pace.taken.take(node, self.now) {
            return Err(too_many());
        }
        signed.verify().map_err(|_| Refused::Forged(origin.name.clone()))?;
        if held.is_none() {
            self.room_for_ban(node).map_err(|()| too_many())?;
        }
        (origin.highest, origin.last_id) = (origin.highest.max(ban.number), origin.last_id.max(ban.id));
        let name = ban.target.name().cloned();
        let write = self.moderation.bans.list.keep(at, Held { signed, seen });
        self.out.write(write);
        if let Some(name) = name
            && let Some(key) = self.key_behind(&name)
        {
            self.bind(&name, &key);
        }
        Ok(true)
    }

    fn refuse_bans(&mut self, from: NodeId, server: &Name, why: &Refused) {
        let (now, bans) = (self.now, &mut self.moderation.bans);
        bans.refused += 1;
        if bans.pace.told.take(from, now) {
            self.out.log(LogEvent::BansRefused { from: server.clone(), why: why.to_string() });
        }
    }

    fn tell_known(&mut self, to: Option<NodeId>) {
        let body = Summary { known: self.moderation.bans.list.known(self.wall_ms) }.to_bytes().into();
        self.out.output(Output::Gossip { to, head: Head::BansKnown, body });
    }

    /// Sends what another server does not know.
    fn send_lacking(&mut self, to: NodeId, summary: &Summary) {
        let theirs: BTreeMap<NodeId, &Known> = summary.known.iter().map(|known| (known.origin(), known)).collect();
        let (own, now) = (self.own_node(), self.now);
        let (mut pages, mut lacking) = (Vec::new(), false);
        for ours in self.moderation.bans.list.known(self.wall_ms) {
            let after = match theirs.get(&ours.origin()) {
                None => 0,
                Some(theirs) if theirs.highest < ours.highest => theirs.highest,
                // It has taken a later one and not all before it: who made them has the last word.
                Some(theirs) if theirs.digest != ours.digest && ours.origin() == own => {
                    if !self.moderation.bans.pace.all.take(to, now) {
                        continue;
                    }
                    0
                }
                Some(theirs) => {
                    lacking |= theirs.digest != ours.digest && ours.origin() == to;
                    continue;
                }
            };
            let most = if ours.origin() == own { usize::MAX } else { ANSWER_PAGES.saturating_sub(pages.len()) };
            pages.extend(self.pages(ours.origin(), after).into_iter().take(most));
        }
        for body in pages {
            self.out.output(Output::Gossip { to: Some(to), head: Head::Bans, body });
        }
        if lacking {
            self.tell_known(Some(to));
        }
    }

    /// Bans of one server with higher numbers than this one.
    fn pages(&self, node: NodeId, after: u64) -> Vec<Arc<[u8]>> {
        let list = &self.moderation.bans.list;
        let Some(origin) = list.origin(&node) else { return Vec::new() };
        let wanted = |held: &&Held| {
            let ban = held.ban();
            ban.mesh && ban.number > after && !ban.is_over(self.wall_ms)
        };
        let mut bans: Vec<&Held> = list.of(node).map(|(_, held)| held).filter(wanted).collect();
        bans.sort_by_key(|held| held.ban().number);
        let vouch = if node == self.own_node() { self.config.vouch.as_ref() } else { origin.vouch.as_ref() };
        let mut left = bans.into_iter().map(|held| &held.signed).peekable();
        let page = || Page::fill(&origin.key(), &origin.name, vouch, &mut left).map(|page| page.to_bytes().into());
        std::iter::from_fn(page).collect()
    }
}

/// Whether a certificate holds for longer than another one.
fn is_newer(one: &Option<ServerCert>, other: &Option<ServerCert>) -> bool {
    let ends = |cert: &Option<ServerCert>| cert.as_ref().map_or(0, |cert| cert.not_after);
    ends(one) > ends(other)
}

/// Lines in the log on what one server tells, in [`BANS_WINDOW`].
const LINES: u32 = 8;
/// Pages with bans of third servers in one answer; what is left goes with the next one.
const ANSWER_PAGES: usize = 64;
