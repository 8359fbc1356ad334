//! What we want: one file or folder each, from one holder or from all who have the same content.
//!
//! A download asks its holders until enough of them deliver. Who is lost is asked again after a while; who lied never. When nobody delivers
//! it waits, with what has come kept on the disk, asks again and searches again, and gives up in the end.

use super::core::{Core, Ticket};
use super::effects::{FilesCommand, LostReason};
use super::event::{self, Event};
use super::problem::{FAILED, NOT_FOUND, PEER_REFUSED, Problem, UNVERIFIED};
use super::transfers::{Source, Stage, shown_name};
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
    /// The offer that it accepts.
    pub offer: Option<OfferId>,
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
    pub mode: Option<String>,
    /// Whom it came from first, or is asked of.
    pub peer: Option<FullName>,
    pub holders: Vec<Holder>,
    pub search: Option<SearchId>,
    /// Whether to stand in line for a slot.
    pub wait: bool,
    pub starving: Option<Starving>,
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
        let (room, offer, root, total, route, mode, peer) = Default::default();
        let (search, starving, last, holders) = Default::default();
        let (bytes, rate, fixed, told, busy) = Default::default();
        Self {
            ticket,
            file,
            kind,
            room,
            offer,
            root,
            fixed,
            total,
            bytes,
            rate,
            told,
            route,
            mode,
            peer,
            holders,
            search,
            wait,
            starving,
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

    /// No more answers come to the search for holders.
    pub fn search_ended(&mut self, problem: Option<Problem>) {
        self.search = None;
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

    /// Whom to ask next: the first who answered, those with a free slot before others; the others only when all have answered and nobody
    /// delivers.
    fn next_holder(&self, now: Duration, most: usize) -> Option<usize> {
        let under_way = self.under_way();
        if under_way >= self.places(most) {
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
        first.or_else(|| (self.search.is_none() && under_way == 0).then(any).flatten())
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
        again.chain(starving.flatten()).min()
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
            key_agreement: self.mode.clone(),
            ..event::Transfer::default()
        }
    }
}

impl Core {
    /// `@NAME getfile FILE`.
    pub(super) fn get_from(
        &mut self,
        number: u64,
        peer: &FullName,
        file: String,
        kind: FileKind,
        wait: bool,
    ) -> Result<(), Problem> {
        if self.peers.is_changed(peer) {
            return Err(super::dispatch::key_changed(peer));
        }
        let mut download = Download::new(Some(number), file, kind, wait);
        download.heard_of(peer, None);
        self.begin_download(download);
        Ok(())
    }

    pub(super) fn begin_download(&mut self, download: Download) -> TransferId {
        let id = self.new_id();
        self.transfers.downloads.insert(id, download);
        self.advance(&id);
        id
    }

    /// Asks whoever is to be asked now, and sees whether that is nobody at all.
    pub(super) fn advance(&mut self, id: &TransferId) {
        let (now, most) = (self.now, self.sources_max());
        while let Some(download) = self.transfers.downloads.get_mut(id) {
            let Some(at) = download.next_holder(now, most) else { break };
            let transfer = self.new_id();
            let Some(download) = self.transfers.downloads.get_mut(id) else { break };
            let Some(holder) = download.holders.get_mut(at) else { break };
            holder.state = Asked::Under(transfer);
            holder.tries = holder.tries.saturating_add(1);
            let peer = holder.peer.clone();
            download.peer.get_or_insert_with(|| peer.clone());
            let deadline = now + super::transfers::AGREEMENT_DEADLINE;
            let source = Source { download: *id, peer, stage: Stage::Preparing, deadline };
            self.transfers.sources.insert(transfer, source);
            self.tell_files(FilesCommand::PrepareDownload { transfer });
        }
        self.see_whether_stuck(id);
    }

    fn see_whether_stuck(&mut self, id: &TransferId) {
        let Some(download) = self.transfers.downloads.get_mut(id) else { return };
        if download.under_way() > 0 || download.search.is_some() {
            return;
        }
        let waits = download.holders.iter().any(|holder| matches!(holder.state, Asked::Lost(_)));
        // Another holder may come, but a lie is told at once.
        let others = download.room.is_some() && download.bytes > 0;
        let lied = download.last.as_ref().is_some_and(|problem| problem.code == "verification");
        if waits || others && !lied {
            return self.starve(id);
        }
        let another = download.holders.iter().any(|h| h.state == Asked::Not && h.root != download.root);
        if !download.fixed && another {
            // Nobody delivers this content; somebody has another under the name.
            download.root = None;
            return self.advance(id);
        }
        let problem = download.failure(&id.to_string());
        self.fail_download(id, problem);
    }

    /// Nobody delivers: from now on it is waited for, and said so.
    pub(super) fn starve(&mut self, id: &TransferId) {
        let Some(download) = self.transfers.downloads.get_mut(id) else { return };
        if download.under_way() > 0 || download.starving.is_some() {
            return;
        }
        let search_at = self.now + SEARCH_AGAIN;
        download.starving = Some(Starving { since: self.now, search_at, searches: 0 });
        let whom = match download.room {
            Some(_) => "somebody who has it".to_owned(),
            None => download.peer.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let reason = download.last.as_ref().map(|problem| problem.code.clone());
        let detail = Some(format!("waiting for {whom}; what has come is kept"));
        let told = event::Transfer { bytes: Some(download.bytes), reason, detail, ..download.told(id) };
        self.tell_of(id, Event::TransferWaiting(told));
    }

    /// A session with a holder has ended before the file: the holder is asked again, or not.
    pub(super) fn source_ended(&mut self, transfer: &TransferId, problem: Problem, again: Again) {
        let Some(source) = self.transfers.sources.remove(transfer) else { return };
        let id = source.download;
        let now = self.now;
        let Some(download) = self.transfers.downloads.get_mut(&id) else { return };
        let Some(holder) = download.holders.iter_mut().find(|h| h.state == Asked::Under(*transfer)) else { return };
        let hopeless = !download.told && holder.tries >= TRIES_BEFORE_START;
        holder.state = match again {
            Again::Never => Asked::Out,
            Again::Later | Again::Soon if hopeless => Asked::Out,
            Again::Later => Asked::Lost(now + pause(holder.tries)),
            Again::Soon => Asked::Lost(now),
        };
        download.busy |= problem.code == "busy";
        download.last = Some(problem);
        self.advance(&id);
    }

    /// The file side has lost a source.
    pub(super) fn source_lost(&mut self, transfer: &TransferId, reason: LostReason, detail: String) {
        let Some(source) = self.transfers.sources.get(transfer) else { return };
        let (id, peer) = (source.download, source.peer.clone());
        let problem = problem_of(reason, &peer, &detail);
        let Some(download) = self.transfers.downloads.get_mut(&id) else { return };
        let (peer, reason_word) = (peer.to_string(), Some(word(reason).to_owned()));
        let told = event::Transfer { peer, reason: reason_word, detail: Some(detail), ..download.told(&id) };
        self.tell_of(&id, Event::SourceLost(told));
        let again = match reason {
            LostReason::Lied | LostReason::KeyAgreement | LostReason::Changed => Again::Never,
            LostReason::Stalled | LostReason::Left | LostReason::NoPath => Again::Later,
            // A new agreement is all that it takes.
            LostReason::PathShrunk => Again::Soon,
        };
        self.source_ended(transfer, problem, again);
    }

    /// A source delivers.
    pub(super) fn source_started(&mut self, transfer: &TransferId, route: String) {
        let Some(source) = self.transfers.sources.get_mut(transfer) else { return };
        source.stage = Stage::Running;
        let (id, peer) = (source.download, source.peer.clone());
        let Some(download) = self.transfers.downloads.get_mut(&id) else { return };
        download.starving = None;
        let first = !std::mem::replace(&mut download.told, true);
        if first {
            (download.route, download.peer) = (Some(route), Some(peer));
            let told = download.told(&id);
            return self.tell_of(&id, Event::TransferStarted(told));
        }
        let told = event::Transfer { peer: peer.to_string(), route: Some(route), ..download.told(&id) };
        self.tell_of(&id, Event::SourceAdded(told));
    }

    /// Ends a download of which no more comes. What has come stays on the disk.
    pub(super) fn fail_download(&mut self, id: &TransferId, problem: Problem) {
        self.cancel_files(*id, true);
        self.end_download(id, problem);
    }

    /// The same, where the file side has ended it.
    pub(super) fn end_download(&mut self, id: &TransferId, problem: Problem) {
        let Some(download) = self.forget_download(id) else { return };
        if download.told {
            let reason = Some(problem.code.clone());
            let told = event::Transfer { reason, bytes: Some(download.bytes), ..download.told(id) };
            self.tell(download.ticket, Event::TransferFailed(told));
        }
        self.fail(download.ticket, problem);
    }

    /// Takes a download out, with its sessions and its search; holders who do not hear it over a channel are told.
    pub(super) fn forget_download(&mut self, id: &TransferId) -> Option<Download> {
        let download = self.transfers.downloads.remove(id)?;
        let theirs = self.transfers.sources.iter().filter(|(_, source)| source.download == *id);
        let theirs: Vec<TransferId> = theirs.map(|(transfer, _)| *transfer).collect();
        for transfer in theirs {
            self.drop_source(&transfer);
        }
        download.search.iter().for_each(|search| self.searches.forget(search));
        Some(download)
    }

    pub(super) fn downloads_timeouts(&mut self) {
        let now = self.now;
        let ids: Vec<TransferId> = self.transfers.downloads.keys().copied().collect();
        for id in ids {
            let Some(download) = self.transfers.downloads.get_mut(&id) else { continue };
            if let Some(starving) = download.starving {
                if now >= starving.since + GIVE_UP && download.under_way() == 0 {
                    let problem = download.failure(&id.to_string());
                    self.fail_download(&id, problem);
                    continue;
                }
                if now >= starving.search_at && download.search.is_none() {
                    self.search_anew(&id);
                }
            }
            let most = self.sources_max();
            if self.transfers.downloads.get(&id).is_some_and(|d| d.next_holder(now, most).is_some()) {
                self.advance(&id);
            }
        }
    }

    /// The link is back, or somebody is: whoever was lost is asked at once.
    pub(super) fn resume_downloads(&mut self) {
        let ids: Vec<TransferId> = self.transfers.downloads.keys().copied().collect();
        for id in ids {
            let Some(download) = self.transfers.downloads.get_mut(&id).filter(|d| d.starving.is_some()) else {
                continue;
            };
            let lost = download.holders.iter_mut().filter(|holder| matches!(holder.state, Asked::Lost(_)));
            lost.for_each(|holder| holder.state = Asked::Lost(Duration::ZERO));
            self.advance(&id);
        }
    }

    fn search_anew(&mut self, id: &TransferId) {
        let Some(download) = self.transfers.downloads.get_mut(id) else { return };
        let Some(starving) = &mut download.starving else { return };
        starving.searches = starving.searches.saturating_add(1);
        starving.search_at = self.now + SEARCH_AGAIN * 2_u32.saturating_pow(starving.searches.min(4));
        let Some(room) = download.room else { return };
        let (ticket, file) = (download.ticket, download.file.clone());
        // Without the room there is nobody to ask; those known are.
        if let Ok(search) = self.search_holders(ticket, room, &file, *id)
            && let Some(download) = self.transfers.downloads.get_mut(id)
        {
            download.search = Some(search);
        }
    }

    pub(super) fn tell_of(&mut self, id: &TransferId, event: Event) {
        let ticket = self.transfers.downloads.get(id).and_then(|download| download.ticket);
        self.tell(ticket, event);
    }
}

impl Download {
    /// Why nothing comes of it.
    fn failure(&self, id: &str) -> Problem {
        let none = || Problem::new("not_found", NOT_FOUND, format!("nobody has {}", shown_name(&self.file, self.kind)));
        let problem = if self.busy && !self.told {
            let whom = if self.holders.len() > 1 { "all who have it are busy" } else { "the peer is busy" };
            Problem::new("busy", PEER_REFUSED, whom).hint("try again in a while")
        } else {
            self.last.clone().unwrap_or_else(none)
        };
        if self.told && self.bytes > 0 {
            return problem.hint(format!("what has come is kept: the same getfile again goes on from there ({id})"));
        }
        problem
    }
}

fn problem_of(reason: LostReason, peer: &FullName, detail: &str) -> Problem {
    match reason {
        LostReason::Lied => {
            Problem::new("verification", UNVERIFIED, format!("{peer} sent what does not belong to the file: {detail}"))
        }
        LostReason::KeyAgreement => {
            Problem::new("key_agreement", UNVERIFIED, format!("the agreement on keys with {peer} failed: {detail}"))
        }
        _ => Problem::new(code(reason), FAILED, format!("{peer}: {detail}")),
    }
}

/// The word of `transfer_failed.reason`.
const fn code(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Lied => "verification",
        LostReason::Stalled => "timeout",
        LostReason::Left => "peer_closed",
        LostReason::Changed => "changed",
        LostReason::PathShrunk | LostReason::NoPath => "no_path",
        LostReason::KeyAgreement => "key_agreement",
    }
}

/// The word of `source_lost.reason`.
const fn word(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Lied => "lied",
        LostReason::Stalled => "stalled",
        LostReason::Left => "left",
        LostReason::Changed => "changed",
        LostReason::PathShrunk => "path_shrunk",
        LostReason::NoPath => "no_path",
        LostReason::KeyAgreement => "key_agreement",
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
/// Attempts at a holder while nothing has ever come of the download.
const TRIES_BEFORE_START: u32 = 2;
/// Who has just delivered is asked again at once, nearly.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Nobody is asked less often than this while a download waits.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long after the last source holders are searched again; later ones are twice as far apart, up to sixteen times.
const SEARCH_AGAIN: Duration = Duration::from_secs(5);
/// How long nobody may deliver.
const GIVE_UP: Duration = Duration::from_secs(600);
