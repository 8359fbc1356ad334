//! One download: its holders, and which of them is asked next. Decides, and does nothing.

use super::core::Ticket;
use super::effects::Offered;
use super::event;
use super::problem::{FAILED, NOT_FOUND, PEER_REFUSED, Problem, UNVERIFIED};
use super::transfers::shown_name;
use super::ways::Way;
use crate::transfer::restrict::Item;
use crate::wire::id::{OfferId, RoomId, SearchId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{FileKind, FileRow};
use std::time::Duration;

/// One file or folder that we want.
#[derive(Debug)]
pub(super) struct Download {
    pub ticket: Ticket,
    pub file: String,
    pub kind: FileKind,
    /// Where holders are searched; without one only those known are asked.
    pub room: Option<RoomId>,
    /// Whose members may have it from us while it comes: it was asked for there, from one of them. Never what was offered.
    pub serves: Option<RoomId>,
    /// The room through which it was found or offered, whose rules hold.
    pub through: Option<RoomId>,
    /// Of a folder, once its list is here: files and bytes.
    pub amount: Option<(u64, u64)>,
    /// The offer that it accepts.
    pub offer: Option<OfferId>,
    /// What the offer said that it is.
    pub offered: Option<Offered>,
    /// Its content; given, or taken from the first holder.
    pub root: Option<[u8; 32]>,
    /// No other content will do: given, or the file side has begun with it.
    pub fixed: bool,
    /// Bytes in all, once known.
    pub total: Option<u64>,
    pub bytes: u64,
    pub rate: u64,
    /// The user has been told that it runs.
    pub told: bool,
    pub route: Option<String>,
    pub way: Option<Way>,
    pub mode: Option<String>,
    /// Things in the holder's folder that cannot be sent.
    pub left_out: u32,
    /// Whom it came from first, or is asked of.
    pub peer: Option<FullName>,
    pub holders: Vec<Holder>,
    pub search: Option<SearchId>,
    /// When others are looked for although somebody delivers, and how often they were.
    look_at: Duration,
    looks: u32,
    /// Whether to stand in line for a slot.
    pub wait: bool,
    pub starving: Option<Starving>,
    /// When one holder more is asked, however small it is: those under way take long.
    hurry_at: Option<Duration>,
    last: Option<Problem>,
    busy: bool,
}

/// Somebody who has it, or said so.
#[derive(Debug)]
pub(super) struct Holder {
    peer: FullName,
    /// As it answered; `None` while it does not know.
    root: Option<[u8; 32]>,
    size: u64,
    free: bool,
    tries: u32,
    state: Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Not,
    Under(TransferId),
    /// To be asked again.
    Lost(Duration),
    /// Never again.
    Out,
}

/// Whether a holder with which a session has ended is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// After a pause that grows.
    Later,
    Soon,
}

/// How it goes on where nobody is to be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Somebody is under way, or holders are searched.
    Going,
    /// It is waited for those who were lost, or others.
    Starved,
    /// Another content is to be tried.
    Another,
    /// Nothing comes of it.
    Over,
}

/// Nobody delivers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starving {
    since: Duration,
    /// When holders are searched again.
    search_at: Duration,
    searches: u32,
}

impl Download {
    pub fn new(ticket: Ticket, file: String, kind: FileKind, wait: bool) -> Self {
        let (room, serves, offer, offered, root, total, route, way, mode, peer) = Default::default();
        let (through, amount) = Default::default();
        let (search, starving, hurry_at, last, holders) = Default::default();
        let (look_at, looks) = Default::default();
        let (bytes, rate, fixed, told, busy, left_out) = Default::default();
        Self {
            ticket,
            file,
            kind,
            room,
            serves,
            through,
            amount,
            offer,
            offered,
            root,
            fixed,
            total,
            bytes,
            rate,
            told,
            route,
            way,
            mode,
            left_out,
            peer,
            holders,
            search,
            look_at,
            looks,
            wait,
            starving,
            hurry_at,
            last,
            busy,
        }
    }

    /// Adds a holder, or hears of it again.
    pub fn heard_of(&mut self, peer: &FullName, row: Option<&FileRow>) {
        let root = row.and_then(|row| row.root.as_ref().map(|root| **root)).or(self.root.filter(|_| row.is_none()));
        let (size, free) = row.map_or((u64::MAX, true), |row| (row.size, row.free_slots > 0));
        if let Some(known) = self.holders.iter_mut().find(|holder| holder.peer == *peer) {
            (known.root, known.size, known.free) = (root, size, free);
            // It is there, so it need not be waited for.
            if matches!(known.state, Asked::Lost(_)) {
                known.state = Asked::Lost(Duration::ZERO);
            }
        } else if self.holders.len() < HOLDERS_MAX {
            self.holders.push(Holder { peer: peer.clone(), root, size, free, tries: 0, state: Asked::Not });
        }
    }

    /// The holder to be asked now, under this session.
    pub fn ask_next(&mut self, now: Duration, most: usize, transfer: TransferId) -> Option<FullName> {
        let at = self.next_holder(now, most)?;
        let holder = self.holders.get_mut(at)?;
        holder.state = Asked::Under(transfer);
        holder.tries = holder.tries.saturating_add(1);
        // From now on this is the content, unless nobody can deliver it.
        self.root = self.root.or(holder.root);
        let peer = holder.peer.clone();
        self.peer.get_or_insert_with(|| peer.clone());
        self.wait_for_them(now);
        Some(peer)
    }

    /// Those under way have so long before one more is asked; each has longer than the one before.
    pub fn wait_for_them(&mut self, now: Duration) {
        let doublings = u32::try_from(self.under_way()).unwrap_or(u32::MAX).saturating_sub(1).min(HURRY_DOUBLINGS);
        self.hurry_at = Some(now + HURRY * 2_u32.pow(doublings));
    }

    /// Whether somebody is to be asked now.
    pub fn has_next(&self, now: Duration, most: usize) -> bool {
        self.next_holder(now, most).is_some()
    }

    /// What is left to do where nobody is to be asked.
    pub fn outlook(&mut self) -> Outlook {
        if self.under_way() > 0 || self.search.is_some() {
            return Outlook::Going;
        }
        let waits = self.holders.iter().any(|holder| matches!(holder.state, Asked::Lost(_)));
        // Another holder may come, but a lie is told at once.
        let others = self.room.is_some() && self.bytes > 0;
        let lied = self.last.as_ref().is_some_and(|problem| problem.code == "verification");
        if waits || others && !lied {
            return Outlook::Starved;
        }
        let another = self.holders.iter().any(|holder| holder.state == Asked::Not && holder.root != self.root);
        if !self.fixed && another {
            // Nobody delivers this content; somebody has another under the name.
            self.root = None;
            return Outlook::Another;
        }
        Outlook::Over
    }

    /// A session has ended before the file. Returns whether it was one of ours.
    pub fn ended(&mut self, transfer: &TransferId, problem: Problem, again: Again, now: Duration) -> bool {
        let Some(holder) = self.holders.iter_mut().find(|holder| holder.state == Asked::Under(*transfer)) else {
            return false;
        };
        let hopeless = !self.told && holder.tries >= TRIES_BEFORE_START;
        holder.state = match again {
            Again::Never => Asked::Out,
            Again::Later | Again::Soon if hopeless => Asked::Out,
            Again::Later => Asked::Lost(now + pause(holder.tries)),
            Again::Soon => Asked::Lost(now),
        };
        self.busy |= problem.code == "busy";
        self.last = Some(problem);
        true
    }

    /// Whoever was lost is asked at once, if nobody delivers.
    pub fn hasten(&mut self) -> bool {
        let lost = self.holders.iter_mut().filter(|holder| matches!(holder.state, Asked::Lost(_)));
        lost.for_each(|holder| holder.state = Asked::Lost(Duration::ZERO));
        self.starving.is_some()
    }

    /// A lost holder may be there again.
    pub fn is_back(&mut self, peer: &FullName) -> bool {
        let lost = |holder: &&mut Holder| holder.peer == *peer && matches!(holder.state, Asked::Lost(_));
        let Some(holder) = self.holders.iter_mut().find(lost) else { return false };
        holder.state = Asked::Lost(Duration::ZERO);
        true
    }

    /// A holder is not to be asked any more. Returns whether it was waited for.
    pub fn is_gone(&mut self, peer: &FullName, problem: Problem) -> bool {
        let waited = |holder: &&mut Holder| holder.peer == *peer && matches!(holder.state, Asked::Lost(_) | Asked::Not);
        let Some(holder) = self.holders.iter_mut().find(waited) else { return false };
        holder.state = Asked::Out;
        self.last = Some(problem);
        true
    }

    /// Nobody delivers from now on, if it was not so before. Gives what the user is told.
    pub fn starve(&mut self, now: Duration, id: &TransferId) -> event::Transfer {
        let fresh = Starving { since: now, search_at: now + SEARCH_AGAIN, searches: 0 };
        let search_at = self.starving.get_or_insert(fresh).search_at;
        let lost = self.holders.iter().filter_map(|holder| match holder.state {
            Asked::Lost(at) => Some(at),
            _ => None,
        });
        let next = lost.chain(self.room.map(|_| search_at)).min();
        let whom = match self.room {
            Some(_) => "somebody who has it".to_owned(),
            None => self.peer.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let reason = self.last.as_ref().map(|problem| problem.code.clone());
        let kept = if self.bytes > 0 { "; what has come is kept" } else { "" };
        let detail = Some(format!("waiting for {whom}{kept}"));
        let estimate = next.map(|at| at.saturating_sub(now).as_secs());
        event::Transfer { bytes: Some(self.bytes), reason, detail, estimate, ..self.told(id) }
    }

    /// Nobody starves yet and nobody is under way.
    pub fn has_run_dry(&self) -> bool {
        self.starving.is_none() && self.under_way() == 0
    }

    /// It has waited for too long.
    pub fn is_hopeless(&self, now: Duration) -> bool {
        self.starving.is_some_and(|starving| now >= starving.since + GIVE_UP) && self.under_way() == 0
    }

    /// Whether holders are to be searched again now; the next time is later.
    pub fn searches_again(&mut self, now: Duration, most: usize) -> bool {
        if self.has_room_for_more(most) && now >= self.look_at {
            self.looks = self.looks.saturating_add(1);
            self.look_at = self.next_look(now);
            return true;
        }
        let Some(starving) = self.starving.as_mut().filter(|starving| now >= starving.search_at) else { return false };
        if self.search.is_some() {
            return false;
        }
        starving.searches = starving.searches.saturating_add(1);
        starving.search_at = now + SEARCH_AGAIN * 2_u32.saturating_pow(starving.searches.min(4));
        true
    }

    /// Somebody delivers, nobody is looked for, and others who have it would make it faster.
    fn has_room_for_more(&self, most: usize) -> bool {
        let idle = self.room.is_some() && self.search.is_none() && self.starving.is_none();
        idle && self.told && (1..self.places(most)).contains(&self.under_way())
    }

    fn next_look(&self, now: Duration) -> Duration {
        now + LOOK_AGAIN * 2_u32.saturating_pow(self.looks.min(4))
    }

    /// No more answers come to the search for holders.
    pub fn search_ended(&mut self, now: Duration, problem: Option<Problem>) {
        self.search = None;
        self.look_at = self.next_look(now);
        if problem.is_some() {
            self.last = problem;
        }
    }

    /// More has come: whoever delivers is asked again without a pause when it is lost.
    pub fn delivered(&mut self, bytes: u64) {
        if bytes > std::mem::replace(&mut self.bytes, bytes) {
            let under_way = self.holders.iter_mut().filter(|holder| matches!(holder.state, Asked::Under(_)));
            under_way.for_each(|holder| holder.tries = 0);
        }
    }

    fn under_way(&self) -> usize {
        self.holders.iter().filter(|holder| matches!(holder.state, Asked::Under(_))).count()
    }

    /// How many holders may deliver at once: small things are not worth the agreements.
    fn places(&self, most: usize) -> usize {
        let size =
            self.total.or_else(|| self.holders.iter().filter_map(|h| (h.size < u64::MAX).then_some(h.size)).max());
        let worth = size.map_or(1, |size| size / BYTES_PER_SOURCE);
        let worth = usize::try_from(worth).unwrap_or(most).clamp(1, most);
        if self.root.is_none() { 1 } else { worth }
    }

    /// Whom to ask next: the first who answered, those with a free slot before others; the others, in whose lines we would stand, only when
    /// all have answered and nobody delivers, or not fast enough.
    fn next_holder(&self, now: Duration, most: usize) -> Option<usize> {
        let under_way = self.under_way();
        let hurried = under_way > 0 && self.hurry_at.is_some_and(|at| now >= at);
        let places = if hurried { self.places(most).max(under_way + 1).min(most) } else { self.places(most) };
        if under_way >= places {
            return None;
        }
        let fits = |holder: &Holder| self.root.is_none() || holder.root.is_none() || holder.root == self.root;
        let open = |holder: &Holder| match holder.state {
            Asked::Not => true,
            Asked::Lost(at) => at <= now,
            Asked::Under(_) | Asked::Out => false,
        };
        let could = |holder: &&Holder| fits(holder) && open(holder);
        let sure = |holder: &Holder| holder.free && (self.root.is_none() || holder.root.is_some());
        let first = self.holders.iter().position(|holder| could(&holder) && sure(holder));
        let any = || self.holders.iter().position(|holder| could(&holder));
        first.or_else(|| (self.search.is_none() && (under_way == 0 || !self.told || hurried)).then(any).flatten())
    }

    /// When somebody is to be asked again, or it is to be given up.
    pub fn next_timeout(&self, most: usize) -> Option<Duration> {
        let again = self.holders.iter().filter_map(|holder| match holder.state {
            Asked::Lost(at) => self.next_holder(at, most).map(|_| at),
            _ => None,
        });
        let starving = self.starving.iter().flat_map(|starving| {
            let search = (self.room.is_some() && self.search.is_none()).then_some(starving.search_at);
            [(self.under_way() == 0).then_some(starving.since + GIVE_UP), search]
        });
        let hurry = self.hurry_at.filter(|at| self.under_way() > 0 && self.next_holder(*at, most).is_some());
        let look = self.has_room_for_more(most).then_some(self.look_at);
        again.chain(starving.flatten()).chain(hurry).chain(look).min()
    }

    /// As rules see it.
    pub fn item(&self) -> Item<'_> {
        Item { name: &self.file, folder: self.kind == FileKind::Folder, size: self.total, root: self.root.as_ref() }
    }

    pub fn told(&self, id: &TransferId) -> event::Transfer {
        event::Transfer {
            id: id.to_string(),
            direction: "download".into(),
            peer: self.peer.as_ref().map(ToString::to_string).unwrap_or_default(),
            file: shown_name(&self.file, self.kind),
            size: self.total,
            root: self.root.as_ref().map(|root| super::search::hex(root)),
            route: self.route.clone(),
            way: self.way.map(|way| way.word().to_owned()),
            key_agreement: self.mode.clone(),
            left_out: Some(self.left_out).filter(|n| *n > 0),
            offer: self.offer.map(|offer| offer.to_string()),
            ..event::Transfer::default()
        }
    }
}

impl Download {
    /// Why nothing comes of it.
    pub fn failure(&self, id: &TransferId) -> Problem {
        let none = || Problem::new("not_found", NOT_FOUND, format!("nobody has {}", shown_name(&self.file, self.kind)));
        let problem = if self.busy && !self.told {
            let whom = if self.holders.len() > 1 { "all who have it are busy" } else { "the peer is busy" };
            Problem::new("busy", PEER_REFUSED, whom).hint("try again in a while")
        } else {
            self.last.clone().unwrap_or_else(none)
        };
        if problem.code == "restricted" {
            return problem;
        }
        let is_missing = matches!(problem.code.as_str(), "not_shared" | "not_found") && problem.hint.is_none();
        if is_missing && self.kind == FileKind::File {
            return problem.hint(format!("a folder is written with a slash: {}/", self.file));
        }
        if self.told && self.bytes > 0 {
            // It was found and ran, so what a script hears is that it failed.
            let exit = if problem.exit == UNVERIFIED { UNVERIFIED } else { FAILED };
            let problem = Problem { exit, ..problem };
            if problem.code == "changed" {
                return problem.hint("the same getfile fetches what it is now, from its beginning");
            }
            return problem.hint(format!("what has come is kept: the same getfile again goes on from there ({id})"));
        }
        problem
    }
}

/// How long a holder that was asked so often is left alone.
fn pause(tries: u32) -> Duration {
    match tries {
        0 => PAUSE_MIN,
        tries => Duration::from_secs(1 << tries.min(6)).min(PAUSE_MAX),
    }
}

/// Holders that one download knows.
const HOLDERS_MAX: usize = 64;
/// A source more for each so many bytes.
const BYTES_PER_SOURCE: u64 = 1 << 20;
/// How long a holder has before another is asked beside it, and how often this doubles for those after it.
const HURRY: Duration = Duration::from_secs(2);
const HURRY_DOUBLINGS: u32 = 8;
/// Attempts at a holder while nothing has ever come of the download.
const TRIES_BEFORE_START: u32 = 2;
/// Nobody is asked less often than this while a download waits.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Who has just delivered is asked again at once, nearly.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// How long after the last source holders are searched again; later ones are twice as far apart, up to sixteen times.
const SEARCH_AGAIN: Duration = Duration::from_secs(5);
/// How long after a search others are looked for while it comes; later ones are twice as far apart, up to sixteen times.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// How long nobody may deliver.
const GIVE_UP: Duration = Duration::from_secs(600);
