//! What others want of us: who may have it, who waits for a slot, and what is told of it.

use super::conversation::Conversation;
use super::core::{Core, Ticket};
use super::effects::{FilesCommand, UploadReady};
use super::event::{self, Event};
use super::problem::{NOT_FOUND, Problem};
use super::refusing::refused_upload;
use super::transfers::shown_name;
use super::upload::{Opening, Stage, Upload};
use crate::group::Sealer;
use crate::limits::{CANDIDATES_MAX, FILE_NAME_MAX};
use crate::transfer::queue::{LINE_MAX, Verdict};
use crate::transfer::restrict::{Item, Used};
use crate::wire::id::{RoomId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{Body, FileKind, FileRefusal, FileRequest};
use std::time::Duration;

impl Core {
    /// Somebody wants a file of ours.
    pub(super) fn file_request(&mut self, group: RoomId, sender: &Sealer, request: FileRequest) {
        let (peer, id) = (&sender.name, request.transfer);
        let known = self.transfers.uploads.contains_key(&id) || self.transfers.offers.made.contains_key(&id);
        if known || self.peers.is_changed(peer) {
            return;
        }
        let sane = request.candidates.len() <= CANDIDATES_MAX
            && (1..=FILE_NAME_MAX).contains(&request.file.len())
            && self.peers.may_ask(peer, self.now);
        let theirs = self.transfers.uploads.values().filter(|upload| upload.peer == *peer).count();
        let full = theirs >= UPLOADS_PER_PEER || self.transfers.uploads.len() >= UPLOADS_MAX;
        let refusal = match request.offer {
            _ if !sane => Some(FileRefusal::BadRequest),
            Some(offer) if !self.transfers.offers.stands(&offer, peer, request.root.as_ref().map(|root| **root)) => {
                Some(FileRefusal::NotShared)
            }
            None if self.is_ending() => Some(FileRefusal::Busy),
            _ => full.then_some(FileRefusal::Busy),
        };
        if let Some(reason) = refusal {
            return self.refuse_file(peer, id, reason);
        }
        let (key, room) = (sender.key, request.room);
        let item = Item { name: &request.file, folder: request.kind == FileKind::Folder, ..Item::default() };
        if let Err(verdict) = self.rules_to((peer, key), room, Used::default()).judge(&item) {
            let told = refused_upload(&id, peer, &request.file, request.kind);
            return self.refuse_by_rule(peer, id, told, verdict.detail());
        }
        let (peer, file, kind, offer) = (peer.clone(), request.file.clone(), request.kind, request.offer);
        let deadline = self.now + MEASURE_DEADLINE;
        let asked = Box::new(Opening { group, key: sender.key, request });
        let amount = None;
        let (size, root, bytes, rate, pace, route, way, mode, left_out) = Default::default();
        let stage = Stage::Measuring { asked, deadline };
        let upload = Upload {
            peer,
            key,
            room,
            amount,
            file,
            kind,
            offer,
            size,
            root,
            bytes,
            rate,
            pace,
            route,
            way,
            mode,
            left_out,
            stage,
        };
        if let Stage::Measuring { asked, .. } = &upload.stage {
            let wanted = upload.wanted(&asked.request, self.rooms_with(&upload.peer));
            self.tell_files(FilesCommand::Measure { transfer: id, wanted });
        }
        self.transfers.uploads.insert(id, upload);
    }

    /// The rooms in which we and this person are now.
    pub(super) fn rooms_with(&self, peer: &FullName) -> Vec<RoomId> {
        let with = |c: &&Conversation| c.room.members().any(|member| member.name == *peer);
        self.conversations.values().filter(with).map(|c| c.id).collect()
    }

    fn refuse_file(&mut self, peer: &FullName, transfer: TransferId, reason: FileRefusal) {
        // If it cannot be told, the asker's deadline tells.
        let _ = self.send_direct(peer, Body::FileRefused { transfer, reason, detail: None }, None);
    }

    /// Who does not hear over a channel that it is over, hears it so.
    pub(super) fn refuse_unless_running(&mut self, id: &TransferId, upload: &Upload) {
        if !matches!(upload.stage, Stage::Running) {
            self.refuse_file(&upload.peer, *id, FileRefusal::Busy);
        }
    }

    /// Ends an upload before its channel runs.
    fn refuse_upload(&mut self, id: &TransferId, reason: FileRefusal) {
        if let Some(upload) = self.forget_upload(id) {
            self.refuse_file(&upload.peer, *id, reason);
        }
    }

    /// It may be sent, and is so large; or not.
    pub(super) fn measured(&mut self, id: TransferId, result: Result<u64, FileRefusal>) {
        let (now, Some(upload)) = (self.now, self.transfers.uploads.get_mut(&id)) else { return };
        if !matches!(upload.stage, Stage::Measuring { .. }) {
            return;
        }
        let size = match result {
            Ok(size) => size,
            Err(reason) => return self.refuse_upload(&id, reason),
        };
        upload.size = Some(size);
        let Some(upload) = self.transfers.uploads.get(&id) else { return };
        let (key, room) = upload.whom();
        if let Err(verdict) = self.rules_to((&upload.peer, key), room, Used::default()).judge(&upload.item()) {
            return self.refuse_restricted(&id, verdict.detail());
        }
        let Some(upload) = self.transfers.uploads.get_mut(&id) else { return };
        let Stage::Measuring { asked, .. } = &mut upload.stage else { return };
        let verdict = if upload.offer.is_some() {
            self.transfers.queue.pass(id, &upload.peer);
            Verdict::Go
        } else {
            // Who would not wait is in line for a moment all the same: what others hardly use is given to them too.
            self.transfers.queue.ask(now, id, &upload.peer, size, true)
        };
        match verdict {
            Verdict::Go => self.open_upload(&id),
            Verdict::Busy => self.refuse_upload(&id, FileRefusal::Busy),
            Verdict::Wait if !asked.request.wait => {
                self.pass_slots_on();
                let left_over = |upload: &Upload| matches!(upload.stage, Stage::Measuring { .. });
                if self.transfers.uploads.get(&id).is_some_and(left_over) {
                    self.refuse_upload(&id, FileRefusal::Busy);
                }
            }
            Verdict::Wait => {
                if let Some(Upload { stage, .. }) = self.transfers.uploads.get_mut(&id)
                    && let Stage::Measuring { asked, .. } = std::mem::replace(stage, Stage::Running)
                {
                    *stage = Stage::Waiting { asked, told: None, again: now };
                }
                self.tell_places();
                self.tell_of_waiter(&id);
            }
        }
    }

    /// Somebody new stands in line: the user, who can let them past it, is told once for each.
    fn tell_of_waiter(&mut self, id: &TransferId) {
        let Some(upload) = self.transfers.uploads.get(id) else { return };
        if self.transfers.uploads.values().filter(|other| other.peer == upload.peer && other.waits()).count() == 1 {
            let (_, place) = upload.state();
            let told = event::Transfer { place, ..upload.told(id) };
            self.tell(None, Event::Queued(told));
        }
    }

    /// It has its slot: it is opened, and hashed if it was not yet.
    fn open_upload(&mut self, id: &TransferId) {
        let Some(peer) = self.transfers.uploads.get(id).map(|upload| upload.peer.clone()) else { return };
        let (now, rooms) = (self.now, self.rooms_with(&peer));
        let Some(upload) = self.transfers.uploads.get_mut(id) else { return };
        let asked = match std::mem::replace(&mut upload.stage, Stage::Running) {
            Stage::Measuring { asked, .. } | Stage::Waiting { asked, .. } => asked,
            other => return upload.stage = other,
        };
        let wanted = upload.wanted(&asked.request, rooms);
        upload.stage = Stage::Opening { asked, deadline: now + OPEN_DEADLINE, again: now };
        let (key, room) = upload.whom();
        let rules = self.rules_to((&peer, key), room, Used::default());
        self.tell_files(FilesCommand::PrepareUpload { transfer: *id, peer, wanted, rules });
    }

    /// The file side has it ready: the agreement on keys goes to the asker, and the channel starts.
    pub(super) fn upload_ready(&mut self, id: TransferId, result: Result<UploadReady, FileRefusal>) {
        let Some(upload) = self.transfers.uploads.get_mut(&id) else {
            // Given up meanwhile.
            return self.cancel_files(id, false);
        };
        if let (Ok(ready), Stage::Opening { .. }) = (&result, &upload.stage)
            && let Err(verdict) = self.may_leave(&id, ready)
        {
            self.cancel_files(id, false);
            return self.refuse_restricted(&id, verdict.detail());
        }
        let Some(upload) = self.transfers.uploads.get_mut(&id) else { return };
        let Stage::Opening { asked, .. } = std::mem::replace(&mut upload.stage, Stage::Running) else { return };
        let peer = upload.peer.clone();
        let answered = result.and_then(|ready| Ok((self.answer(id, &peer, *asked, &ready)?, ready)));
        match answered {
            Ok(((answer, start), ready)) => {
                let now = self.now;
                if let Some(upload) = self.transfers.uploads.get_mut(&id) {
                    upload.begin(now);
                    (upload.root, upload.mode) = (Some(ready.root), Some(answer.mode.clone()));
                    upload.left_out = ready.skipped.count;
                }
                self.tell_of_left_out(&id, &ready);
                if self.send_direct(&peer, Body::FileAnswer(answer), None).is_err() {
                    return self.answer_failed(&id);
                }
                self.tell_files(FilesCommand::StartUpload(Box::new(start)));
            }
            Err(reason) => {
                self.cancel_files(id, false);
                self.refuse_upload(&id, reason);
            }
        }
    }

    /// Of a folder of ours goes less than is in it: the user is told, once for each state of the folder.
    fn tell_of_left_out(&mut self, id: &TransferId, ready: &UploadReady) {
        let Some(upload) = self.transfers.uploads.get(id).filter(|upload| upload.offer.is_none()) else { return };
        let known = &mut self.transfers.left_out;
        if ready.skipped.count == 0 || known.contains(&ready.root) {
            return;
        }
        known.push_back(ready.root);
        if known.len() > LEFT_OUT_KNOWN {
            known.pop_front();
        }
        let what = format!("of {}, which {} fetches, is left out", shown_name(&upload.file, upload.kind), upload.peer);
        super::offers::left_out(&ready.skipped, &what).into_iter().for_each(|text| {
            self.tell(None, Event::Notice { from: "getfile".into(), text });
        });
    }

    pub(super) fn upload_started(&mut self, id: &TransferId, route: String) {
        self.path_found(id);
        let Some(upload) = self.transfers.uploads.get_mut(id) else { return };
        let way = self.transfers.ways.found(self.now, id, &upload.peer, &route);
        (upload.route, upload.way) = (Some(route), Some(way));
        let (told, promised) = (upload.told(id), upload.promised());
        upload.amount = None;
        if let Some((what, amount)) = promised {
            self.count_sent(&self.config.identity.public(), what, amount);
        }
        let ticket = self.transfers.uploads.get(id).and_then(|upload| self.upload_ticket(upload));
        self.tell(ticket, Event::TransferStarted(told));
    }

    /// The command that offered it, if one did.
    pub(super) fn upload_ticket(&self, upload: &Upload) -> Ticket {
        self.transfers.offers.ticket(&upload.offer?)
    }

    /// The asker cannot be told: the slot is free again.
    pub(super) fn answer_failed(&mut self, id: &TransferId) {
        if self.forget_upload(id).is_some() {
            self.cancel_files(*id, false);
        }
    }

    /// The asker wants it no more.
    pub(super) fn given_up(&mut self, sender: &Sealer, id: &TransferId, detail: Option<String>) {
        let Some(upload) = self.transfers.uploads.get(id).filter(|upload| upload.peer == sender.name) else { return };
        if let Some(detail) = detail {
            let offer = upload.offer;
            self.tell_of_their_rule(&sender.name, id, detail);
            self.answer_failed(id);
            return self.offer_restricted(offer);
        }
        self.answer_failed(id);
    }

    /// Takes an upload out; whoever waits for its slot moves up.
    pub(super) fn forget_upload(&mut self, id: &TransferId) -> Option<Upload> {
        let upload = self.transfers.uploads.remove(id)?;
        self.transfers.queue.release(*id);
        self.move_up();
        Some(upload)
    }

    /// Lets in whoever has a slot now, and tells the others where they stand.
    pub(super) fn move_up(&mut self) {
        if self.running.is_leaving() {
            return;
        }
        while let Some(next) = self.transfers.queue.admit() {
            self.open_upload(&next);
        }
        self.tell_places();
    }

    /// `@me setmaxuploads N`.
    pub(super) fn set_max_uploads(&mut self, number: u64, limit: u32) {
        self.transfers.queue.set_limit(limit);
        self.move_up();
        self.ok(number, "setmaxuploads");
    }

    /// `@me grant NAME`.
    pub(super) fn grant(&mut self, number: u64, name: FullName) -> Result<(), Problem> {
        let here = self.conversations.values().any(|c| c.room.members().any(|member| member.name == name));
        if !here && !self.transfers.uploads.values().any(|upload| upload.peer == name) {
            let text = format!("nobody of the name {name} is in your rooms");
            return Err(Problem::new("not_found", NOT_FOUND, text).hint("/members shows who is there"));
        }
        self.transfers.queue.grant(self.now, name);
        self.move_up();
        self.ok(number, "grant");
        Ok(())
    }

    /// Tells those in line whose place is another than they know, or who have not heard for a while.
    fn tell_places(&mut self) {
        let now = self.now;
        let left = |upload: &Upload| upload.size.unwrap_or(0).saturating_sub(upload.bytes);
        let running =
            self.transfers.uploads.values().filter(|u| matches!(u.stage, Stage::Running | Stage::Opening { .. }));
        let (rate, under_way) = running.fold((0_u64, 0_u64), |(rate, bytes), upload| {
            (rate.saturating_add(upload.rate(now)), bytes.saturating_add(left(upload)))
        });
        let places: Vec<_> = self.transfers.queue.places().collect();
        for place in places {
            let Some(upload) = self.transfers.uploads.get_mut(&place.transfer) else { continue };
            let Stage::Waiting { told, again, .. } = &mut upload.stage else { continue };
            if *told == Some(place.place) && now < *again {
                continue;
            }
            (*told, *again) = (Some(place.place), now + PLACE_AGAIN);
            let peer = upload.peer.clone();
            let seconds = under_way.saturating_add(place.ahead).checked_div(rate);
            let body = Body::FileQueued { transfer: place.transfer, place: place.place, seconds };
            // Not told, it asks again when its deadline comes.
            let _ = self.send_direct(&peer, body, None);
        }
    }

    /// The asker waits for a hash: it is told now and then how far that is.
    pub(super) fn tell_asker_of_hashing(&mut self, id: &TransferId, bytes: u64, total: u64) {
        let now = self.now;
        let Some(upload) = self.transfers.uploads.get_mut(id) else { return };
        let Stage::Opening { again, .. } = &mut upload.stage else { return };
        if now < *again {
            return;
        }
        *again = now + HASHING_AGAIN;
        let peer = upload.peer.clone();
        let _ = self.send_direct(&peer, Body::FileHashing { transfer: *id, bytes, total }, None);
    }

    /// What a peer must take to keep its slot while others wait, bytes a second: less where we ourselves do not give more.
    pub(super) fn floor(&self) -> u64 {
        let each = |up: u64| up / (4 * u64::from(self.transfers.queue.limit()).max(1));
        self.config.files.up.map_or(FLOOR, |up| FLOOR.min(each(up)))
    }

    /// Slots go on to those who have a claim to them: a peer's second one, and those of which nearly nothing comes. Who loses one stands
    /// in line again and goes on from where it was.
    fn pass_slots_on(&mut self) {
        let (now, floor) = (self.now, self.floor());
        let running = self.transfers.uploads.iter().filter(|(_, upload)| matches!(upload.stage, Stage::Running));
        let claimed = running.filter(|(id, _)| self.transfers.queue.claim(**id).is_some());
        let mut claimed: Vec<_> = claimed.map(|(id, upload)| (upload.pace.since, *id)).collect();
        // Of two slots the newer one goes.
        claimed.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in claimed {
            // The ones before may have met it.
            let Some(claim) = self.transfers.queue.claim(id) else { continue };
            let Some(upload) = self.transfers.uploads.get_mut(&id) else { continue };
            upload.look(now, floor);
            if !upload.gives_way(now, claim) {
                continue;
            }
            self.tell_files(FilesCommand::Cancel { transfer: id, reason: "others wait for it".into(), keep: true });
            let next = if self.running.is_leaving() { None } else { self.transfers.queue.pass_on(id) };
            let Some(upload) = self.forget_upload(&id) else { continue };
            next.iter().for_each(|next| self.open_upload(next));
            let told = event::Transfer { reason: Some("busy".into()), bytes: Some(upload.bytes), ..upload.told(&id) };
            self.tell(self.upload_ticket(&upload), Event::TransferFailed(told));
        }
    }

    pub(super) fn uploads_timeouts(&mut self) {
        let now = self.now;
        self.pass_slots_on();
        for id in self.transfers.queue.expire(now) {
            self.refuse_upload(&id, FileRefusal::Busy);
        }
        let late = |upload: &Upload| match upload.stage {
            Stage::Measuring { deadline, .. } | Stage::Opening { deadline, .. } => now >= deadline,
            Stage::Waiting { .. } | Stage::Running => false,
        };
        let late: Vec<_> = self.transfers.uploads.iter().filter(|(_, u)| late(u)).map(|(id, _)| *id).collect();
        for id in late {
            self.cancel_files(id, false);
            self.refuse_upload(&id, FileRefusal::Unreadable);
        }
        let silent = |upload: &Upload| matches!(upload.stage, Stage::Waiting { again, .. } if now >= again);
        if self.transfers.uploads.values().any(silent) {
            self.tell_places();
        }
    }
}

/// States of folders whose gaps were told.
const LEFT_OUT_KNOWN: usize = 64;
/// Requests that may be open at once: in line, being opened, or running.
const UPLOADS_MAX: usize = 2 * LINE_MAX;
/// Of them, those of one peer.
const UPLOADS_PER_PEER: usize = 16;
/// How long the file side may take to look how much something is.
const MEASURE_DEADLINE: Duration = Duration::from_secs(60);
/// How long it may take to open and hash it; it has a deadline of its own before this one.
const OPEN_DEADLINE: Duration = Duration::from_secs(1_860);
/// How often an asker in line is told where it stands if nothing changes. Its deadline is longer.
const PLACE_AGAIN: Duration = Duration::from_secs(60);
/// Below this, bytes a second, a slot goes on to others.
const FLOOR: u64 = 8 << 10;
/// How often an asker is told how far a hash is.
const HASHING_AGAIN: Duration = Duration::from_secs(2);
