//! The agreement on a file's keys, in the direct conversation of asker and holder; after it the file side runs the channel.

use super::core::Core;
use super::effects::{ChannelStart, FilesCommand, UploadReady, Wanted};
use super::filing::{addresses, directions, offer_of, texts};
use super::problem::{FAILED, Problem, UNVERIFIED};
use super::transfers::{Asked, Opening, Stage, Transfer};
use crate::crypto::agreement::{Answer, Mode, ModeList, Requester, choose, respond};
use crate::crypto::schedule::{Context, FileKeys, Party};
use crate::group::Sealer;
use crate::limits::{CANDIDATES_MAX, FILE_NAME_MAX};
use crate::wire::id::{RoomId, TransferId};
use crate::wire::name::FullName;
use crate::wire::packet::BASE_DATAGRAM;
use crate::wire::payload::{Arq, Body, FileAnswer, FileKind, FileRefusal, FileRequest};
use std::net::SocketAddr;

impl Core {
    /// Our half of the agreement goes to the holder.
    pub(super) fn download_ready(
        &mut self,
        id: TransferId,
        connection: [u8; 8],
        candidates: &[SocketAddr],
        window: u32,
    ) {
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
        let wanted = Wanted { file, kind: FileKind::File, root, offer: None };
        self.tell_files(FilesCommand::PrepareUpload { transfer: id, peer, wanted });
    }

    fn refuse_file(&mut self, peer: &FullName, transfer: TransferId, reason: FileRefusal) {
        // If it cannot be told, the asker's deadline tells.
        let _ = self.send_direct(peer, Body::FileRefused { transfer, reason }, None);
    }

    pub(super) fn upload_ready(&mut self, id: TransferId, result: Result<UploadReady, FileRefusal>) {
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
        let mode = choose(&offer.modes, &answer.modes).ok_or(bad)?;
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
            kind: FileKind::File,
            partial: false,
            arq: Arq::Auto,
            window: None,
            max_datagram: BASE_DATAGRAM,
            handover: None,
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
                let mut into = None;
                if let Some(open) = self.transfers.open.get_mut(&id) {
                    (open.size, open.root) = (Some(answer.size), Some(*answer.root));
                    open.mode = Some(start.mode.clone());
                    into = self.running.folder(open.ticket);
                }
                self.tell_files(FilesCommand::StartDownload { channel: Box::new(start), download: id, file, into });
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
        let mode = choose(&ModeList::of(MODES), &theirs.modes)?;
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
            kind: FileKind::File,
            partial: false,
            arq: Arq::Auto,
            window: None,
            max_datagram: BASE_DATAGRAM,
            handover: None,
            mode: answer.mode.clone(),
        })
    }
}

/// Uploads that may be open at once; the file side's own limit is lower.
const UPLOADS_MAX: usize = 64;
/// What we take, best first.
const MODES: &[Mode] = &[Mode::X25519MlKem768, Mode::X25519];
