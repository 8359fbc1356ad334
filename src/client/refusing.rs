//! What a rule says no to: told to the other side, told to the user, and ended where it runs.

use super::core::Core;
use super::download::Again;
use super::effects::{FilesCommand, UploadReady};
use super::event::{self, Event};
use super::problem::{PEER_REFUSED, Problem, REFUSED};
use super::transfers::{Stage as SourceStage, shown_name};
use crate::limits::REFUSAL_DETAIL_MAX;
use crate::transfer::restrict::{Item, Used, Verdict, cut};
use crate::wire::id::{OfferId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{Body, FileKind, FileRefusal};

impl Core {
    /// A request is refused by a rule: the asker hears which, and so does the user here.
    pub(super) fn refuse_by_rule(&mut self, peer: &FullName, id: TransferId, told: event::Transfer, detail: String) {
        let (reason, wire) = (FileRefusal::Restricted, Some(detail.clone()));
        // If it cannot be told, the asker's deadline tells.
        let _ = self.send_direct(peer, Body::FileRefused { transfer: id, reason, detail: wire }, None);
        self.tell_refusal(peer, told, detail);
    }

    /// Told once for each person, file and rule.
    fn tell_refusal(&mut self, peer: &FullName, told: event::Transfer, detail: String) {
        let key = (peer.clone(), told.file.clone(), detail.clone());
        if self.restrictions.told.contains(&key) {
            return;
        }
        self.restrictions.told.push_back(key);
        if self.restrictions.told.len() > TOLD {
            self.restrictions.told.pop_front();
        }
        let (reason, detail) = (Some("restricted".to_owned()), Some(detail));
        self.tell(None, Event::TransferFailed(event::Transfer { reason, detail, ..told }));
    }

    /// The file side has found what a rule is against in what we would send or offer.
    pub(super) fn restricted(&mut self, id: &TransferId, detail: String) {
        if self.transfers.offers.made.contains_key(id) {
            return self.offer_failed(id, by_rule(detail));
        }
        self.refuse_restricted(id, detail);
    }

    /// Ends an upload that a rule is against before its channel runs.
    pub(super) fn refuse_restricted(&mut self, id: &TransferId, detail: String) {
        let Some(upload) = self.forget_upload(id) else { return };
        let told = upload.told(id);
        self.refuse_by_rule(&upload.peer, *id, told, detail);
    }

    /// An offer of somebody that a rule is against is not shown as one: both sides hear why.
    pub(super) fn refuse_offer_by_rule(
        &mut self,
        from: &FullName,
        offer: OfferId,
        told: event::Transfer,
        detail: String,
    ) {
        let body = Body::OfferRefused { offer, full: false, detail: Some(detail.clone()) };
        let _ = self.send_direct(from, body, None);
        let (reason, detail) = (Some("restricted".to_owned()), Some(detail));
        self.tell(None, Event::OfferRefused(event::Transfer { reason, detail, ..told }));
    }

    /// Rules have changed: what runs against them ends at this end too.
    pub(super) fn hold_transfers(&mut self) {
        let uploads = self.transfers.uploads.iter().filter_map(|(id, upload)| {
            let (key, room) = upload.whom();
            let rules = self.rules_to((&upload.peer, key), room, Used::default());
            Some((*id, rules.judge(&upload.item()).err()?))
        });
        for (id, verdict) in uploads.collect::<Vec<_>>() {
            let reason = verdict.detail();
            self.tell_files(FilesCommand::Cancel { transfer: id, reason: reason.clone(), keep: false });
            self.refuse_restricted(&id, reason);
        }
        let sources = self.transfers.sources.iter().filter_map(|(id, source)| {
            let download = self.transfers.downloads.get(&source.download)?;
            let key = self.key_of(&source.peer);
            let rules = self.rules_from((&source.peer, key), download.through, Used::default());
            Some((*id, rules.judge(&download.item()).err()?))
        });
        for (id, verdict) in sources.collect::<Vec<_>>() {
            self.drop_restricted(&id, &verdict);
        }
    }

    /// A source of a download that a rule is against.
    pub(super) fn drop_restricted(&mut self, id: &TransferId, verdict: &Verdict) {
        let Some(source) = self.transfers.sources.get(id) else { return };
        let (peer, running, detail) =
            (source.peer.clone(), matches!(source.stage, SourceStage::Running), verdict.detail());
        self.tell_files(FilesCommand::Drop { transfer: *id, reason: detail.clone() });
        let _ = self.send_direct(&peer, Body::FileGivenUp { transfer: *id, detail: Some(detail.clone()) }, None);
        if running && let Some(download) = self.transfers.sources.get(id).map(|source| source.download) {
            // What has come is against the rule, whoever else has it.
            self.fail_download(&download, by_rule(detail));
            return;
        }
        self.source_ended(id, by_rule(detail), Again::Never);
    }

    /// The asker does not want it any more: a rule of theirs is against it.
    pub(super) fn tell_of_their_rule(&mut self, peer: &FullName, id: &TransferId, detail: String) {
        let Some(upload) = self.transfers.uploads.get(id) else { return };
        let (reason, detail) = (Some("restricted".to_owned()), Some(by_their_rule(peer, Some(detail)).message));
        let told = event::Transfer { reason, detail, bytes: Some(upload.bytes), ..upload.told(id) };
        let ticket = self.upload_ticket(upload);
        self.tell(ticket, Event::TransferFailed(told));
    }

    /// Whoever took this offer may not have it: nobody waits for a second attempt.
    pub(super) fn offer_restricted(&mut self, offer: Option<OfferId>) {
        let problem = Problem::new("restricted", PEER_REFUSED, "a rule there is against it");
        offer.iter().for_each(|offer| self.offer_failed(offer, problem.clone()));
    }

    /// Whether what is ready may be sent, now that its root is known.
    pub(super) fn may_leave(&mut self, id: &TransferId, ready: &UploadReady) -> Result<(), Verdict> {
        let Some(upload) = self.transfers.uploads.get(id) else { return Ok(()) };
        let ((key, room), total) = (upload.whom(), upload.size.unwrap_or(ready.size));
        let used = self.used_by_us(id, &key, &ready.root);
        let rules = self.rules_to((&upload.peer, key), room, used);
        rules.judge(&Item { root: Some(&ready.root), ..upload.item() })?;
        rules.judge_amount(ready.entries, total)?;
        let amount = Some((ready.entries, total)).filter(|_| rules.ask_amounts());
        self.transfers.uploads.get_mut(id).into_iter().for_each(|upload| upload.amount = amount);
        Ok(())
    }
}

/// A rule that we hold to ourselves.
pub(super) fn by_rule(detail: String) -> Problem {
    Problem::new("restricted", REFUSED, detail)
}

/// A rule that the other side holds to, as it says.
pub(super) fn by_their_rule(peer: &FullName, detail: Option<String>) -> Problem {
    let problem = Problem::from(FileRefusal::Restricted);
    match detail {
        Some(detail) => {
            let detail = cut(crate::wire::text::shown(&detail), REFUSAL_DETAIL_MAX);
            Problem::new("restricted", PEER_REFUSED, format!("{peer} says: {detail}"))
        }
        None => problem,
    }
}

/// A name as transfers show it, for a refusal before there is a transfer.
pub(super) fn refused_upload(id: &TransferId, peer: &FullName, file: &str, kind: FileKind) -> event::Transfer {
    event::Transfer {
        id: id.to_string(),
        direction: "upload".into(),
        peer: peer.to_string(),
        file: shown_name(file, kind),
        ..event::Transfer::default()
    }
}

impl From<Verdict> for Problem {
    fn from(verdict: Verdict) -> Self {
        by_rule(verdict.detail())
    }
}

/// Refusals of which it is known that the user was told.
const TOLD: usize = 64;
