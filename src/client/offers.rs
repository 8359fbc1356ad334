//! Offers: what we would like to send to somebody, and what others would like to send to us. Nothing is written before its receiver said so.

use super::core::{Core, Ticket};
use super::download::Download;
use super::effects::{FilesCommand, OfferReady, OfferRefusal, Offered, Skipped};
use super::event::{self, Event};
use super::problem::{FAILED, NOT_FOUND, PEER_REFUSED, Problem};
use super::refusing::by_their_rule;
use super::transfers::shown_name;
use crate::limits::FILE_NAME_MAX;
use crate::transfer::name::SafeName;
use crate::transfer::restrict::{Item, Used, Verdict};
use crate::wire::id::{OfferId, RoomId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{Body, FileKind, FileOffer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Offers {
    /// Ours, to others.
    pub made: BTreeMap<OfferId, Made>,
    /// Those of others, to us, that wait for a word.
    received: BTreeMap<OfferId, Received>,
}

/// What we offer to one person, who alone may fetch it.
#[derive(Debug)]
pub(super) struct Made {
    pub ticket: Ticket,
    peer: FullName,
    /// The room through which it is offered, whose rules hold.
    room: Option<RoomId>,
    file: String,
    kind: FileKind,
    size: Option<u64>,
    entries: Option<u64>,
    /// Once it is hashed and told.
    root: Option<[u8; 32]>,
    /// Not while it is hashed.
    until: Option<Duration>,
}

#[derive(Debug)]
struct Received {
    peer: FullName,
    offer: FileOffer,
    until: Duration,
}

impl Offers {
    pub const fn new() -> Self {
        Self { made: BTreeMap::new(), received: BTreeMap::new() }
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        let made = self.made.values().filter_map(|made| made.until);
        made.chain(self.received.values().map(|received| received.until)).min()
    }

    /// Whether we have offered this content to this person.
    pub fn stands(&self, offer: &OfferId, peer: &FullName, root: Option<[u8; 32]>) -> bool {
        self.made.get(offer).is_some_and(|made| made.peer == *peer && made.root.is_some() && made.root == root)
    }

    pub fn ticket(&self, offer: &OfferId) -> Ticket {
        self.made.get(offer)?.ticket
    }

    pub fn all(&self) -> impl Iterator<Item = event::Transfer> {
        let made = self.made.iter().map(|(id, made)| made.told(id));
        made.chain(self.received.values().map(Received::told))
    }
}

impl Made {
    pub fn told(&self, id: &OfferId) -> event::Transfer {
        event::Transfer {
            id: id.to_string(),
            direction: "upload".into(),
            peer: self.peer.to_string(),
            file: shown_name(&self.file, self.kind),
            size: self.size,
            entries: self.entries.filter(|_| self.kind == FileKind::Folder),
            root: self.root.as_ref().map(|root| super::search::hex(root)),
            ..event::Transfer::default()
        }
    }
}

impl Received {
    fn told(&self) -> event::Transfer {
        let FileOffer { offer, name, size, root, kind, entries, .. } = &self.offer;
        event::Transfer {
            id: offer.to_string(),
            direction: "download".into(),
            peer: self.peer.to_string(),
            file: shown_name(name, *kind),
            size: Some(*size),
            entries: (*kind == FileKind::Folder).then_some(*entries),
            root: Some(super::search::hex(&**root)),
            ..event::Transfer::default()
        }
    }
}

impl Core {
    /// `@NAME sendfile PATH`: ends when it has been fetched, refused, or forgotten.
    pub(super) fn offer_file(&mut self, number: u64, peer: FullName, path: &str) -> Result<(), Problem> {
        if self.peers.is_changed(&peer) {
            return Err(super::dispatch::key_changed(&peer));
        }
        if self.me() == Some(&peer) {
            return Err(Problem::new("yourself", FAILED, "that is you"));
        }
        if self.transfers.offers.made.len() >= OFFERS_MAX {
            return Err(Problem::new("too_many", FAILED, "you offer too much already").hint("@me cancel ID ends one"));
        }
        let id = self.new_id();
        let kind = if path.ends_with('/') { FileKind::Folder } else { FileKind::File };
        let path = PathBuf::from(path);
        // Of `..` the name is known once it is opened.
        let name = path.file_name().unwrap_or(path.as_os_str());
        let file = name.to_string_lossy().trim_end_matches('/').to_owned();
        let (size, entries, root, until) = Default::default();
        let room = self.current.filter(|room| self.rooms_between(&peer, None).contains(room));
        let rules = self.rules_to((&peer, self.key_of(&peer)), room, Used::default());
        rules.judge(&Item { name: &file, folder: kind == FileKind::Folder, ..Item::default() })?;
        let made = Made { ticket: Some(number), peer, room, file, kind, size, entries, root, until };
        self.transfers.offers.made.insert(id, made);
        self.tell_files(FilesCommand::PrepareOffer { offer: id, path, rules });
        Ok(())
    }

    /// It is hashed: the other side is asked.
    pub(super) fn offer_ready(&mut self, id: OfferId, result: Result<OfferReady, OfferRefusal>) {
        let Some(made) = self.transfers.offers.made.get_mut(&id) else {
            return self.cancel_files(id, false);
        };
        let ready = match result {
            Ok(ready) => ready,
            Err(refusal) => {
                let problem = problem_of(refusal, &made.file);
                return self.offer_failed(&id, problem);
            }
        };
        let OfferReady { name, kind, root, size, entries, skipped } = ready;
        let (peer, room) = (made.peer.clone(), made.room);
        let item = Item { name: &name, folder: kind == FileKind::Folder, size: Some(size), root: Some(&root) };
        if let Err(verdict) = self.rules_to((&peer, self.key_of(&peer)), room, Used::default()).judge(&item) {
            return self.offer_failed(&id, verdict.into());
        }
        let Some(made) = self.transfers.offers.made.get_mut(&id) else { return };
        (made.file, made.kind, made.root) = (name.clone(), kind, Some(root));
        (made.size, made.entries, made.until) = (Some(size), Some(entries), Some(self.now + OFFER_TTL));
        let (ticket, peer, told) = (made.ticket, made.peer.clone(), made.told(&id));
        for text in left_out(&skipped, "is left out") {
            self.tell(ticket, Event::Notice { from: "sendfile".into(), text });
        }
        self.tell(ticket, Event::TransferOffered(told));
        let offer = FileOffer { offer: id, name, size, root: root.into(), kind, entries, room };
        if let Err(problem) = self.send_direct(&peer, Body::FileOffer(offer), None) {
            self.offer_failed(&id, problem);
        }
    }

    /// Nothing comes of an offer of ours.
    pub(super) fn offer_failed(&mut self, id: &OfferId, problem: Problem) {
        if let Some(made) = self.transfers.offers.made.remove(id) {
            self.cancel_files(*id, false);
            self.fail(made.ticket, problem);
        }
    }

    /// It has been fetched whole.
    pub(super) fn offer_taken(&mut self, id: &OfferId) {
        if let Some(made) = self.transfers.offers.made.remove(id) {
            self.cancel_files(*id, false);
            self.done(made.ticket, 0);
        }
    }

    /// The other side said no, or cannot take more offers.
    pub(super) fn offer_refused(&mut self, from: &FullName, id: &OfferId, full: bool, detail: Option<String>) {
        let Some(made) = self.transfers.offers.made.get(id).filter(|made| made.peer == *from) else { return };
        let (word, rule) = match (&detail, full) {
            (Some(_), _) => ("restricted", Some(by_their_rule(from, detail.clone()))),
            (None, true) => ("too_many", None),
            (None, false) => ("refused", None),
        };
        let told = event::Transfer {
            reason: Some(word.into()),
            detail: rule.as_ref().map(|problem| problem.message.clone()),
            ..made.told(id)
        };
        self.tell(made.ticket, Event::OfferRefused(told));
        let problem = if let Some(problem) = rule {
            problem
        } else if full {
            Problem::new("too_many", PEER_REFUSED, format!("{from} has too many offers waiting"))
                .hint("try again in a while")
        } else {
            Problem::new("refused", PEER_REFUSED, format!("{from} does not want it"))
        };
        self.offer_failed(id, problem);
    }

    /// We want it to be fetched no more.
    pub(super) fn withdraw_offer(&mut self, id: &OfferId) {
        let Some(made) = self.transfers.offers.made.remove(id) else { return };
        if made.root.is_some() {
            let _ = self.send_direct(&made.peer, Body::OfferWithdrawn { offer: *id }, None);
        }
        let told = event::Transfer { reason: Some("cancelled".into()), ..made.told(id) };
        self.tell(made.ticket, Event::TransferFailed(told));
        self.done(made.ticket, FAILED);
    }

    /// Somebody would like to send us something: it is shown under the name that it would get.
    pub(super) fn offered(&mut self, from: &FullName, mut offer: FileOffer) {
        let received = &self.transfers.offers.received;
        let theirs = received.values().filter(|received| received.peer == *from).count();
        let name = SafeName::new(&offer.name).ok().filter(|_| offer.name.len() <= FILE_NAME_MAX);
        let Some(name) = name.filter(|_| !received.contains_key(&offer.offer) && !self.peers.is_changed(from)) else {
            return;
        };
        offer.name = name.as_str().to_owned();
        let full = theirs >= OFFERS_PER_PEER || received.len() >= OFFERS_MAX;
        if full || self.is_ending() || !self.peers.may_ask(from, self.now) {
            let _ = self.send_direct(from, Body::OfferRefused { offer: offer.offer, full: true, detail: None }, None);
            return;
        }
        let id = offer.offer;
        let received = Received { peer: from.clone(), offer, until: self.now + OFFER_TTL };
        if let Err(verdict) = self.may_take(&received) {
            return self.refuse_offer_by_rule(from, id, received.told(), verdict.detail());
        }
        self.tell(None, Event::TransferOffered(received.told()));
        self.transfers.offers.received.insert(id, received);
        let welcome = self.config.files.accept_from.clone();
        if welcome.iter().any(|name| self.full_name(name).is_ok_and(|name| name == *from)) {
            self.take_offer(&id, None);
        }
    }

    /// It was taken back by who made it.
    pub(super) fn offer_withdrawn(&mut self, from: &FullName, id: &OfferId) {
        if self.transfers.offers.received.get(id).is_some_and(|received| received.peer == *from) {
            self.drop_received(id, "withdrawn");
        }
    }

    /// Nothing is offered any more between us and somebody.
    pub(super) fn part_offers(&mut self, peer: &FullName) {
        let made = self.transfers.offers.made.iter().filter(|(_, made)| made.peer == *peer);
        for id in made.map(|(id, _)| *id).collect::<Vec<OfferId>>() {
            self.withdraw_offer(&id);
        }
        let received = self.transfers.offers.received.iter().filter(|(_, received)| received.peer == *peer);
        for id in received.map(|(id, _)| *id).collect::<Vec<OfferId>>() {
            self.drop_received(&id, "withdrawn");
        }
    }

    fn drop_received(&mut self, id: &OfferId, reason: &str) {
        if let Some(received) = self.transfers.offers.received.remove(id) {
            let told = event::Transfer { reason: Some(reason.to_owned()), ..received.told() };
            self.tell(None, Event::OfferRefused(told));
        }
    }

    /// `@me accept ID`; the beginning of the id will do.
    pub(super) fn accept_offer(&mut self, number: u64, text: &str) -> Result<(), Problem> {
        let id = self.offer_named(text)?;
        // Rules may have come since it was shown.
        if let Some(Err(verdict)) = self.transfers.offers.received.get(&id).map(|received| self.may_take(received)) {
            let Some(received) = self.transfers.offers.received.remove(&id) else { return Ok(()) };
            self.refuse_offer_by_rule(&received.peer.clone(), id, received.told(), verdict.detail());
            return Err(verdict.into());
        }
        self.take_offer(&id, Some(number));
        Ok(())
    }

    /// Whether what somebody offers may come.
    fn may_take(&self, received: &Received) -> Result<(), Verdict> {
        let (peer, offer) = (&received.peer, &received.offer);
        let folder = offer.kind == FileKind::Folder;
        let item = Item { name: &offer.name, folder, size: Some(offer.size), root: Some(&*offer.root) };
        let key = self.key_of(peer);
        let used = self.used_by(&offer.offer, (peer, &key), &offer.root);
        let rules = self.rules_from((peer, key), offer.room, Used { at_once: 0, ..used });
        rules.judge(&item)?;
        rules.judge_amount(offer.entries, offer.size)
    }

    /// `@me refuse ID`.
    pub(super) fn refuse_offer(&mut self, number: u64, text: &str) -> Result<(), Problem> {
        let id = self.offer_named(text)?;
        if let Some(received) = self.transfers.offers.received.remove(&id) {
            // Not told, it expires there.
            let _ = self.send_direct(&received.peer, Body::OfferRefused { offer: id, full: false, detail: None }, None);
        }
        self.ok(number, "refuse");
        Ok(())
    }

    fn offer_named(&self, text: &str) -> Result<OfferId, Problem> {
        let mut fits = self.transfers.offers.received.keys().filter(|id| id.to_string().starts_with(text));
        match (fits.next(), fits.next()) {
            (Some(id), None) => Ok(*id),
            _ => Err(Problem::new("not_found", NOT_FOUND, "no offer, or more than one, has this id")),
        }
    }

    /// Yes: an ordinary download of that content, from who offers it.
    fn take_offer(&mut self, id: &OfferId, ticket: Ticket) {
        let Some(Received { peer, offer, .. }) = self.transfers.offers.received.remove(id) else { return };
        let mut download = Download::new(ticket, offer.name, offer.kind, true);
        download.through = offer.room.filter(|room| self.rooms_between(&peer, None).contains(room));
        (download.offer, download.root, download.fixed) = (Some(*id), Some(*offer.root), true);
        (download.total, download.offered) =
            (Some(offer.size), Some(Offered { size: offer.size, entries: offer.entries }));
        download.heard_of(&peer, None);
        let _: TransferId = self.begin_download(download);
    }

    pub(super) fn offers_timeouts(&mut self) {
        let now = self.now;
        let taken = |id: &OfferId| self.transfers.uploads.values().any(|upload| upload.offer == Some(*id));
        let late = self.transfers.offers.made.iter().filter(|(_, made)| made.until.is_some_and(|until| now >= until));
        let (busy, late): (Vec<_>, Vec<_>) = late.map(|(id, _)| *id).partition(taken);
        for id in busy {
            // While it is fetched it stands, and after that for as long again.
            self.transfers.offers.made.get_mut(&id).into_iter().for_each(|made| made.until = Some(now + OFFER_TTL));
        }
        for id in late {
            let Some(made) = self.transfers.offers.made.get(&id) else { continue };
            let told = event::Transfer { reason: Some("expired".into()), ..made.told(&id) };
            let (ticket, text) = (made.ticket, format!("{} did not take it in time", made.peer));
            self.tell(ticket, Event::OfferRefused(told));
            self.offer_failed(&id, Problem::new("timeout", FAILED, text));
        }
        let received = self.transfers.offers.received.iter().filter(|(_, received)| now >= received.until);
        let stale: Vec<OfferId> = received.map(|(id, _)| *id).collect();
        stale.iter().for_each(|id| self.drop_received(id, "expired"));
    }
}

/// What the user is told of what a folder holds beside its plain files: the first by name, the others by number.
pub(super) fn left_out(skipped: &Skipped, what: &str) -> Vec<String> {
    let why = "a link, a special or hidden file, too deep, or a name that not every system takes";
    let named = skipped.paths.iter().take(SKIPPED_TOLD).map(|path| format!("{path} {what}: {why}"));
    let told = u32::try_from(skipped.paths.len().min(SKIPPED_TOLD)).unwrap_or(u32::MAX);
    let more = skipped.count.saturating_sub(told);
    named.chain((more > 0).then(|| format!("{more} more {what}"))).collect()
}

/// Why this file or folder is not offered.
fn problem_of(refusal: OfferRefusal, file: &str) -> Problem {
    match refusal {
        OfferRefusal::NotFound => Problem::new("not_found", NOT_FOUND, format!("there is no file or folder {file}")),
        OfferRefusal::Unfit => {
            let why = "only plain files, and folders with plain files in them, are sent";
            Problem::new("unfit", FAILED, format!("{file} cannot be sent: {why}"))
        }
        OfferRefusal::Unreadable(why) => Problem::new("unreadable", FAILED, format!("{file} cannot be sent: {why}")),
    }
}

/// How long an offer stands.
const OFFER_TTL: Duration = Duration::from_secs(600);
/// What is left out of a folder and told by name.
const SKIPPED_TOLD: usize = 8;
/// Offers that may stand at once, each way.
const OFFERS_MAX: usize = 64;
/// Of those received, one peer's.
const OFFERS_PER_PEER: usize = 8;
