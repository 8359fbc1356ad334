//! Files between two, as the core sees them: downloads with their sources, uploads with their line, and what the file side tells.

use super::core::Core;
use super::download::{Again, Download};
use super::effects::{Effect, FilesCommand, FilesEvent, LostReason, ShareCommand};
use super::event::{self, Event};
use super::offers::Offers;
use super::problem::{FAILED, NOT_FOUND, Problem, REFUSED, UNVERIFIED};
use super::refusing::by_their_rule;
use super::relaying::Relaying;
use super::upload::Upload;
use super::ways::Ways;
use crate::crypto::agreement::Requester;
use crate::crypto::rsa_split::{PathPart, SplitKey};
use crate::transfer::queue::Queue;
use crate::wire::frame::ToServer;
use crate::wire::id::{Id, RoomId, TransferId};
use crate::wire::leg::LinkData;
use crate::wire::name::FullName;
use crate::wire::payload::{Arq, Body, FileKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Transfers {
    pub downloads: BTreeMap<TransferId, Download>,
    pub sources: BTreeMap<TransferId, Source>,
    pub uploads: BTreeMap<TransferId, Upload>,
    pub queue: Queue<FullName>,
    pub offers: Offers,
    /// Roots of folders of which the user knows what is left out.
    pub left_out: VecDeque<[u8; 32]>,
    shares: VecDeque<(u64, &'static str)>,
    /// Sessions that may run over a server.
    pub relays: BTreeMap<TransferId, Relaying>,
    pub ways: Ways,
    /// Who was seen to restart a moment ago.
    restarts: Vec<Restart>,
}

impl Transfers {
    /// Something moves, or is to.
    pub fn is_busy(&self) -> bool {
        !self.downloads.is_empty() || !self.uploads.is_empty()
    }
}

/// Somebody's process has started anew, and enters its rooms one after the other.
#[derive(Debug)]
struct Restart {
    peer: FullName,
    at: Duration,
    rooms: Vec<RoomId>,
}

/// A session of a download with one holder.
#[derive(Debug)]
pub(super) struct Source {
    pub download: TransferId,
    pub peer: FullName,
    pub stage: Stage,
    /// Of every stage but the last.
    pub deadline: Duration,
    /// No word of the holder moves the deadline beyond this.
    pub until: Duration,
    /// As far as the user has heard what it waits for: each word counts for a while.
    pub told: Duration,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The file side gathers candidates.
    Preparing,
    /// A split RSA key is made.
    MakingKey(Box<Terms>),
    /// The request is on its way, or stands in line.
    Asked(Box<Asked>),
    /// The channel runs.
    Running,
}

/// Our side of a channel.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub connection: [u8; 8],
    pub candidates: Vec<SocketAddr>,
    pub arq: Arq,
    pub window: Option<u32>,
    pub max_datagram: usize,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub requester: Requester,
    pub terms: Terms,
    pub split: Option<(SplitKey, PathPart)>,
    /// Where it stands in the holder's line, once that has said so.
    pub queued: Option<u32>,
    /// Only this content was asked for.
    pub root: Option<[u8; 32]>,
}

impl Source {
    /// The holder lets us wait. Returns whether the user is to hear of it now: once a second is enough, but for the
    /// first few.
    pub fn put_off(&mut self, now: Duration, by: Duration) -> bool {
        self.deadline = (now + by).min(self.until);
        let due = self.told <= now + TOLD_AGAIN * TOLD_AT_ONCE;
        if due {
            self.told = self.told.max(now) + TOLD_AGAIN;
        }
        due
    }
}

impl Transfers {
    pub fn new(slots: u32) -> Self {
        Self {
            downloads: BTreeMap::new(),
            sources: BTreeMap::new(),
            uploads: BTreeMap::new(),
            queue: Queue::new(slots),
            offers: Offers::new(),
            left_out: VecDeque::new(),
            shares: VecDeque::new(),
            relays: BTreeMap::new(),
            ways: Ways::default(),
            restarts: Vec::new(),
        }
    }

    pub fn any(&self) -> bool {
        !self.downloads.is_empty() || self.uploads.values().any(|upload| !upload.waits()) || !self.shares.is_empty()
    }

    /// What a download does now, and its place in a line.
    fn download_state(&self, id: &TransferId, download: &Download) -> (&'static str, Option<u32>) {
        let sources = || self.sources.values().filter(|source| source.download == *id);
        let place = sources().filter_map(|source| match &source.stage {
            Stage::Asked(asked) => asked.queued,
            Stage::Preparing | Stage::MakingKey(_) | Stage::Running => None,
        });
        if sources().any(|source| matches!(source.stage, Stage::Running)) {
            return ("running", None);
        }
        match place.min() {
            Some(place) => ("queued", Some(place)),
            None if sources().next().is_some() => ("preparing", None),
            None if download.search.is_some() => ("searching", None),
            None => ("waiting", None),
        }
    }

    pub fn share_asked(&mut self, number: u64, share: &ShareCommand) {
        let name = match share {
            ShareCommand::Set(_) => "setshare",
            ShareCommand::Clear(_) => "clrshare",
            ShareCommand::Global(true) => "setglobalshare",
            ShareCommand::Global(false) => "clrglobalshare",
            ShareCommand::Status => "getsharestatus",
        };
        self.shares.push_back((number, name));
    }

    pub fn share_answered(&mut self) -> Option<(u64, &'static str)> {
        self.shares.pop_front()
    }

    pub fn next_timeout(&self, most: usize) -> Option<Duration> {
        let sources = self.sources.values().filter(|source| !matches!(source.stage, Stage::Running));
        let sources = sources.map(|source| source.deadline);
        let downloads = self.downloads.values().filter_map(|download| download.next_timeout(most));
        let uploads = self.uploads.iter().filter_map(|(id, upload)| {
            let turn = self.queue.claim(*id).and_then(|claim| upload.turn_ends(claim));
            upload.next_timeout().into_iter().chain(turn).min()
        });
        let others = [self.queue.next_timeout(), self.offers.next_timeout()].into_iter().flatten();
        let relays = self.relays.values().filter_map(Relaying::next_timeout);
        sources.chain(downloads).chain(uploads).chain(others).chain(relays).min()
    }
}

impl Core {
    pub(super) fn files(&mut self, event: FilesEvent) {
        match event {
            FilesEvent::Found { search, asker, rows, more } => self.found(search, &asker, rows, more),
            FilesEvent::Measured { transfer, result } => self.measured(transfer, result),
            FilesEvent::UploadReady { transfer, result } => self.upload_ready(transfer, result),
            FilesEvent::DownloadReady { transfer, connection, candidates, window, max_datagram } => {
                let arq = self.config.files.arq;
                self.source_ready(transfer, Terms { connection, candidates, arq, window, max_datagram });
            }
            FilesEvent::OfferReady { offer, result } => self.offer_ready(offer, result),
            FilesEvent::RelayOut { server, data } => {
                // The server that the link leads to has the leg, or knows the way to it.
                let server = (!self.is_access(&server)).then_some(server);
                self.effect(Effect::Send(ToServer::RelayData(LinkData { server, ..data })));
            }
            FilesEvent::Restricted { transfer, detail } => self.restricted(&transfer, detail),
            FilesEvent::Listed { download, entries, bytes } => self.listed(&download, entries, bytes),
            FilesEvent::Shares { global, files, missing } => self.shares(global, files, missing),
            FilesEvent::Hashing { transfer, bytes, total } => self.hashing(transfer, bytes, total),
            FilesEvent::Rerouted { transfer, route } => self.rerouted(&transfer, route),
            FilesEvent::Silent { transfer } => self.relay_wanted(&transfer),
            FilesEvent::Started { transfer, route } if self.transfers.uploads.contains_key(&transfer) => {
                self.upload_started(&transfer, route);
            }
            FilesEvent::Started { transfer, route } => self.source_started(&transfer, route),
            FilesEvent::Progress { transfer, bytes, total, rate, sources } => {
                self.progress(&transfer, (bytes, rate), total, sources);
            }
            FilesEvent::SourceLost { transfer, reason, detail, .. } => {
                if reason == LostReason::NoPath {
                    self.transfers.ways.lost(&transfer);
                }
                self.source_lost(&transfer, reason, detail);
            }
            FilesEvent::Starved { download } => self.starved(&download),
            FilesEvent::Done { transfer, bytes, seconds, path } => self.transfer_done(&transfer, bytes, seconds, path),
            FilesEvent::Failed { transfer, reason, detail } => {
                if reason == "no_path" {
                    self.transfers.ways.lost(&transfer);
                }
                self.transfer_failed(&transfer, &reason, detail);
            }
        }
    }

    fn hashing(&mut self, transfer: TransferId, bytes: u64, total: u64) {
        let (ticket, told) = if let Some(upload) = self.transfers.uploads.get(&transfer) {
            (self.upload_ticket(upload), upload.told(&transfer))
        } else if let Some(download) = self.transfers.downloads.get(&transfer) {
            (download.ticket, download.told(&transfer))
        } else if let Some(offer) = self.transfers.offers.made.get(&transfer) {
            (offer.ticket, offer.told(&transfer))
        } else {
            return;
        };
        self.tell(ticket, Event::Hashing(event::Transfer { bytes: Some(bytes), size: Some(total), ..told }));
        self.tell_asker_of_hashing(&transfer, bytes, total);
    }

    fn progress(&mut self, id: &TransferId, (bytes, rate): (u64, u64), total: u64, sources: u32) {
        let floor = self.floor();
        let (ticket, told) = if let Some(download) = self.transfers.downloads.get_mut(id) {
            download.delivered(bytes);
            (download.rate, download.total) = (rate, Some(total));
            (download.ticket, event::Transfer { sources: Some(sources), ..download.told(id) })
        } else if let Some(upload) = self.transfers.uploads.get_mut(id) {
            upload.size = Some(total);
            upload.delivers(self.now, bytes, rate, floor);
            let ticket = upload.offer.and_then(|offer| self.transfers.offers.ticket(&offer));
            (ticket, event::Transfer { sources: Some(sources), ..upload.told(id) })
        } else {
            return;
        };
        let (bytes, rate) = (Some(bytes), Some(rate));
        self.tell(ticket, Event::TransferProgress(event::Transfer { bytes, rate, ..told }));
    }

    fn transfer_done(&mut self, id: &TransferId, bytes: u64, seconds: f64, path: Option<String>) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "shown"
        )]
        let rate = if seconds > 0.0 { (bytes as f64 / seconds) as u64 } else { 0 };
        let (bytes, rate, seconds) = (Some(bytes), Some(rate), Some(seconds));
        let done = |told| Event::TransferDone(event::Transfer { bytes, rate, seconds, path: path.clone(), ..told });
        if let Some(download) = self.forget_download(id) {
            self.tell(download.ticket, done(download.told(id)));
            return self.done(download.ticket, 0);
        }
        let Some(upload) = self.forget_upload(id) else { return };
        self.tell(self.upload_ticket(&upload), done(upload.told(id)));
        upload.offer.iter().for_each(|offer| self.offer_taken(offer));
    }

    fn transfer_failed(&mut self, id: &TransferId, reason: &str, detail: String) {
        let exit = match reason {
            "verification" | "key_agreement" => UNVERIFIED,
            "restricted" => REFUSED,
            _ => FAILED,
        };
        let told = Some(detail.clone()).filter(|_| matches!(reason, "changed" | "disk" | "restricted"));
        let mut problem = Problem::new(reason, exit, detail);
        if reason == "disk" {
            problem =
                problem.hint("look at its space and permissions, or name another: --downloads, of fetch --output");
        }
        if self.transfers.downloads.contains_key(id) {
            return self.end_download(id, problem);
        }
        if self.transfers.sources.contains_key(id) {
            return self.source_ended(id, problem, Again::Later);
        }
        let Some(upload) = self.forget_upload(id) else { return };
        let by_them = reason == "restricted";
        let offer = upload.offer.filter(|_| by_them);
        let told = if by_them { Some(by_their_rule(&upload.peer, told).message) } else { told };
        let reason = Some(reason.to_owned());
        let told = event::Transfer { reason, detail: told, bytes: Some(upload.bytes), ..upload.told(id) };
        self.tell(self.upload_ticket(&upload), Event::TransferFailed(told));
        self.offer_restricted(offer);
    }

    /// Forgets a session with a holder. One that runs ends with its download; one that does not yet is ended here.
    pub(super) fn drop_source(&mut self, transfer: &TransferId) {
        let Some(source) = self.transfers.sources.remove(transfer) else { return };
        if matches!(source.stage, Stage::Running) {
            return;
        }
        let reason = "not wanted any more".to_owned();
        self.tell_files(FilesCommand::Drop { transfer: *transfer, reason });
        if matches!(source.stage, Stage::Asked(_)) {
            // If it cannot be told, its own deadlines tell.
            let _ = self.send_direct(&source.peer, Body::FileGivenUp { transfer: *transfer, detail: None }, None);
        }
    }

    /// Somebody's process has started anew, as far as one can tell: what ran with the old one has ended, and what was lost is asked for again.
    /// It was seen in this room.
    pub(super) fn peer_restarted(&mut self, peer: &FullName, room: RoomId) {
        let now = self.now;
        let seen = &mut self.transfers.restarts;
        seen.retain(|restart| now < restart.at + SETTLING);
        if let Some(known) = seen.iter_mut().find(|restart| restart.peer == *peer && !restart.rooms.contains(&room)) {
            // Each restart enters a room once.
            known.rooms.push(room);
            return;
        }
        seen.retain(|restart| restart.peer != *peer);
        seen.push(Restart { peer: peer.clone(), at: now, rooms: vec![room] });
        let of_old = |source: &Source| match &source.stage {
            Stage::Running => true,
            Stage::Asked(asked) => asked.queued.is_some(),
            Stage::Preparing | Stage::MakingKey(_) => false,
        };
        let theirs = self.transfers.sources.iter().filter(|(_, source)| source.peer == *peer && of_old(source));
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tell_files(FilesCommand::Drop { transfer: id, reason: "the client has started anew".into() });
            self.source_ended(
                &id,
                Problem::new("peer_closed", FAILED, format!("{peer} has started anew")),
                Again::Soon,
            );
        }
        let uploads = self.transfers.uploads.iter().filter(|(_, upload)| upload.peer == *peer);
        for id in uploads.map(|(id, _)| *id).collect::<Vec<_>>() {
            // Should it live after all, it may ask again.
            self.cancel_files(id, true);
            let Some(upload) = self.forget_upload(&id) else { continue };
            let reason = Some("peer_closed".to_owned());
            let told = event::Transfer { reason, bytes: Some(upload.bytes), ..upload.told(&id) };
            self.tell(self.upload_ticket(&upload), Event::TransferFailed(told));
        }
        self.resume_downloads_from(peer);
    }

    pub(super) fn cancel_files(&mut self, transfer: TransferId, keep: bool) {
        self.tell_files(FilesCommand::Cancel { transfer, reason: "cancelled".into(), keep });
    }

    /// `@me transfers`.
    pub(super) fn show_transfers(&mut self, number: u64) -> Result<(), Problem> {
        let transfers = &self.transfers;
        let downloads =
            transfers.downloads.iter().map(|(id, d)| (d.told(id), d.bytes, d.rate, transfers.download_state(id, d)));
        let uploads = transfers.uploads.iter().map(|(id, u)| (u.told(id), u.bytes, u.rate(self.now), u.state()));
        let rows: Vec<_> = downloads.chain(uploads).collect();
        for (told, bytes, rate, (state, place)) in rows {
            let (bytes, rate, state) = (Some(bytes), Some(rate), Some(state.to_owned()));
            self.tell(Some(number), Event::TransferProgress(event::Transfer { bytes, rate, state, place, ..told }));
        }
        let offers: Vec<_> = self.transfers.offers.all().collect();
        offers.into_iter().for_each(|told| self.tell(Some(number), Event::TransferOffered(told)));
        self.ok(number, "transfers");
        Ok(())
    }

    /// `@me cancel ID`; the beginning of the id will do, and so will the file's name.
    pub(super) fn cancel(&mut self, number: u64, text: &str) -> Result<(), Problem> {
        let transfers = &self.transfers;
        let downloads = transfers.downloads.iter().map(|(id, d)| (*id, shown_name(&d.file, d.kind)));
        let uploads = transfers.uploads.iter().map(|(id, u)| (*id, shown_name(&u.file, u.kind)));
        let offers = transfers.offers.made.iter().map(|(id, o)| (*id, o.told(id).file));
        let all: Vec<(Id, String)> = downloads.chain(uploads).chain(offers).collect();
        let by_id: Vec<Id> = all.iter().map(|(id, _)| *id).filter(|id| id.to_string().starts_with(text)).collect();
        let is_named = |name: &str| name == text || name.strip_suffix('/') == Some(text);
        let by_name = || all.iter().filter(|(_, name)| is_named(name)).map(|(id, _)| *id).collect();
        let fits: Vec<Id> = if by_id.is_empty() { by_name() } else { by_id };
        let hint = "@me transfers shows their ids";
        match fits.as_slice() {
            [id] => self.cancel_one(id, false),
            [] => return Err(Problem::new("not_found", NOT_FOUND, "no transfer has this id or name").hint(hint)),
            _ => return Err(Problem::new("not_found", NOT_FOUND, "several transfers fit").hint(hint)),
        }
        self.ok(number, "cancel");
        Ok(())
    }

    fn cancel_one(&mut self, id: &TransferId, keep: bool) {
        self.cancel_files(*id, keep);
        let reason = Some("cancelled".to_owned());
        if let Some(download) = self.forget_download(id) {
            let told = event::Transfer { reason, bytes: Some(download.bytes), ..download.told(id) };
            self.tell(download.ticket, Event::TransferFailed(told));
            return self.done(download.ticket, FAILED);
        }
        if let Some(upload) = self.forget_upload(id) {
            self.refuse_unless_running(id, &upload);
            let told = event::Transfer { reason, bytes: Some(upload.bytes), ..upload.told(id) };
            return self.tell(self.upload_ticket(&upload), Event::TransferFailed(told));
        }
        self.withdraw_offer(id);
    }

    /// Cancels what these commands fetch or offer.
    pub(super) fn cancel_transfers_of(&mut self, numbers: &BTreeSet<u64>) {
        let theirs = |ticket: Option<u64>| ticket.is_some_and(|number| numbers.contains(&number));
        let downloads = self.transfers.downloads.iter().filter(|(_, d)| theirs(d.ticket)).map(|(id, _)| *id);
        let offers = self.transfers.offers.made.iter().filter(|(_, o)| theirs(o.ticket)).map(|(id, _)| *id);
        let ids: Vec<Id> = downloads.chain(offers).collect();
        ids.iter().for_each(|id| self.cancel_one(id, true));
    }

    pub(super) fn cancel_transfers(&mut self) {
        let ids = self.transfers.downloads.keys().chain(self.transfers.uploads.keys());
        let ids: Vec<Id> = ids.chain(self.transfers.offers.made.keys()).copied().collect();
        ids.iter().for_each(|id| self.cancel_one(id, true));
    }

    pub(super) fn transfers_timeouts(&mut self) {
        let late = |s: &Source| self.now >= s.deadline && !matches!(s.stage, Stage::Running);
        let late: Vec<Id> = self.transfers.sources.iter().filter(|(_, s)| late(s)).map(|(id, _)| *id).collect();
        for id in late {
            let who = self.transfers.sources.get(&id).map(|s| s.peer.to_string()).unwrap_or_default();
            self.request_failed(&id, Problem::timeout(&who));
        }
        self.relays_timeouts();
        self.uploads_timeouts();
        self.offers_timeouts();
        self.downloads_timeouts();
    }
}

/// A folder's name has a slash behind it.
pub(super) fn shown_name(file: &str, kind: FileKind) -> String {
    match kind {
        FileKind::File => file.to_owned(),
        FileKind::Folder => format!("{file}/"),
    }
}

/// From the wish for a file to an answer of any kind.
pub(super) const AGREEMENT_DEADLINE: Duration = Duration::from_secs(60);
/// How often the user hears of one holder that it is waited for.
const TOLD_AGAIN: Duration = Duration::from_secs(1);
const TOLD_AT_ONCE: u32 = 4;
/// Whoever restarts enters one room after the other: that is one restart.
const SETTLING: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;
    use crate::wire::name::Name;

    #[test]
    fn whoever_lets_us_wait_says_so_to_the_user_once_a_second_and_not_for_ever() {
        let name = Name::parse("mallory").unwrap();
        let (until, told) = (Duration::from_secs(100), Duration::ZERO);
        let peer = FullName::new(name.clone(), name);
        let stage = Stage::Preparing;
        let mut source = Source { download: Id([1; 16]), peer, stage, deadline: Duration::ZERO, until, told };
        let times = (0..10_000).map(|n| Duration::from_secs(20) + Duration::from_millis(n));
        let heard = times.filter(|now| source.put_off(*now, Duration::from_secs(60))).count();
        assert!((10..=15).contains(&heard), "{heard}");
        assert!(source.put_off(Duration::from_secs(90), Duration::from_secs(60)));
        assert_eq!(source.deadline, until);
    }
}
