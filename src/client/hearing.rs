//! What others say to us, by who they are; and round trips.

use super::core::Core;
use super::effects::Effect;
use super::event::Event;
use super::peers::{Meeting, PING_DEADLINE, Ping};
use super::problem::{NOT_FOUND, Problem};
use super::rooms::millis;
use crate::crypto::identity::PublicKey;
use crate::group::Sealer;
use crate::wire::id::RoomId;
use crate::wire::name::FullName;
use crate::wire::payload::{Body, Envelope};
use rand_core::RngCore;

impl Core {
    /// A certified key of somebody: pinned at first sight, told if it is another than before.
    pub(super) fn meet(&mut self, name: &FullName, key: &PublicKey) {
        if self.me() == Some(name) {
            return;
        }
        match self.peers.meet(name, key) {
            Meeting::New => self.effect(Effect::Pin { name: name.clone(), key: *key }),
            Meeting::Changed => self.tell(None, Event::KeyChanged { name: name.to_string() }),
            Meeting::NotKept => {
                let text = "the keys of as many people are kept as may be: whether the key of a new one changes is not noticed";
                self.tell(None, Event::Notice { from: "keys".into(), text: text.into() });
            }
            Meeting::Known | Meeting::StillChanged => {}
        }
    }

    /// Somebody said something in a room or to us; sender and order are proven.
    pub(super) fn said(&mut self, id: RoomId, sender: &Sealer, envelope: Envelope) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let (is_room, room) = (conversation.is_room(), conversation.title());
        // The room depends on these, whoever says them.
        let serves =
            matches!(envelope.body, Body::NewSecret { .. } | Body::RotationWanted { .. } | Body::SecretWanted { .. });
        if self.peers.is_ignored(&sender.name) && !serves || !self.peers.first_time(&sender.key, envelope.id) {
            return;
        }
        let (from, message) = (sender.name.to_string(), envelope.id.to_string());
        match (envelope.body, is_room) {
            (Body::Text(text), true) => self.tell(None, Event::Message { room, from, text, id: message }),
            (Body::Text(text), false) => self.tell(None, Event::Direct { from, text, id: message }),
            (Body::NewSecret { version, secret }, true) => self.new_secret(id, sender, version, &secret),
            (Body::RotationWanted { version }, true) => self.rotation_wanted(id, version),
            (Body::SecretWanted { version }, true) => self.secret_wanted(id, &sender.key, version),
            (Body::WhoHas { search, pattern }, true) => self.asked_who_has(id, &sender.name, search, pattern),
            (Body::Holds { search, rows, more }, false) => self.holds(&sender.name, &search, rows, more),
            (Body::FileRequest(request), false) => self.file_request(id, sender, request),
            (Body::FileAnswer(answer), false) => self.file_answer(id, sender, &answer),
            (Body::FileRefused { transfer, reason, detail }, false) => {
                self.file_refused(sender, &transfer, reason, detail);
            }
            (Body::FileQueued { transfer, place, seconds }, false) => self.queued(sender, &transfer, place, seconds),
            (Body::FileHashing { transfer, bytes, total }, false) => {
                self.holder_hashes(sender, &transfer, bytes, total)
            }
            (Body::FileGivenUp { transfer, detail }, false) => self.given_up(sender, &transfer, detail),
            (Body::FileOffer(offer), false) => self.offered(&sender.name, offer),
            (Body::OfferRefused { offer, full, detail }, false) => {
                self.offer_refused(&sender.name, &offer, full, detail);
            }
            (Body::OfferWithdrawn { offer }, false) => self.offer_withdrawn(&sender.name, &offer),
            (Body::Ping { token }, false) => {
                // Whether it arrives is the asker's business.
                let _ = self.send_direct(&sender.name, Body::Pong { token }, None);
            }
            (Body::Pong { token }, false) => self.pong(&sender.name, token),
            // In the wrong place.
            _ => {}
        }
    }

    /// `@NAME ping`.
    pub(super) fn ping(&mut self, number: u64, peer: &FullName) -> Result<(), Problem> {
        let token = self.rng.next_u64();
        self.send_direct(peer, Body::Ping { token }, None)?;
        let ping = Ping { ticket: Some(number), peer: peer.clone(), sent: self.now };
        self.peers.pings.insert(token, ping);
        Ok(())
    }

    fn pong(&mut self, from: &FullName, token: u64) {
        if self.peers.pings.get(&token).is_none_or(|ping| ping.peer != *from) {
            return;
        }
        let Some(ping) = self.peers.pings.remove(&token) else { return };
        let rtt_ms = millis(self.now.saturating_sub(ping.sent));
        let (target, route) = (ping.peer.to_string(), "server".to_owned());
        let files = self.transfers.ways.with(&ping.peer);
        let (files_way, files_route) = files.map(|(way, route)| (way.word().to_owned(), route.to_owned())).unzip();
        self.tell(ping.ticket, Event::Pong { target, rtt_ms, route, files_way, files_route });
        self.done(ping.ticket, 0);
    }

    pub(super) fn ping_failed(&mut self, token: u64, problem: Problem) {
        if let Some(ping) = self.peers.pings.remove(&token) {
            self.fail(ping.ticket, problem);
        }
    }

    pub(super) fn peers_timeouts(&mut self) {
        let late: Vec<_> =
            self.peers.pings.iter().filter(|(_, p)| self.now >= p.sent + PING_DEADLINE).map(|(t, _)| *t).collect();
        for token in late {
            let who = self.peers.pings.get(&token).map(|p| p.peer.to_string()).unwrap_or_default();
            self.ping_failed(token, Problem { exit: NOT_FOUND, ..Problem::timeout(&who) });
        }
    }
}
