//! Files between two: the agreement on keys in the direct conversation, then the channel, which the file side runs.

use super::core::{Core, Ticket};
use super::effects::{FilesCommand, FilesEvent, ShareCommand};
use super::event::{self, Event};
use super::filing::direction;
use super::problem::{FAILED, NOT_FOUND, Problem, UNVERIFIED};
use crate::crypto::agreement::Requester;
use crate::crypto::identity::PublicKey;
use crate::group::Sealer;
use crate::wire::id::{Id, RoomId, SearchId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{FileRefusal, FileRequest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Transfers {
    pub open: BTreeMap<TransferId, Transfer>,
    shares: VecDeque<(u64, &'static str)>,
}

#[derive(Debug)]
pub(super) struct Transfer {
    pub ticket: Ticket,
    /// `@any getfile` goes on to the next holder.
    pub hunt: Option<SearchId>,
    pub peer: FullName,
    pub file: String,
    pub size: Option<u64>,
    pub root: Option<[u8; 32]>,
    pub bytes: u64,
    pub rate: u64,
    pub route: Option<String>,
    pub mode: Option<String>,
    pub stage: Stage,
    pub deadline: Duration,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Download: the file side gathers candidates.
    Preparing,
    /// Download: the request is on its way.
    Asked(Box<Asked>),
    /// Upload: the file side opens the file.
    Opening(Box<Opening>),
    /// The channel runs.
    Running { upload: bool },
}

#[derive(Debug)]
pub(super) struct Asked {
    pub requester: Requester,
    pub connection: [u8; 8],
}

#[derive(Debug)]
pub(super) struct Opening {
    pub group: RoomId,
    pub key: PublicKey,
    pub request: FileRequest,
}

impl Transfers {
    pub fn any(&self) -> bool {
        !self.open.is_empty() || !self.shares.is_empty()
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

    pub fn next_timeout(&self) -> Option<Duration> {
        let waiting = |t: &&Transfer| !matches!(t.stage, Stage::Running { .. });
        self.open.values().filter(waiting).map(|t| t.deadline).min()
    }
}

impl Transfer {
    pub fn is_upload(&self) -> bool {
        matches!(self.stage, Stage::Opening(_) | Stage::Running { upload: true })
    }

    fn told(&self, id: &TransferId) -> event::Transfer {
        event::Transfer {
            id: id.to_string(),
            direction: direction(self.is_upload()).into(),
            peer: self.peer.to_string(),
            file: self.file.clone(),
            size: self.size,
            root: self.root.as_ref().map(|root| super::search::hex(root)),
            route: self.route.clone(),
            key_agreement: self.mode.clone(),
            ..event::Transfer::default()
        }
    }
}

impl Core {
    /// `@NAME getfile FILE`.
    pub(super) fn get_from(&mut self, number: u64, peer: &FullName, file: String) -> Result<(), Problem> {
        if self.peers.is_changed(peer) {
            return Err(super::dispatch::key_changed(peer));
        }
        let id = self.new_id();
        self.start_download(id, Some(number), peer, file, None, None);
        Ok(())
    }

    pub(super) fn start_download(
        &mut self,
        id: TransferId,
        ticket: Ticket,
        peer: &FullName,
        file: String,
        root: Option<[u8; 32]>,
        hunt: Option<SearchId>,
    ) {
        let stage = Stage::Preparing;
        self.open_transfer(id, Transfer { ticket, hunt, root, ..Transfer::new(peer.clone(), file, stage) });
        self.tell_files(FilesCommand::PrepareDownload { transfer: id });
    }

    pub(super) fn open_transfer(&mut self, id: TransferId, transfer: Transfer) {
        let deadline = self.now + AGREEMENT_DEADLINE;
        self.transfers.open.insert(id, Transfer { deadline, ..transfer });
    }

    pub(super) fn files(&mut self, event: FilesEvent) {
        match event {
            FilesEvent::Found { search, asker, rows, more } => self.found(search, &asker, rows, more),
            FilesEvent::UploadReady { transfer, result } => self.upload_ready(transfer, result),
            FilesEvent::DownloadReady { transfer, connection, candidates, window, .. } => {
                self.download_ready(transfer, connection, &candidates, window.unwrap_or(16));
            }
            FilesEvent::Shares { global, files, missing } => self.shares(global, files, missing),
            FilesEvent::Started { transfer, route } => {
                let Some(open) = self.transfers.open.get_mut(&transfer) else { return };
                open.route = Some(route);
                let (ticket, told) = (open.ticket, open.told(&transfer));
                self.tell(ticket, Event::TransferStarted(told));
            }
            FilesEvent::Progress { transfer, bytes, rate, .. } => {
                let Some(open) = self.transfers.open.get_mut(&transfer) else { return };
                (open.bytes, open.rate) = (bytes, rate);
                let (ticket, told) = (open.ticket, open.told(&transfer));
                let (bytes, rate) = (Some(bytes), Some(rate));
                self.tell(ticket, Event::TransferProgress(event::Transfer { bytes, rate, ..told }));
            }
            FilesEvent::Done { transfer, bytes, seconds, path } => self.transfer_done(&transfer, bytes, seconds, path),
            FilesEvent::Failed { transfer, reason, detail } => self.transfer_failed(&transfer, &reason, detail),
            FilesEvent::Starved { download } => self.transfer_failed(&download, "no_path", "no source is left".into()),
            FilesEvent::Measured { .. }
            | FilesEvent::OfferReady { .. }
            | FilesEvent::Hashing { .. }
            | FilesEvent::SourceLost { .. } => {}
        }
    }

    pub(super) fn file_refused(&mut self, sender: &Sealer, id: &TransferId, reason: FileRefusal) {
        let ours = |t: &Transfer| t.peer == sender.name && matches!(t.stage, Stage::Asked(_));
        if self.transfers.open.get(id).is_some_and(ours) {
            self.request_failed(id, reason.into());
        }
    }

    /// The request did not come to anything.
    pub(super) fn request_failed(&mut self, id: &TransferId, problem: Problem) {
        self.cancel_files(*id);
        self.give_transfer_up(id, problem);
    }

    /// The asker cannot be told: the slot is free again.
    pub(super) fn answer_failed(&mut self, id: &TransferId) {
        if self.transfers.open.remove(id).is_some() {
            self.cancel_files(*id);
        }
    }

    /// Ends a transfer of which no more comes, or passes it on to the next holder.
    pub(super) fn give_transfer_up(&mut self, id: &TransferId, problem: Problem) {
        let Some(open) = self.transfers.open.remove(id) else { return };
        match open.hunt {
            Some(hunt) => self.hunt_next(hunt, problem),
            None if open.ticket.is_some() => self.fail(open.ticket, problem),
            None => {}
        }
    }

    fn transfer_done(&mut self, id: &TransferId, bytes: u64, seconds: f64, path: Option<String>) {
        let Some(open) = self.transfers.open.remove(id) else { return };
        open.hunt.iter().for_each(|hunt| self.hunt_done(hunt));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "shown"
        )]
        let rate = if seconds > 0.0 { (bytes as f64 / seconds) as u64 } else { 0 };
        let (bytes, rate, seconds) = (Some(bytes), Some(rate), Some(seconds));
        let told = event::Transfer { bytes, rate, seconds, path, ..open.told(id) };
        self.tell(open.ticket, Event::TransferDone(told));
        self.done(open.ticket, 0);
    }

    fn transfer_failed(&mut self, id: &TransferId, reason: &str, detail: String) {
        let Some(open) = self.transfers.open.get(id) else { return };
        let (ticket, told) = (open.ticket, open.told(id));
        let told = event::Transfer { reason: Some(reason.to_owned()), bytes: Some(open.bytes), ..told };
        self.tell(ticket, Event::TransferFailed(told));
        let exit = if reason == "verification" { UNVERIFIED } else { FAILED };
        self.give_transfer_up(id, Problem::new(reason, exit, detail));
    }

    pub(super) fn cancel_files(&mut self, transfer: TransferId) {
        self.tell_files(FilesCommand::Cancel { transfer, reason: "cancelled".into(), keep: false });
    }

    /// `@me transfers`.
    pub(super) fn show_transfers(&mut self, number: u64) -> Result<(), Problem> {
        let rows: Vec<_> =
            self.transfers.open.iter().map(|(id, open)| (open.told(id), open.bytes, open.rate)).collect();
        for (told, bytes, rate) in rows {
            let (bytes, rate) = (Some(bytes), Some(rate));
            self.tell(Some(number), Event::TransferProgress(event::Transfer { bytes, rate, ..told }));
        }
        self.ok(number, "transfers");
        Ok(())
    }

    /// `@me cancel ID`; the beginning of the id will do.
    pub(super) fn cancel(&mut self, number: u64, text: &str) -> Result<(), Problem> {
        let mut fits = self.transfers.open.keys().filter(|id| id.to_string().starts_with(text));
        let (Some(&id), None) = (fits.next(), fits.next()) else {
            return Err(Problem::new("not_found", NOT_FOUND, "no transfer, or more than one, has this id"));
        };
        self.cancel_one(&id);
        self.ok(number, "cancel");
        Ok(())
    }

    fn cancel_one(&mut self, id: &TransferId) {
        let Some(open) = self.transfers.open.remove(id) else { return };
        open.hunt.iter().for_each(|hunt| self.hunt_done(hunt));
        self.cancel_files(*id);
        let told = event::Transfer { reason: Some("cancelled".into()), bytes: Some(open.bytes), ..open.told(id) };
        self.tell(open.ticket, Event::TransferFailed(told));
        self.done(open.ticket, FAILED);
    }

    /// Cancels what these commands fetch.
    pub(super) fn cancel_transfers_of(&mut self, numbers: &BTreeSet<u64>) {
        let theirs = |t: &Transfer| t.ticket.is_some_and(|number| numbers.contains(&number));
        let ids: Vec<Id> = self.transfers.open.iter().filter(|(_, t)| theirs(t)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.cancel_one(id));
    }

    pub(super) fn cancel_transfers(&mut self) {
        let ids: Vec<Id> = self.transfers.open.keys().copied().collect();
        ids.iter().for_each(|id| self.cancel_one(id));
    }

    pub(super) fn transfers_timeouts(&mut self) {
        let late = |t: &Transfer| self.now >= t.deadline && !matches!(t.stage, Stage::Running { .. });
        let late: Vec<Id> = self.transfers.open.iter().filter(|(_, t)| late(t)).map(|(id, _)| *id).collect();
        for id in late {
            let who = self.transfers.open.get(&id).map(|t| t.peer.to_string()).unwrap_or_default();
            self.request_failed(&id, Problem::timeout(&who));
        }
    }
}

impl Transfer {
    pub fn new(peer: FullName, file: String, stage: Stage) -> Self {
        let (ticket, hunt, size, root, route, mode) = Default::default();
        let (bytes, rate, deadline) = Default::default();
        Self { ticket, hunt, peer, file, size, root, bytes, rate, route, mode, stage, deadline }
    }
}

/// From the wish for a file to the start of its channel; opening one may take hashing it.
const AGREEMENT_DEADLINE: Duration = Duration::from_secs(60);
