//! Who has a file: asked in a room, answered directly, for two seconds.

use super::core::{Core, Ticket};
use super::download::Download;
use super::effects::FilesCommand;
use super::event::Event;
use super::problem::{FAILED, NOT_FOUND, Problem};
use super::transfers::shown_name;
use crate::limits::{SEARCH_BURST, SEARCH_EVERY, SEARCH_HOLDERS, SEARCH_ROWS};
use crate::transfer::restrict::{Item, Rules, Used};
use crate::transfer::search::literal;
use crate::wire::id::{RoomId, SearchId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{Body, FileKind, FileRow};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Searches {
    open: BTreeMap<SearchId, Search>,
    /// When what we have asked would be over at the steady rate; ahead by a burst at the most.
    paid_until: Duration,
    /// Searches of others that our file side looks into, and whence. It says nothing where nothing matches, so the oldest go.
    asked: VecDeque<(SearchId, FullName, Rules)>,
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
    /// Who has what a download wants.
    download: Option<TransferId>,
}

impl Searches {
    pub fn next_timeout(&self) -> Option<Duration> {
        self.open.values().map(|s| s.until).min()
    }

    pub fn forget(&mut self, id: &SearchId) {
        self.open.remove(id);
    }
}

impl Core {
    /// `@all whohas GLOB`.
    pub(super) fn who_has(&mut self, number: u64, pattern: String) -> Result<(), Problem> {
        let room = self.room_named(None)?;
        self.may_search()?;
        self.search(Some(number), room, pattern.clone(), pattern, None).map(|_| ())
    }

    /// `@any getfile FILE`: the exact name, from all who have the same content.
    pub(super) fn get_from_any(
        &mut self,
        number: u64,
        room: RoomId,
        file: String,
        kind: FileKind,
        wait: bool,
    ) -> Result<(), Problem> {
        self.may_search()?;
        let download = self.new_id();
        let search = self.search_holders(Some(number), room, &file, download)?;
        let mut wanted = Download::new(Some(number), file, kind, wait);
        (wanted.room, wanted.serves, wanted.search) = (Some(room), Some(room), Some(search));
        wanted.through = Some(room);
        self.transfers.downloads.insert(download, wanted);
        Ok(())
    }

    /// Every member of a room looks through its files for a search of ours, and no server can see how many we make.
    fn may_search(&mut self) -> Result<(), Problem> {
        let paid = self.searches.paid_until.max(self.now) + SEARCH_EVERY;
        if paid > self.now + SEARCH_EVERY * SEARCH_BURST {
            let text = format!("too many searches: {SEARCH_BURST} at once, then one a second");
            return Err(Problem::new("too_many", FAILED, text).hint("try again in a while"));
        }
        self.searches.paid_until = paid;
        Ok(())
    }

    /// Asks a room who has what a download wants; the answers go there.
    pub(super) fn search_holders(
        &mut self,
        ticket: Ticket,
        room: RoomId,
        file: &str,
        download: TransferId,
    ) -> Result<SearchId, Problem> {
        self.search(ticket, room, literal(file), file.to_owned(), Some(download))
    }

    fn search(
        &mut self,
        ticket: Ticket,
        room: RoomId,
        glob: String,
        pattern: String,
        download: Option<TransferId>,
    ) -> Result<SearchId, Problem> {
        let title = self.conversations.get(&room).map(|c| c.title()).unwrap_or_default();
        let search = self.new_id();
        self.queue(&room, Body::WhoHas { search, pattern: glob }, None)?;
        let (holders, until) = (BTreeSet::new(), self.now + SEND_DEADLINE);
        let entry = Search { ticket, room, title, pattern, holders, found: 0, until, download };
        self.searches.open.insert(search, entry);
        Ok(search)
    }

    /// The room has the question: from now on answers are waited for.
    pub(super) fn search_posted(&mut self, id: &SearchId) {
        let until = self.now + ANSWERS;
        self.searches.open.get_mut(id).into_iter().for_each(|search| search.until = until);
    }

    pub(super) fn search_failed(&mut self, id: &SearchId, problem: Problem) {
        let Some(search) = self.searches.open.remove(id) else { return };
        match search.download {
            Some(download) => self.search_ended(&download, Some(problem)),
            None => self.fail(search.ticket, problem),
        }
    }

    /// Somebody in a room asks; the file side answers when it has found something.
    pub(super) fn asked_who_has(&mut self, room: RoomId, asker: &FullName, search: SearchId, pattern: String) {
        if pattern.len() > PATTERN_MAX || !self.peers.may_search(asker, self.now) {
            return;
        }
        let rules = self.rules_to((asker, self.key_of(asker)), Some(room), Used::default());
        // Where nothing may be shared there is nothing to be found.
        if rules.judge_sharer().is_err() {
            return;
        }
        self.searches.asked.push_back((search, asker.clone(), rules.clone()));
        if self.searches.asked.len() > ASKED {
            self.searches.asked.pop_front();
        }
        let members = self.conversations.get(&room).map_or(0, |c| c.room.members().count());
        let within = u32::try_from(members).map_or(ANSWER_WITHIN, |n| (ANSWER_APART * n).min(ANSWER_WITHIN));
        self.tell_files(FilesCommand::Search { search, asker: asker.clone(), room, pattern, within, rules });
    }

    /// What our file side has found for somebody.
    pub(super) fn found(&mut self, search: SearchId, asker: &FullName, mut rows: Vec<FileRow>, more: u64) {
        let at = self.searches.asked.iter().position(|(id, who, _)| *id == search && who == asker);
        let Some((_, _, rules)) = at.and_then(|at| self.searches.asked.remove(at)) else { return };
        // What is refused when it is asked for is not shown.
        rows.retain(|row| rules.judge(&item_of(row)).is_ok());
        if !rows.is_empty() {
            rows.truncate(SEARCH_ROWS);
            let free_slots = self.transfers.queue.free();
            rows.iter_mut().for_each(|row| row.free_slots = free_slots);
            // A changed key, or nobody there any more: then there is no answer.
            let _ = self.send_direct(asker, Body::Holds { search, rows, more }, None);
        }
    }

    /// An answer to a search of ours, from a member of the room in which we asked, once each.
    pub(super) fn holds(&mut self, from: &FullName, id: &SearchId, mut rows: Vec<FileRow>, more: u64) {
        let Some(search) = self.searches.open.get_mut(id) else { return };
        let member = self.conversations.get(&search.room).is_some_and(|c| c.room.members().any(|m| m.name == *from));
        if !member
            || search.holders.len() >= SEARCH_HOLDERS
            || self.peers.is_changed(from)
            || !search.holders.insert(from.clone())
        {
            return;
        }
        rows.truncate(SEARCH_ROWS);
        search.found = search.found.saturating_add(rows.len() as u64).saturating_add(more);
        if let Some(id) = search.download {
            let Some(download) = self.transfers.downloads.get_mut(&id) else { return };
            if let Some(row) = rows.iter().find(|row| row.name == download.file && row.kind == download.kind) {
                download.heard_of(from, Some(row));
                self.advance(&id);
            }
            return;
        }
        let (ticket, room) = (search.ticket, search.title.clone());
        for row in rows {
            let state = match row.root {
                Some(_) if row.partial => "partial",
                Some(_) => "ready",
                None => "hashing",
            };
            let state = state.to_owned();
            let root = row.root.map(|root| hex(&*root));
            let (from, file) = (from.to_string(), shown_name(&row.name, row.kind));
            let (size, free_slots) = (row.size, row.free_slots);
            let event = Event::FileFound { room: room.clone(), from, file, size, root, state, free_slots };
            self.tell(ticket, event);
        }
    }

    /// Answers to these commands' searches are not waited for any more.
    pub(super) fn forget_searches_of(&mut self, numbers: &BTreeSet<u64>) {
        self.searches.open.retain(|_, search| search.ticket.is_none_or(|number| !numbers.contains(&number)));
    }

    pub(super) fn searches_timeouts(&mut self) {
        let now = self.now;
        let late: Vec<SearchId> =
            self.searches.open.iter().filter(|(_, s)| now >= s.until).map(|(id, _)| *id).collect();
        for id in late {
            let Some(search) = self.searches.open.remove(&id) else { continue };
            let Search { ticket, title: room, pattern, found, download, .. } = search;
            if let Some(download) = download {
                self.search_ended(&download, None);
                continue;
            }
            self.tell(ticket, Event::SearchDone { room, pattern, found });
            self.done(ticket, if found == 0 { NOT_FOUND } else { 0 });
        }
    }

    /// No more answers come for a download.
    fn search_ended(&mut self, id: &TransferId, problem: Option<Problem>) {
        let now = self.now;
        if let Some(download) = self.transfers.downloads.get_mut(id) {
            download.search_ended(now, problem);
            self.advance(id);
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

fn item_of(row: &FileRow) -> Item<'_> {
    let folder = row.kind == FileKind::Folder;
    Item { name: &row.name, folder, size: Some(row.size), root: row.root.as_deref() }
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
/// Answers of a room's members are spread so that one comes in about such a time ...
const ANSWER_APART: Duration = Duration::from_millis(10);
/// ... but all within this one.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// How long the question itself may wait to be sent.
const SEND_DEADLINE: Duration = Duration::from_secs(30);
/// Longest pattern, bytes.
const PATTERN_MAX: usize = 1024;
/// Searches of others that the file side may be busy with.
const ASKED: usize = 1024;
