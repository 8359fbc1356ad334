//! The agreement on a file's keys, in the direct conversation of asker and holder; after it the file side runs the channel.

use super::core::{Core, Ticket};
use super::download::{Again, Download};
use super::effects::{ChannelStart, Effect, FilesCommand, Reach, SplitKeyMade, UploadReady};
use super::event::{self, Event};
use super::filing::{Agreed, addresses, datagram, directions, offer_of, texts};
use super::problem::{FAILED, Problem, UNVERIFIED};
use super::refusing::{by_rule, by_their_rule};
use super::transfers::{AGREEMENT_DEADLINE, Asked, Source, Stage, Terms};
use super::upload::Opening;
use crate::crypto::agreement::{Answer, Mode, ModeList, Requester, choose, respond};
use crate::crypto::handover::Handover;
use crate::crypto::schedule::{Context, Party};
use crate::group::Sealer;
use crate::transfer::restrict::{Item, Rules, Verdict, What};
use crate::transfer::slots::DEFAULT_SLOTS;
use crate::wire::id::{RoomId, TransferId};
use crate::wire::leg::RelayTokens;
use crate::wire::name::FullName;
use crate::wire::payload::{Arq, Body, FileAnswer, FileKind, FileRefusal, FileRequest};
use rand_core::RngCore;
use std::time::Duration;
use zeroize::Zeroizing;

impl Core {
    /// Our side of a channel is ready; with a split RSA key to come, that is made first.
    pub(super) fn source_ready(&mut self, id: TransferId, terms: Terms) {
        let splits = self.config.files.modes.contains(&Mode::RsaSplit);
        let Some(source) = self.transfers.sources.get_mut(&id) else { return };
        if !matches!(source.stage, Stage::Preparing) {
            return;
        }
        if !splits {
            return self.ask_for_file(&id, terms, None);
        }
        source.stage = Stage::MakingKey(Box::new(terms));
        let mut seed = Zeroizing::new([0; 32]);
        self.rng.fill_bytes(&mut *seed);
        self.effect(Effect::MakeSplitKey { transfer: id, seed });
    }

    pub(super) fn split_key_made(&mut self, id: &TransferId, made: Option<SplitKeyMade>) {
        let Some(source) = self.transfers.sources.get_mut(id) else { return };
        let Stage::MakingKey(terms) = std::mem::replace(&mut source.stage, Stage::Preparing) else { return };
        source.deadline = self.now + AGREEMENT_DEADLINE;
        match made {
            Some(made) => self.ask_for_file(id, *terms, Some(made)),
            None => self.no_keys(id),
        }
    }

    fn no_keys(&mut self, id: &TransferId) {
        self.request_failed(id, Problem::new("failed", FAILED, "no keys could be made on this device"));
    }

    /// Our half of the agreement goes to the holder.
    fn ask_for_file(&mut self, id: &TransferId, terms: Terms, made: Option<SplitKeyMade>) {
        let Some(source) = self.transfers.sources.get(id) else { return };
        let Some(download) = self.transfers.downloads.get(&source.download) else { return };
        let (rsa, split) = made.map(|made| (made.public, (made.key, made.path))).unzip();
        let (peer, root) = (source.peer.clone(), download.root);
        let Ok((requester, offer)) = Requester::start(&mut self.rng, &self.config.files.modes, rsa) else {
            return self.no_keys(id);
        };
        let request = FileRequest {
            transfer: *id,
            file: download.file.clone(),
            root: download.root.map(Into::into),
            random: offer.random.into(),
            x25519: offer.x25519.into(),
            ml_kem: offer.mlkem_ek.map(Into::into),
            modes: offer.modes.names().map(str::to_owned).collect(),
            connection: terms.connection.into(),
            candidates: texts(&terms.candidates),
            window: terms.window,
            arq: terms.arq,
            max_datagram: datagram(terms.max_datagram),
            kind: download.kind,
            offer: download.offer,
            wait: download.wait,
            rsa: offer.rsa.map(Box::new),
            room: download.through,
        };
        if let Some(source) = self.transfers.sources.get_mut(id) {
            source.stage = Stage::Asked(Box::new(Asked { requester, terms, split, queued: None, root }));
        }
        if let Err(problem) = self.send_direct(&peer, Body::FileRequest(request), None) {
            self.request_failed(id, problem);
        }
    }

    /// The holder's half, and its keys.
    pub(super) fn answer(
        &mut self,
        id: TransferId,
        peer: &FullName,
        asked: Opening,
        ready: &UploadReady,
    ) -> Result<(FileAnswer, ChannelStart), FileRefusal> {
        let bad = FileRefusal::BadRequest;
        let request = asked.request;
        let (me, theirs) = (self.me().ok_or(bad)?.to_string(), peer.to_string());
        let offer = offer_of(&request).ok_or(bad)?;
        let ours = (self.config.files.arq, ready.window, datagram(ready.max_datagram));
        let agreed = Agreed::of(&request, ours, ready.partial);
        let context = Context {
            transfer: &id.0,
            asker: Party { name: &theirs, key: asked.key },
            holder: Party { name: &me, key: self.config.identity.public() },
            group: &asked.group.0,
            root: &ready.root,
            size: ready.size,
            terms: &agreed.to_bytes(),
        };
        let (answer, keys) = respond(&mut self.rng, &offer, &self.config.files.modes, &context).map_err(|_| bad)?;
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
            arq: ours.0,
            max_datagram: ours.2,
            window: ours.1,
            kind: request.kind,
            partial: ready.partial,
            left_out: ready.skipped.count,
        };
        let theirs = addresses(&request.candidates);
        self.transfers.ways.begin(self.now, id, &ready.candidates, &theirs);
        let (send, receive) = directions(&keys, true);
        let (asker, holder) = keys.relay_tokens();
        let unreachable = request.candidates.is_empty();
        self.consider_relay(id, &asked.group, RelayTokens { own: holder.into(), peer: asker.into() }, unreachable);
        let handover = match (mode, request.rsa) {
            (Mode::RsaSplit, Some(public)) => Some(Box::new(Handover::holder(keys, *public))),
            (Mode::RsaSplit, None) => return Err(bad),
            _ => None,
        };
        let start = ChannelStart {
            transfer: id,
            send,
            receive,
            peer: peer.clone(),
            our_connection: ready.connection,
            peer_connection: *request.connection,
            peer_candidates: theirs,
            kind: agreed.kind,
            size: ready.size,
            root: ready.root,
            partial: agreed.partial,
            arq: agreed.arq,
            window: agreed.window,
            max_datagram: agreed.max_datagram.into(),
            mode: reply.mode.clone(),
            handover,
        };
        Ok((reply, start))
    }

    /// The holder's answer: keys are agreed, proven, and the channel starts. What is not ours is not looked at.
    pub(super) fn file_answer(&mut self, group: RoomId, sender: &Sealer, answer: &FileAnswer) {
        let id = answer.transfer;
        if self.peers.is_changed(&sender.name) {
            return;
        }
        let Some(asked) = self.take_asked(&id, &sender.name) else {
            if !self.transfers.sources.contains_key(&id) {
                // Too late: the slot there can go to somebody else.
                let _ = self.send_direct(&sender.name, Body::FileGivenUp { transfer: id, detail: None }, None);
            }
            return;
        };
        let download = self.transfers.sources.get(&id).map(|source| source.download).unwrap_or_default();
        let Some(wish) = self.transfers.downloads.get(&download) else { return };
        let (kind, offered, room) = (wish.kind, wish.offered, wish.serves);
        let wanted = wish.root.is_none_or(|root| root == *answer.root) && answer.kind == kind;
        let (file, into) = (wish.file.clone(), self.running.folder(wish.ticket));
        if let Some(problem) = misfit(wish, asked.root, &sender.name, answer) {
            self.tell_files(FilesCommand::Drop { transfer: id, reason: "not what was wanted".into() });
            let _ = self.send_direct(&sender.name, Body::FileGivenUp { transfer: id, detail: None }, None);
            return self.source_ended(&id, problem, Again::Never);
        }
        let rules = match self.fits_rules(&id, &download, sender, answer) {
            Ok(rules) => rules,
            Err(verdict) => return self.refuse_answer(&id, sender, &verdict),
        };
        let ours = asked.terms.candidates.clone();
        let agreed = if wanted { self.agree(group, sender, answer, asked) } else { None };
        let Some((start, tokens)) = agreed else {
            self.tell_files(FilesCommand::Drop { transfer: id, reason: "no agreement".into() });
            let text = format!("the agreement on keys with {} failed", sender.name);
            return self.source_ended(&id, Problem::new("verification", UNVERIFIED, text), Again::Never);
        };
        if let Some(wish) = self.transfers.downloads.get_mut(&download) {
            wish.left_out = answer.left_out;
            (wish.root, wish.fixed) = (Some(*answer.root), true);
            if kind == FileKind::File {
                wish.total = Some(answer.size);
            }
            let amount = if kind == FileKind::File { Some((1, answer.size)) } else { wish.amount };
            let before = wish.mode.replace(start.mode.clone());
            let ticket = wish.ticket;
            if before.is_none() {
                self.tell_of_wish(ticket, &sender.name, &start.mode);
            }
            let what = What::new(&self.config.identity.public(), &answer.root);
            amount
                .filter(|_| rules.ask_amounts())
                .into_iter()
                .for_each(|amount| self.count_sent(&sender.key, what, amount));
        }
        self.transfers.ways.begin(self.now, id, &ours, &start.peer_candidates);
        self.consider_relay(id, &group, tokens, answer.candidates.is_empty());
        let channel = Box::new(start);
        self.tell_files(FilesCommand::StartDownload { channel, download, file, into, offered, room, rules });
        // Now that the content is known, others who have it can be asked too.
        self.advance(&download);
    }

    /// What is answered, held against the rules for what this holder sends; gives them for what is not known yet.
    fn fits_rules(
        &self,
        id: &TransferId,
        download: &TransferId,
        sender: &Sealer,
        answer: &FileAnswer,
    ) -> Result<Rules, Verdict> {
        let Some(wish) = self.transfers.downloads.get(download) else { return Ok(Rules::default()) };
        let used = self.used_by(id, (&sender.name, &sender.key), &answer.root);
        let rules = self.rules_from((&sender.name, sender.key), wish.through, used);
        let size = if wish.kind == FileKind::File { Some(answer.size) } else { wish.amount.map(|(_, bytes)| bytes) };
        rules.judge(&Item { size, root: Some(&answer.root), ..wish.item() })?;
        match wish.kind {
            FileKind::File => rules.judge_amount(1, answer.size)?,
            // How many there are the list of files tells.
            FileKind::Folder => rules.judge_amount(1, 0)?,
        }
        Ok(rules)
    }

    fn refuse_answer(&mut self, id: &TransferId, sender: &Sealer, verdict: &Verdict) {
        let detail = verdict.detail();
        self.tell_files(FilesCommand::Drop { transfer: *id, reason: detail.clone() });
        let body = Body::FileGivenUp { transfer: *id, detail: Some(detail.clone()) };
        let _ = self.send_direct(&sender.name, body, None);
        self.source_ended(id, by_rule(detail), Again::Never);
    }

    /// The agreement that runs is not the one that we would have liked best.
    fn tell_of_wish(&mut self, ticket: Ticket, peer: &FullName, mode: &str) {
        if let Some(wish) = self.config.files.modes.first().filter(|wish| wish.name() != mode) {
            let text = format!("{peer} does not take {}, so {mode} runs", wish.name());
            self.tell(ticket, Event::Notice { from: "key_agreement".into(), text });
        }
    }

    /// What we asked this holder under this id, if it has not answered yet.
    fn take_asked(&mut self, id: &TransferId, holder: &FullName) -> Option<Asked> {
        let source = self.transfers.sources.get_mut(id).filter(|source| source.peer == *holder)?;
        match std::mem::replace(&mut source.stage, Stage::Running) {
            Stage::Asked(asked) => Some(*asked),
            other => {
                source.stage = other;
                None
            }
        }
    }

    fn agree(
        &self,
        group: RoomId,
        sender: &Sealer,
        answer: &FileAnswer,
        asked: Asked,
    ) -> Option<(ChannelStart, RelayTokens)> {
        let (me, peer) = (self.me()?.to_string(), sender.name.to_string());
        let Asked { requester, terms, split, .. } = asked;
        let agreed = Agreed::by(&terms, answer);
        let context = Context {
            transfer: &answer.transfer.0,
            asker: Party { name: &me, key: self.config.identity.public() },
            holder: Party { name: &peer, key: sender.key },
            group: &group.0,
            root: &answer.root,
            size: answer.size,
            terms: &agreed.to_bytes(),
        };
        let theirs = Answer {
            modes: ModeList::from_names(&answer.modes)?,
            random: *answer.random,
            x25519: *answer.x25519,
            mlkem_ct: answer.ml_kem.as_ref().map(|ct| ct.to_vec()),
        };
        let mode = choose(requester.modes(), &theirs.modes)?;
        let keys = requester.finish(&theirs, &context).ok()?;
        let proven = keys.confirm_holder.matches(&*answer.confirm) && mode.name() == answer.mode;
        let (send, receive) = directions(&keys, false);
        let (own, theirs) = keys.relay_tokens();
        let tokens = RelayTokens { own: own.into(), peer: theirs.into() };
        let handover = match (mode, split) {
            (Mode::RsaSplit, Some((key, path))) => Some(Box::new(Handover::asker(keys, key, path))),
            (Mode::RsaSplit, None) => return None,
            _ => None,
        };
        let start = ChannelStart {
            transfer: answer.transfer,
            send,
            receive,
            peer: sender.name.clone(),
            our_connection: terms.connection,
            peer_connection: *answer.connection,
            peer_candidates: addresses(&answer.candidates),
            kind: agreed.kind,
            size: answer.size,
            root: *answer.root,
            partial: agreed.partial,
            arq: agreed.arq,
            window: agreed.window,
            max_datagram: agreed.max_datagram.into(),
            mode: answer.mode.clone(),
            handover,
        };
        proven.then_some((start, tokens))
    }

    pub(super) fn file_refused(
        &mut self,
        sender: &Sealer,
        id: &TransferId,
        reason: FileRefusal,
        detail: Option<String>,
    ) {
        let Some(asked) = self.take_asked(id, &sender.name) else { return };
        self.tell_files(FilesCommand::Drop { transfer: *id, reason: "refused".into() });
        let ran = self.has_run(id);
        let again = match reason {
            // The line there was too long, or we stood in it for too long.
            FileRefusal::Busy if asked.queued.is_some() || ran => Again::Later,
            FileRefusal::NotShared | FileRefusal::Unreadable if ran => Again::Later,
            _ => Again::Never,
        };
        let problem = match reason {
            FileRefusal::Restricted => by_their_rule(&sender.name, detail),
            reason => reason.into(),
        };
        self.source_ended(id, problem, again);
    }

    /// The request did not come to anything.
    pub(super) fn request_failed(&mut self, id: &TransferId, problem: Problem) {
        let Some(Source { peer, stage, .. }) = self.transfers.sources.get(id) else { return };
        let (peer, asked) = (peer.clone(), matches!(stage, Stage::Asked(_)) && problem.code == "timeout");
        self.tell_files(FilesCommand::Drop { transfer: *id, reason: "given up".into() });
        if asked {
            let _ = self.send_direct(&peer, Body::FileGivenUp { transfer: *id, detail: None }, None);
        }
        let again = if self.has_run(id) { Again::Later } else { Again::Never };
        self.source_ended(id, problem, again);
    }

    /// Whether anything has ever come of the download that this is a source of.
    fn has_run(&self, id: &TransferId) -> bool {
        let download = self.transfers.sources.get(id).map(|source| source.download);
        download.and_then(|id| self.transfers.downloads.get(&id)).is_some_and(|download| download.told)
    }

    /// The holder says where our request stands in its line.
    pub(super) fn queued(&mut self, sender: &Sealer, id: &TransferId, place: u32, seconds: Option<u64>) {
        let Some(source) = self.transfers.sources.get_mut(id).filter(|source| source.peer == sender.name) else {
            return;
        };
        let Stage::Asked(asked) = &mut source.stage else { return };
        asked.queued = Some(place);
        let download = source.download;
        if !source.put_off(self.now, QUEUED_DEADLINE) {
            return;
        }
        let Some(wish) = self.transfers.downloads.get(&download) else { return };
        let (peer, place) = (sender.name.to_string(), Some(place));
        let told = event::Transfer { peer, place, estimate: seconds, ..wish.told(&download) };
        self.tell_of(&download, Event::Queued(told));
    }

    /// The holder reads the file to learn its root.
    pub(super) fn holder_hashes(&mut self, sender: &Sealer, id: &TransferId, bytes: u64, total: u64) {
        let Some(source) = self.transfers.sources.get_mut(id).filter(|source| source.peer == sender.name) else {
            return;
        };
        if !matches!(source.stage, Stage::Asked(_)) {
            return;
        }
        let download = source.download;
        if !source.put_off(self.now, AGREEMENT_DEADLINE) {
            return;
        }
        let Some(wish) = self.transfers.downloads.get(&download) else { return };
        let (bytes, size) = (Some(bytes), Some(total));
        let told = event::Transfer { peer: sender.name.to_string(), bytes, size, ..wish.told(&download) };
        self.tell_of(&download, Event::Hashing(told));
    }

    /// Holders that one download may have at work: a split RSA key for each takes seconds to make.
    pub(super) fn sources_max(&self) -> usize {
        if self.config.files.modes.contains(&Mode::RsaSplit) { 2 } else { SOURCES_MAX }
    }
}

/// Why an answer will not do though its keys may be right: it is not as much as was offered, or, where whatever the holder had
/// was asked for, others have begun with another content meanwhile.
fn misfit(wish: &Download, asked: Option<[u8; 32]>, holder: &FullName, answer: &FileAnswer) -> Option<Problem> {
    // Of a folder it is the list of files that says how much it is.
    if answer.kind == FileKind::File && wish.offered.is_some_and(|offered| offered.size != answer.size) {
        let text = format!("{holder} answered with another size than was offered");
        return Some(Problem::new("verification", UNVERIFIED, text));
    }
    let other = asked.is_none() && wish.root.is_some_and(|root| root != *answer.root);
    other.then(|| FileRefusal::Changed.into())
}

/// How files are fetched and sent, as the command line has it.
#[derive(Debug, Clone)]
pub struct FileRules {
    /// Uploads at once.
    pub uploads: u32,
    /// Key agreement modes that we take, best first.
    pub modes: Vec<Mode>,
    /// The ARQ policy, if it is pinned.
    pub arq: Arq,
    /// Whether to stand in line where all slots are taken.
    pub wait: bool,
    /// Whose offers are taken unasked, as typed.
    pub accept_from: Vec<String>,
    /// Most that leaves, file bytes a second; the file side begins with the same.
    pub up: Option<u64>,
    /// Most that comes.
    pub down: Option<u64>,
    /// Whether a server may pass files on, or must; the file side begins with the same.
    pub reach: Reach,
}

impl Default for FileRules {
    fn default() -> Self {
        let modes = vec![Mode::X25519MlKem768, Mode::X25519];
        let (arq, accept_from, up, down, reach) = Default::default();
        Self { uploads: DEFAULT_SLOTS, modes, arq, wait: true, accept_from, up, down, reach }
    }
}

/// Holders that may deliver one download at once.
const SOURCES_MAX: usize = 8;
/// A holder tells us where we stand in its line more often than this.
const QUEUED_DEADLINE: Duration = Duration::from_secs(150);
