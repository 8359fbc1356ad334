//! Files between two: the agreement on keys in the direct conversation, then the channel, which the file side runs.

use super::core::{Core, Ticket};
use super::effects::{ChannelStart, FilesCommand, FilesEvent, ShareCommand, UploadReady};
use super::event::{self, Event};
use super::files::{addresses, direction, directions, offer_of, texts};
use super::problem::{FAILED, NOT_FOUND, Problem, UNVERIFIED};
use crate::crypto::agreement::{Answer, Mode, ModeList, Requester, respond};
use crate::crypto::identity::PublicKey;
use crate::crypto::schedule::{Context, FileKeys, Party};
use crate::group::Sealer;
use crate::limits::{CANDIDATES_MAX, FILE_NAME_MAX};
use crate::wire::id::{Id, RoomId, SearchId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{Body, FileAnswer, FileRefusal, FileRequest};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Transfers {
    open: BTreeMap<TransferId, Transfer>,
    shares: VecDeque<(u64, &'static str)>,
}

#[derive(Debug)]
pub(super) struct Transfer {
    ticket: Ticket,
    /// `@any getfile` goes on to the next holder.
    hunt: Option<SearchId>,
    peer: FullName,
    file: String,
    pub size: Option<u64>,
    pub root: Option<[u8; 32]>,
    pub bytes: u64,
    pub rate: u64,
    pub route: Option<String>,
    pub mode: Option<String>,
    stage: Stage,
    deadline: Duration,
}

#[derive(Debug)]
enum Stage {
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
struct Asked {
    requester: Requester,
    connection: [u8; 8],
}

#[derive(Debug)]
struct Opening {
    group: RoomId,
    key: PublicKey,
    request: FileRequest,
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
    fn is_upload(&self) -> bool {
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

    fn open_transfer(&mut self, id: TransferId, transfer: Transfer) {
        let deadline = self.now + AGREEMENT_DEADLINE;
        self.transfers.open.insert(id, Transfer { deadline, ..transfer });
    }

    pub(super) fn files(&mut self, event: FilesEvent) {
        match event {
            FilesEvent::Found { search, asker, rows, more } => self.found(search, &asker, rows, more),
            FilesEvent::UploadReady { transfer, result } => self.upload_ready(transfer, result),
            FilesEvent::DownloadReady { transfer, connection, candidates, window } => {
                self.download_ready(transfer, connection, &candidates, window);
            }
            FilesEvent::Shares { global, files, missing } => self.shares(global, files, missing),
            FilesEvent::Started { transfer, route } => {
                let Some(open) = self.transfers.open.get_mut(&transfer) else { return };
                open.route = Some(route);
                let (ticket, told) = (open.ticket, open.told(&transfer));
                self.tell(ticket, Event::TransferStarted(told));
            }
            FilesEvent::Progress { transfer, bytes, rate } => {
                let Some(open) = self.transfers.open.get_mut(&transfer) else { return };
                (open.bytes, open.rate) = (bytes, rate);
                let (ticket, told) = (open.ticket, open.told(&transfer));
                let (bytes, rate) = (Some(bytes), Some(rate));
                self.tell(ticket, Event::TransferProgress(event::Transfer { bytes, rate, ..told }));
            }
            FilesEvent::Done { transfer, bytes, seconds, path } => self.transfer_done(&transfer, bytes, seconds, path),
            FilesEvent::Failed { transfer, reason, detail } => self.transfer_failed(&transfer, &reason, detail),
        }
    }

    /// Our half of the agreement goes to the holder.
    fn download_ready(&mut self, id: TransferId, connection: [u8; 8], candidates: &[SocketAddr], window: u32) {
        let Some(open) = self.transfers.open.get_mut(&id) else { return };
        if !matches!(open.stage, Stage::Preparing) {
            return;
        }
        let Ok((requester, offer)) = Requester::start(&mut self.rng, MODES, None) else {
            return self.give_transfer_up(&id, Problem::new("failed", FAILED, "no keys could be made on this device"));
        };
        let request = FileRequest {
            transfer: id,
            file: open.file.clone(),
            root: open.root.map(Into::into),
            random: offer.random.into(),
            x25519: offer.x25519.into(),
            ml_kem: offer.mlkem_ek.map(Into::into),
            modes: offer.modes.names().map(str::to_owned).collect(),
            connection: connection.into(),
            candidates: texts(candidates),
            window,
        };
        open.stage = Stage::Asked(Box::new(Asked { requester, connection }));
        let peer = open.peer.clone();
        if let Err(problem) = self.send_direct(&peer, Body::FileRequest(request), None) {
            self.give_transfer_up(&id, problem);
        }
    }

    /// Somebody wants a file of ours.
    pub(super) fn file_request(&mut self, group: RoomId, sender: &Sealer, request: FileRequest) {
        let peer = &sender.name;
        let id = request.transfer;
        if self.transfers.open.contains_key(&id) {
            return;
        }
        let sane = request.candidates.len() <= CANDIDATES_MAX
            && (1..=FILE_NAME_MAX).contains(&request.file.len())
            && self.peers.may_ask(peer, self.now);
        let busy = self.is_ending() || self.transfers.open.values().filter(|t| t.is_upload()).count() >= UPLOADS_MAX;
        if self.peers.is_changed(peer) {
            return;
        }
        if !sane || busy {
            let reason = if sane { FileRefusal::Busy } else { FileRefusal::BadRequest };
            return self.refuse_file(peer, id, reason);
        }
        let (peer, file, root) = (peer.clone(), request.file.clone(), request.root.as_ref().map(|root| **root));
        let stage = Stage::Opening(Box::new(Opening { group, key: sender.key, request }));
        self.open_transfer(id, Transfer::new(peer.clone(), file.clone(), stage));
        self.tell_files(FilesCommand::PrepareUpload { transfer: id, peer, file, root });
    }

    fn refuse_file(&mut self, peer: &FullName, transfer: TransferId, reason: FileRefusal) {
        // If it cannot be told, the asker's deadline tells.
        let _ = self.send_direct(peer, Body::FileRefused { transfer, reason }, None);
    }

    fn upload_ready(&mut self, id: TransferId, result: Result<UploadReady, FileRefusal>) {
        let Some(mut open) = self.transfers.open.remove(&id) else {
            // Given up meanwhile.
            return self.cancel_files(id);
        };
        let Stage::Opening(opening) = std::mem::replace(&mut open.stage, Stage::Running { upload: true }) else {
            return;
        };
        let answered = match &result {
            Ok(ready) => self.answer(id, &open, &opening, ready),
            Err(reason) => Err(*reason),
        };
        let peer = open.peer.clone();
        match (answered, result) {
            (Ok((answer, start)), Ok(ready)) => {
                open.size = Some(ready.size);
                open.root = Some(ready.root);
                open.mode = Some(answer.mode.clone());
                self.transfers.open.insert(id, open);
                if self.send_direct(&peer, Body::FileAnswer(answer), None).is_err() {
                    self.transfers.open.remove(&id);
                    return self.cancel_files(id);
                }
                self.tell_files(FilesCommand::StartUpload(Box::new(start)));
            }
            (Err(reason), result) => {
                if result.is_ok() {
                    self.cancel_files(id);
                }
                self.refuse_file(&peer, id, reason);
            }
            (Ok(_), Err(_)) => {}
        }
    }

    /// The holder's half, and its keys.
    fn answer(
        &mut self,
        id: TransferId,
        open: &Transfer,
        opening: &Opening,
        ready: &UploadReady,
    ) -> Result<(FileAnswer, ChannelStart), FileRefusal> {
        let bad = FileRefusal::BadRequest;
        let (request, me) = (&opening.request, self.me().ok_or(bad)?.to_string());
        let peer = open.peer.to_string();
        let offer = offer_of(request).ok_or(bad)?;
        let context = Context {
            transfer: &id.0,
            asker: Party { name: &peer, key: opening.key },
            holder: Party { name: &me, key: self.config.identity.public() },
            group: &opening.group.0,
            root: &ready.root,
            size: ready.size,
        };
        let (answer, keys) = respond(&mut self.rng, &offer, MODES, &context).map_err(|_| bad)?;
        let mode = crate::crypto::agreement::choose(&offer.modes, &answer.modes).ok_or(bad)?;
        let reply = FileAnswer {
            transfer: id,
            root: ready.root.into(),
            size: ready.size,
            random: answer.random.into(),
            x25519: answer.x25519.into(),
            ml_kem: answer.mlkem_ct.map(Into::into),
            mode: mode.name().to_owned(),
            modes: answer.modes.names().map(str::to_owned).collect(),
            connection: ready.connection.into(),
            candidates: texts(&ready.candidates),
            confirm: (*keys.confirm_holder.as_bytes()).into(),
        };
        let (send, receive) = directions(&keys, true);
        let start = ChannelStart {
            transfer: id,
            send,
            receive,
            peer: open.peer.clone(),
            our_connection: ready.connection,
            peer_connection: *request.connection,
            peer_candidates: addresses(&request.candidates),
            size: ready.size,
            root: ready.root,
            mode: reply.mode.clone(),
        };
        Ok((reply, start))
    }

    /// The holder's answer: keys are agreed, proven, and the channel starts. What is not ours is not looked at.
    pub(super) fn file_answer(&mut self, group: RoomId, sender: &Sealer, answer: &FileAnswer) {
        let id = answer.transfer;
        let expected = |t: &Transfer| t.peer == sender.name && matches!(t.stage, Stage::Asked(_));
        if !self.transfers.open.get(&id).is_some_and(expected) || self.peers.is_changed(&sender.name) {
            return;
        }
        let Some(open) = self.transfers.open.get_mut(&id) else { return };
        let running = Stage::Running { upload: false };
        let Stage::Asked(asked) = std::mem::replace(&mut open.stage, running) else { return };
        let wanted = open.root.is_none_or(|root| root == *answer.root);
        let file = open.file.clone();
        match self.agree(group, sender, answer, *asked) {
            Some(start) if wanted => {
                if let Some(open) = self.transfers.open.get_mut(&id) {
                    (open.size, open.root) = (Some(answer.size), Some(*answer.root));
                    open.mode = Some(start.mode.clone());
                }
                self.tell_files(FilesCommand::StartDownload { channel: Box::new(start), file });
            }
            _ => {
                self.cancel_files(id);
                let text = format!("the agreement on keys with {} failed", sender.name);
                self.give_transfer_up(&id, Problem::new("verification", UNVERIFIED, text));
            }
        }
    }

    fn agree(&self, group: RoomId, sender: &Sealer, answer: &FileAnswer, asked: Asked) -> Option<ChannelStart> {
        let (me, peer) = (self.me()?.to_string(), sender.name.to_string());
        let context = Context {
            transfer: &answer.transfer.0,
            asker: Party { name: &me, key: self.config.identity.public() },
            holder: Party { name: &peer, key: sender.key },
            group: &group.0,
            root: &answer.root,
            size: answer.size,
        };
        let theirs = Answer {
            modes: ModeList::from_names(&answer.modes)?,
            random: *answer.random,
            x25519: *answer.x25519,
            mlkem_ct: answer.ml_kem.as_ref().map(|ct| ct.to_vec()),
        };
        let mode = crate::crypto::agreement::choose(&ModeList::of(MODES), &theirs.modes)?;
        let keys: FileKeys = asked.requester.finish(&theirs, &context).ok()?;
        let proven = keys.confirm_holder.matches(&*answer.confirm) && mode.name() == answer.mode;
        let (send, receive) = directions(&keys, false);
        proven.then(|| ChannelStart {
            transfer: answer.transfer,
            send,
            receive,
            peer: sender.name.clone(),
            our_connection: asked.connection,
            peer_connection: *answer.connection,
            peer_candidates: addresses(&answer.candidates),
            size: answer.size,
            root: *answer.root,
            mode: answer.mode.clone(),
        })
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
    fn give_transfer_up(&mut self, id: &TransferId, problem: Problem) {
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

    fn cancel_files(&mut self, transfer: TransferId) {
        self.tell_files(FilesCommand::Cancel { transfer, reason: "cancelled".into() });
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
    fn new(peer: FullName, file: String, stage: Stage) -> Self {
        let (ticket, hunt, size, root, route, mode) = Default::default();
        let (bytes, rate, deadline) = Default::default();
        Self { ticket, hunt, peer, file, size, root, bytes, rate, route, mode, stage, deadline }
    }
}

/// From the wish for a file to the start of its channel; opening one may take hashing it.
const AGREEMENT_DEADLINE: Duration = Duration::from_secs(60);
/// Uploads that may be open at once; the file side's own limit is lower.
const UPLOADS_MAX: usize = 64;
/// What we take, best first.
const MODES: &[Mode] = &[Mode::X25519MlKem768, Mode::X25519];
