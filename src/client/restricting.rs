//! What may be shared: the rules of our servers and rooms, held against what we send and what comes.

use super::conversation::{Conversation, Kind};
use super::core::Core;
use super::effects::Effect;
use super::event::Event;
use super::problem::Problem;
use super::transfers::Stage as SourceStage;
use super::upload::Stage;
use crate::crypto::identity::PublicKey;
use crate::limits::AWAY_SERVERS;
use crate::transfer::restrict::{Compiled, Ledger, Maker, Rules, Used, What};
use crate::wire::id::{RoomId, TransferId};
use crate::wire::name::{FullName, Name};
use crate::wire::sharing::{Document, Rule, Scope};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Restrictions {
    /// What servers have said last.
    documents: BTreeMap<Name, Known>,
    pub ledger: Ledger,
    /// Refusals that the user was told, so that nobody fills the screen with them.
    pub told: VecDeque<(FullName, String, String)>,
}

#[derive(Debug)]
struct Known {
    version: u64,
    /// As it came.
    bytes: Vec<u8>,
    rules: Vec<Arc<Compiled>>,
}

impl Restrictions {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, ..Self::default() }
    }

    /// What a server has said last, signed.
    pub fn document(&self, server: &Name) -> Option<&[u8]> {
        self.documents.get(server).map(|known| known.bytes.as_slice())
    }

    /// The rules of a server.
    pub fn of(&self, server: &Name) -> &[Arc<Compiled>] {
        self.documents.get(server).map_or(&[], |known| known.rules.as_slice())
    }
}

impl Core {
    /// A server says what it does not want shared. It has to be signed, and newer than what it said before.
    pub(super) fn sharing_told(&mut self, server: &Name, bytes: &[u8]) {
        let Some(key) = self.server_key(server) else { return };
        let before = self.restrictions.documents.get(server).map(|known| (known.version, known.bytes == bytes));
        if before.is_some_and(|(_, same)| same) {
            return;
        }
        let document = match Document::open(bytes, server, &key) {
            Err(_) => return self.bad_document(server, "sharing_forged"),
            Ok(document) if before.is_some_and(|(version, _)| document.version <= version) => {
                return self.bad_document(server, "sharing_rolled_back");
            }
            Ok(document) => document,
        };
        let count = document.rules.len();
        self.keep_document(document, bytes.to_vec());
        if before.is_some() {
            let text = match count {
                0 => "nothing is restricted any more in what is shared".to_owned(),
                _ => format!("what may be shared has changed: {count} rules hold, /restrictions shows them"),
            };
            self.tell(None, Event::Notice { from: format!("server@{server}"), text });
        }
        if self.is_home(server) {
            self.keep_home();
        }
        self.hold_transfers();
    }

    fn bad_document(&mut self, server: &Name, kind: &str) {
        let (room, server) = (server.to_string(), Some(server.to_string()));
        self.tell(None, Event::Integrity { room, kind: kind.to_owned(), peer: None, server });
    }

    fn keep_document(&mut self, document: Document, bytes: Vec<u8>) {
        let Document { server, version, rules, .. } = document;
        let maker = Maker::Server(server.clone());
        let rules = Compiled::all(&maker, rules);
        let documents = &mut self.restrictions.documents;
        if documents.len() > AWAY_SERVERS && !documents.contains_key(&server) {
            let attached = &self.attachments;
            documents.retain(|known, _| attached.contains_key(known));
        }
        documents.insert(server, Known { version, bytes, rules });
    }

    /// What our home server had said in an earlier run: it cannot go back behind that.
    pub(super) fn recall_document(&mut self, server: &Name, key: &PublicKey, bytes: &[u8]) {
        if let Ok(document) = Document::open(bytes, server, key)
            && !self.restrictions.documents.contains_key(server)
        {
            self.keep_document(document, bytes.to_vec());
        }
    }

    /// The rooms whose rules hold between us and somebody: the one that is named, if both are in it, or all that both are in.
    pub(super) fn rooms_between(&self, peer: &FullName, named: Option<RoomId>) -> Vec<RoomId> {
        let is_room = |id: &RoomId| self.conversations.get(id).is_some_and(Conversation::is_room);
        let all: Vec<RoomId> = self.rooms_with(peer).into_iter().filter(is_room).collect();
        match named.filter(|room| all.contains(room)) {
            Some(room) => vec![room],
            None => all,
        }
    }

    /// The rules for what we send to somebody, found or offered through this room.
    pub(super) fn rules_to(&self, to: (&FullName, PublicKey), room: Option<RoomId>, used: Used) -> Rules {
        let Some(me) = self.me().cloned() else { return Rules::default() };
        let rooms = self.rooms_between(to.0, room);
        Rules::among(self.rules_of(&rooms), &rooms, (me, self.config.identity.public()), &to.1, used)
    }

    /// The rules for what somebody sends to us.
    pub(super) fn rules_from(&self, from: (&FullName, PublicKey), room: Option<RoomId>, used: Used) -> Rules {
        let rooms = self.rooms_between(from.0, room);
        let own = self.config.identity.public();
        Rules::among(self.rules_of(&rooms), &rooms, (from.0.clone(), from.1), &own, used)
    }

    /// All rules of our servers, of those where these rooms are, and of the rooms' owners. Nobody has a say about rooms of others.
    fn rules_of(&self, rooms: &[RoomId]) -> Vec<Arc<Compiled>> {
        let home = self.home.as_ref().map(|home| &home.server);
        let access = self.link.as_ref().map(|link| &link.server);
        let there = rooms.iter().filter_map(|room| self.conversations.get(room));
        let mut servers: Vec<&Name> = home.into_iter().chain(access).chain(there.clone().map(|c| &c.server)).collect();
        servers.sort_unstable();
        servers.dedup();
        let lives = |room: &RoomId, server: &Name| self.conversations.get(room).is_some_and(|c| c.server == *server);
        let own = |rule: &&Arc<Compiled>, server: &Name| match &rule.rule().scope {
            Scope::Room(room) => lives(room, server),
            Scope::All | Scope::User(_) => true,
        };
        let mut rules: Vec<Arc<Compiled>> = Vec::new();
        for server in servers {
            rules.extend(self.restrictions.of(server).iter().filter(|rule| own(rule, server)).cloned());
        }
        there.for_each(|room| rules.extend(rules_in(room)));
        rules
    }

    /// The rules that hold in a room: its owner's, then those of its server and of ours.
    pub(super) fn rules_here(&self, room: RoomId) -> Vec<Arc<Compiled>> {
        let all = self.rules_of(&[room]);
        let here = |rule: &Arc<Compiled>| !matches!(&rule.rule().scope, Scope::Room(id) if *id != room);
        all.into_iter().filter(here).collect()
    }

    /// Holders do not name what a rule is against, so what nobody has may be there.
    pub(super) fn maybe_a_rule(&self, id: &TransferId, problem: Problem) -> Problem {
        let room = self.transfers.downloads.get(id).and_then(|download| download.room);
        let ruled = room.is_some_and(|room| !self.rules_here(room).is_empty());
        if problem.code != "not_found" || !ruled {
            return problem;
        }
        let hint = "or a rule is against it: /restrictions shows what is not shared here";
        let hint = problem.hint.as_ref().map_or_else(|| hint.to_owned(), |before| format!("{before}; {hint}"));
        problem.hint(hint)
    }

    pub(super) fn known_key(&self, who: &FullName) -> Option<PublicKey> {
        let mut members = self.conversations.values().flat_map(|c| c.room.members());
        self.peers.pinned(who).or_else(|| members.find(|m| m.name == *who).map(|m| m.key))
    }

    /// The key of somebody, or one that nobody has.
    pub(super) fn key_of(&self, who: &FullName) -> PublicKey {
        // No rule can be about somebody whose key nobody knows.
        self.known_key(who).unwrap_or(PublicKey::from_bytes([0; 32]))
    }

    /// What we have sent so far, before this goes to somebody.
    pub(super) fn used_by_us(&self, id: &TransferId, to: &PublicKey, root: &[u8; 32]) -> Used {
        let running = |stage: &Stage| matches!(stage, Stage::Running);
        let others = self.transfers.uploads.iter().filter(|(other, upload)| *other != id && running(&upload.stage));
        let (own, what) = (self.config.identity.public(), What::new(to, root));
        let used = self.restrictions.ledger.used(&own, &what, self.wall_ms);
        // What is about to begin counts as if it had.
        others.fold(used, |used, (_, upload)| {
            let at_once = used.at_once.saturating_add(1);
            match upload.promised() {
                Some((same, _)) if same == what => Used { at_once, counted: true, ..used },
                Some((_, (files, bytes))) => Used {
                    files: used.files.saturating_add(files),
                    bytes: used.bytes.saturating_add(bytes),
                    at_once,
                    ..used
                },
                None => Used { at_once, ..used },
            }
        })
    }

    /// What somebody has sent to us so far, before this comes.
    pub(super) fn used_by(&self, id: &TransferId, from: (&FullName, &PublicKey), root: &[u8; 32]) -> Used {
        let running = self.transfers.sources.iter().filter(|(other, source)| {
            *other != id && source.peer == *from.0 && matches!(source.stage, SourceStage::Running)
        });
        let at_once = u32::try_from(running.count()).unwrap_or(u32::MAX);
        let what = What::new(&self.config.identity.public(), root);
        Used { at_once, ..self.restrictions.ledger.used(from.1, &what, self.wall_ms) }
    }

    /// Counts what goes from somebody to somebody.
    pub(super) fn count_sent(&mut self, from: &PublicKey, what: What, amount: (u64, u64)) {
        self.restrictions.ledger.add(from, what, amount, self.wall_ms);
        self.effect(Effect::KeepLedger(self.restrictions.ledger.to_bytes()));
    }

    /// The list of files of a folder that comes is known: whoever sends it has sent so much.
    pub(super) fn listed(&mut self, id: &TransferId, entries: u64, bytes: u64) {
        let Some(download) = self.transfers.downloads.get_mut(id) else { return };
        download.amount = Some((entries, bytes));
        let (Some(root), room) = (download.root, download.through) else { return };
        let peers: Vec<(TransferId, FullName)> = self
            .transfers
            .sources
            .iter()
            .filter(|(_, source)| source.download == *id && matches!(source.stage, SourceStage::Running))
            .map(|(transfer, source)| (*transfer, source.peer.clone()))
            .collect();
        for (transfer, peer) in peers {
            let key = self.key_of(&peer);
            // Others may have been listed since this one was answered.
            let used = self.used_by(&transfer, (&peer, &key), &root);
            let rules = self.rules_from((&peer, key), room, used);
            if let Err(verdict) = rules.judge_amount(entries, bytes) {
                self.drop_restricted(&transfer, &verdict);
            } else if rules.ask_amounts() {
                self.count_sent(&key, What::new(&self.config.identity.public(), &root), (entries, bytes));
            }
        }
    }
}

/// The owner's rules in a room.
fn rules_in(room: &Conversation) -> Vec<Arc<Compiled>> {
    let Kind::Room { name, .. } = &room.kind else { return Vec::new() };
    let own = |rule: &&Rule| !matches!(&rule.scope, Scope::Room(id) if *id != room.id);
    Compiled::all(&Maker::Room(name.clone()), room.room.policy().rules.iter().filter(own).cloned())
}
