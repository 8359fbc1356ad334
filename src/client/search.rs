//! Who has a file: asked in a room, answered directly, for two seconds; and the hunt of `@any getfile` through the holders.

use super::core::{Core, Ticket};
use super::effects::FilesCommand;
use super::event::Event;
use super::problem::{NOT_FOUND, PEER_REFUSED, Problem};
use crate::limits::{SEARCH_HOLDERS, SEARCH_ROWS};
use crate::transfer::search::literal;
use crate::wire::id::{RoomId, SearchId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{Body, FileRow};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Searches {
    open: BTreeMap<SearchId, Search>,
    /// Searches of others that our file side looks into, and whence. It says nothing where nothing matches, so the oldest go.
    asked: VecDeque<(SearchId, FullName)>,
}

#[derive(Debug)]
struct Search {
    ticket: Ticket,
    room: RoomId,
    title: String,
    pattern: String,
    holders: BTreeSet<FullName>,
    found: u64,
    /// When no more answers are waited for.
    until: Duration,
    over: bool,
    hunt: Option<Hunt>,
}

/// `@any getfile`.
#[derive(Debug)]
struct Hunt {
    file: String,
    untried: Vec<(FullName, FileRow)>,
    running: Option<TransferId>,
    busy: bool,
    last: Option<Problem>,
}

impl Searches {
    pub fn next_timeout(&self) -> Option<Duration> {
        self.open.values().filter(|s| !s.over).map(|s| s.until).min()
    }
}

impl Core {
    /// `@all whohas GLOB`.
    pub(super) fn who_has(&mut self, number: u64, pattern: String) -> Result<(), Problem> {
        let room = self.room_named(None)?;
        self.search(number, room, pattern.clone(), pattern, None)
    }

    /// `@any getfile FILE`: the exact name, from the first holder with a free slot, then the next.
    pub(super) fn get_from_any(&mut self, number: u64, room: RoomId, file: String) -> Result<(), Problem> {
        let pattern = literal(&file);
        let hunt = Hunt { file: file.clone(), untried: Vec::new(), running: None, busy: false, last: None };
        self.search(number, room, pattern, file, Some(hunt))
    }

    fn search(
        &mut self,
        number: u64,
        room: RoomId,
        glob: String,
        pattern: String,
        hunt: Option<Hunt>,
    ) -> Result<(), Problem> {
        let title = self.conversations.get(&room).map(|c| c.title()).unwrap_or_default();
        let search = self.new_id();
        self.queue(&room, Body::WhoHas { search, pattern: glob }, None)?;
        let (holders, until) = (BTreeSet::new(), self.now + SEND_DEADLINE);
        let ticket = Some(number);
        let entry = Search { ticket, room, title, pattern, holders, found: 0, until, over: false, hunt };
        self.searches.open.insert(search, entry);
        Ok(())
    }

    /// The room has the question: from now on answers are waited for.
    pub(super) fn search_posted(&mut self, id: &SearchId) {
        let until = self.now + ANSWERS;
        self.searches.open.get_mut(id).into_iter().for_each(|search| search.until = until);
    }

    pub(super) fn search_failed(&mut self, id: &SearchId, problem: Problem) {
        if let Some(search) = self.searches.open.remove(id) {
            self.fail(search.ticket, problem);
        }
    }

    /// Somebody in a room asks; the file side answers when it has found something.
    pub(super) fn asked_who_has(&mut self, asker: &FullName, search: SearchId, pattern: String) {
        if pattern.len() > PATTERN_MAX || !self.peers.may_ask(asker, self.now) {
            return;
        }
        self.searches.asked.push_back((search, asker.clone()));
        if self.searches.asked.len() > ASKED {
            self.searches.asked.pop_front();
        }
        self.tell_files(FilesCommand::Search { search, asker: asker.clone(), pattern });
    }

    /// What our file side has found for somebody.
    pub(super) fn found(&mut self, search: SearchId, asker: &FullName, mut rows: Vec<FileRow>, more: u64) {
        let at = self.searches.asked.iter().position(|(id, who)| *id == search && who == asker);
        if at.and_then(|at| self.searches.asked.remove(at)).is_some() && !rows.is_empty() {
            rows.truncate(SEARCH_ROWS);
            // A changed key, or nobody there any more: then there is no answer.
            let _ = self.send_direct(asker, Body::Holds { search, rows, more }, None);
        }
    }

    /// An answer to a search of ours, from a member of the room in which we asked, once each.
    pub(super) fn holds(&mut self, from: &FullName, id: &SearchId, mut rows: Vec<FileRow>, more: u64) {
        let Some(search) = self.searches.open.get_mut(id) else { return };
        let member = self.conversations.get(&search.room).is_some_and(|c| c.room.members().any(|m| m.name == *from));
        let late = search.over || search.holders.len() >= SEARCH_HOLDERS;
        if !member || late || self.peers.is_changed(from) || !search.holders.insert(from.clone()) {
            return;
        }
        rows.truncate(SEARCH_ROWS);
        search.found = search.found.saturating_add(rows.len() as u64).saturating_add(more);
        if let Some(hunt) = &mut search.hunt {
            let exact = rows.into_iter().filter(|row| row.name == hunt.file);
            hunt.untried.extend(exact.take(1).map(|row| (from.clone(), row)));
            return self.hunt_on(*id);
        }
        let (ticket, room) = (search.ticket, search.title.clone());
        for row in rows {
            let state = if row.root.is_some() { "ready" } else { "hashing" }.to_owned();
            let root = row.root.map(|root| hex(&*root));
            let (from, file, size, free_slots) = (from.to_string(), row.name, row.size, row.free_slots);
            let event = Event::FileFound { room: room.clone(), from, file, size, root, state, free_slots };
            self.tell(ticket, event);
        }
    }

    /// Starts with the best holder that is left: one with a free slot, in the order of their answers.
    fn hunt_on(&mut self, id: SearchId) {
        let Some(search) = self.searches.open.get_mut(&id) else { return };
        let (over, ticket) = (search.over, search.ticket);
        let Some(hunt) = search.hunt.as_mut().filter(|hunt| hunt.running.is_none()) else { return };
        let free = hunt.untried.iter().position(|(_, row)| row.free_slots > 0);
        let Some(best) = free.or_else(|| (over && !hunt.untried.is_empty()).then_some(0)) else {
            if over {
                self.hunt_failed(&id);
            }
            return;
        };
        let (peer, row) = hunt.untried.remove(best);
        let (file, root) = (hunt.file.clone(), row.root.map(|root| *root));
        let transfer = self.new_id();
        if let Some(hunt) = self.searches.open.get_mut(&id).and_then(|s| s.hunt.as_mut()) {
            hunt.running = Some(transfer);
        }
        self.start_download(transfer, ticket, &peer, file, root, Some(id));
    }

    /// A holder did not deliver: the next one.
    pub(super) fn hunt_next(&mut self, id: SearchId, problem: Problem) {
        let Some(hunt) = self.searches.open.get_mut(&id).and_then(|s| s.hunt.as_mut()) else { return };
        hunt.running = None;
        hunt.busy |= problem.code == "busy";
        hunt.last = Some(problem);
        self.hunt_on(id);
    }

    pub(super) fn hunt_done(&mut self, id: &SearchId) {
        self.searches.open.remove(id);
    }

    /// Answers to these commands' searches are not waited for any more.
    pub(super) fn forget_searches_of(&mut self, numbers: &BTreeSet<u64>) {
        self.searches.open.retain(|_, search| search.ticket.is_none_or(|number| !numbers.contains(&number)));
    }

    fn hunt_failed(&mut self, id: &SearchId) {
        let Some(search) = self.searches.open.remove(id) else { return };
        let Some(hunt) = search.hunt else { return };
        let none = || Problem::new("not_found", NOT_FOUND, format!("nobody in {} has {}", search.title, hunt.file));
        let problem = if hunt.busy {
            Problem::new("busy", PEER_REFUSED, "all who have it are busy").hint("try again in a while")
        } else {
            hunt.last.unwrap_or_else(none)
        };
        self.fail(search.ticket, problem);
    }

    pub(super) fn searches_timeouts(&mut self) {
        let now = self.now;
        let late: Vec<SearchId> =
            self.searches.open.iter().filter(|(_, s)| !s.over && now >= s.until).map(|(id, _)| *id).collect();
        for id in late {
            let Some(search) = self.searches.open.get_mut(&id) else { continue };
            search.over = true;
            if search.hunt.is_some() {
                self.hunt_on(id);
                continue;
            }
            let Some(Search { ticket, title: room, pattern, found, .. }) = self.searches.open.remove(&id) else {
                continue;
            };
            self.tell(ticket, Event::SearchDone { room, pattern, found });
            self.done(ticket, if found == 0 { NOT_FOUND } else { 0 });
        }
    }

    /// The file side's share commands end here.
    pub(super) fn shares(&mut self, global: bool, files: Vec<(String, bool)>, missing: Option<String>) {
        let Some((number, name)) = self.transfers.share_answered() else { return };
        if let Some(file) = missing {
            let text = format!("there is no file {file} in the shared folder");
            return self.fail(Some(number), Problem::new("not_found", NOT_FOUND, text));
        }
        if name != "getsharestatus" {
            return self.ok(number, name);
        }
        let files = files.into_iter().map(|(file, shared)| super::event::ShareRow { file, shared }).collect();
        self.tell(Some(number), Event::ShareStatus { global, files });
        self.done(Some(number), 0);
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to memory cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// How long holders have to answer.
const ANSWERS: Duration = Duration::from_secs(2);
/// How long the question itself may wait to be sent.
const SEND_DEADLINE: Duration = Duration::from_secs(30);
/// Longest pattern, bytes.
const PATTERN_MAX: usize = 1024;
/// Searches of others that the file side may be busy with.
const ASKED: usize = 1024;
