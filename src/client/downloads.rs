//! What we want: one file or folder each, from one holder or from all who have the same content.
//!
//! A download asks its holders until enough of them deliver. Who is lost is asked again after a while; who lied never. When nobody delivers
//! it waits, with what has come kept on the disk, asks again and searches again, and gives up in the end.

use super::core::Core;
use super::download::{Again, Download, Outlook};
use super::effects::{FilesCommand, LostReason};
use super::event::{self, Event};
use super::problem::{FAILED, Problem, REFUSED, UNVERIFIED};
use super::transfers::{AGREEMENT_DEADLINE, Source, Stage};
use crate::transfer::restrict::Used;
use crate::wire::id::{RoomId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::FileKind;
use std::time::Duration;

impl Core {
    /// `@NAME getfile FILE`, typed in this room.
    pub(super) fn get_from(
        &mut self,
        number: u64,
        room: Option<RoomId>,
        peer: &FullName,
        file: String,
        kind: FileKind,
        wait: bool,
    ) -> Result<(), Problem> {
        if self.peers.is_changed(peer) {
            return Err(super::dispatch::key_changed(peer));
        }
        let mut download = Download::new(Some(number), file, kind, wait);
        download.serves = room.filter(|room| self.rooms_with(peer).contains(room));
        download.through = download.serves;
        self.rules_from((peer, self.key_of(peer)), download.through, Used::default()).judge(&download.item())?;
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
        loop {
            let transfer = self.new_id();
            let Some(download) = self.transfers.downloads.get_mut(id) else { return };
            let Some(peer) = download.ask_next(now, most, transfer) else { break };
            let deadline = now + AGREEMENT_DEADLINE;
            let (until, told) = (now + ANSWER_MAX, Duration::ZERO);
            let source = Source { download: *id, peer, stage: Stage::Preparing, deadline, until, told };
            self.transfers.sources.insert(transfer, source);
            self.tell_files(FilesCommand::PrepareDownload { transfer });
        }
        let Some(download) = self.transfers.downloads.get_mut(id) else { return };
        match download.outlook() {
            Outlook::Going => {}
            Outlook::Starved => self.starve(id),
            Outlook::Another => self.advance(id),
            Outlook::Over => {
                let problem = download.failure(id);
                let problem = self.maybe_a_rule(id, problem);
                self.fail_download(id, problem);
            }
        }
    }

    /// The file side has no source left.
    pub(super) fn starved(&mut self, id: &TransferId) {
        if self.transfers.downloads.get(id).is_some_and(Download::has_run_dry) {
            self.starve(id);
        }
    }

    /// Nobody delivers: it is waited for, and said so, each time that an attempt has come to nothing.
    fn starve(&mut self, id: &TransferId) {
        let Some(download) = self.transfers.downloads.get_mut(id) else { return };
        let told = download.starve(self.now, id);
        self.tell_of(id, Event::TransferWaiting(told));
    }

    /// A session with a holder has ended before the file: the holder is asked again, or not.
    pub(super) fn source_ended(&mut self, transfer: &TransferId, problem: Problem, again: Again) {
        let Some(source) = self.transfers.sources.remove(transfer) else { return };
        let download = self.transfers.downloads.get_mut(&source.download);
        if download.is_some_and(|download| download.ended(transfer, problem, again, self.now)) {
            self.advance(&source.download);
        }
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
            LostReason::Lied | LostReason::Cancelled | LostReason::KeyAgreement | LostReason::Changed => Again::Never,
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
        self.path_found(transfer);
        let Some(source) = self.transfers.sources.get(transfer) else { return };
        let (id, peer) = (source.download, source.peer.clone());
        let Some(download) = self.transfers.downloads.get_mut(&id) else { return };
        let way = self.transfers.ways.found(self.now, transfer, &peer, &route);
        download.starving = None;
        download.wait_for_them(self.now);
        let first = !std::mem::replace(&mut download.told, true);
        if first {
            (download.route, download.way, download.peer) = (Some(route), Some(way), Some(peer));
            let told = download.told(&id);
            return self.tell_of(&id, Event::TransferStarted(told));
        }
        if download.peer.as_ref() == Some(&peer) {
            // The one before it may have gone another way.
            (download.route, download.way) = (Some(route.clone()), Some(way));
        }
        let (route, way) = (Some(route), Some(way.word().to_owned()));
        let told = event::Transfer { peer: peer.to_string(), route, way, ..download.told(&id) };
        self.tell_of(&id, Event::SourceAdded(told));
    }

    /// Ends a download of which no more comes. What has come stays on the disk.
    pub(super) fn fail_download(&mut self, id: &TransferId, problem: Problem) {
        // Of what a rule of ours is against nothing stays.
        let keep = (problem.code.as_str(), problem.exit) != ("restricted", REFUSED);
        self.cancel_files(*id, keep);
        self.end_download(id, problem);
    }

    /// The same, where the file side has ended it.
    pub(super) fn end_download(&mut self, id: &TransferId, problem: Problem) {
        let Some(download) = self.forget_download(id) else { return };
        let restricted = problem.code == "restricted";
        if download.told || restricted {
            let reason = Some(problem.code.clone());
            let detail = restricted.then(|| problem.message.clone());
            let told = event::Transfer { reason, detail, bytes: Some(download.bytes), ..download.told(id) };
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
        let (now, most) = (self.now, self.sources_max());
        let ids: Vec<TransferId> = self.transfers.downloads.keys().copied().collect();
        for id in ids {
            let Some(download) = self.transfers.downloads.get_mut(&id) else { continue };
            if download.is_hopeless(now) {
                let problem = download.failure(&id);
                let problem = self.maybe_a_rule(&id, problem);
                self.fail_download(&id, problem);
                continue;
            }
            if download.searches_again(now, most) {
                self.search_anew(&id);
            }
            if self.transfers.downloads.get(&id).is_some_and(|download| download.has_next(now, most)) {
                self.advance(&id);
            }
        }
    }

    /// The link is back: whoever was lost is asked at once.
    pub(super) fn resume_downloads(&mut self) {
        let ids: Vec<TransferId> = self.transfers.downloads.keys().copied().collect();
        for id in ids {
            if self.transfers.downloads.get_mut(&id).is_some_and(Download::hasten) {
                self.advance(&id);
            }
        }
    }

    /// Somebody is back: whatever was lost with them is asked for at once.
    pub(super) fn resume_downloads_from(&mut self, peer: &FullName) {
        let ids: Vec<TransferId> = self.transfers.downloads.keys().copied().collect();
        for id in ids {
            if self.transfers.downloads.get_mut(&id).is_some_and(|download| download.is_back(peer)) {
                self.advance(&id);
            }
        }
    }

    fn search_anew(&mut self, id: &TransferId) {
        let Some(download) = self.transfers.downloads.get(id) else { return };
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

fn problem_of(reason: LostReason, peer: &FullName, detail: &str) -> Problem {
    match reason {
        LostReason::Lied => {
            Problem::new("verification", UNVERIFIED, format!("{peer} sent what does not belong to the file: {detail}"))
        }
        LostReason::KeyAgreement => {
            Problem::new("key_agreement", UNVERIFIED, format!("the agreement on keys with {peer} failed: {detail}"))
        }
        LostReason::Cancelled => Problem::new(code(reason), FAILED, format!("{peer} has stopped it")),
        LostReason::NoPath => Problem::new(code(reason), FAILED, format!("{peer}: {detail}")).hint(NO_PATH),
        _ => Problem::new(code(reason), FAILED, format!("{peer}: {detail}")),
    }
}

/// From the wish to an answer, in whatever lines it stands: as long as the file side keeps our side prepared.
const ANSWER_MAX: Duration = Duration::from_secs(1_800);

/// What helps where neither a direct path nor a relay works.
const NO_PATH: &str = "`secchat doctor network` tells what is in the way; a server that passes files on helps (not with --direct-only), or a \
                       port forwarded at either side, named with --udp and --candidate";

/// The word of `transfer_failed.reason`.
const fn code(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Lied => "verification",
        LostReason::Stalled => "timeout",
        LostReason::Left => "peer_closed",
        LostReason::Cancelled => "cancelled",
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
        LostReason::Cancelled => "cancelled",
        LostReason::Changed => "changed",
        LostReason::PathShrunk => "path_shrunk",
        LostReason::NoPath => "no_path",
        LostReason::KeyAgreement => "key_agreement",
    }
}
