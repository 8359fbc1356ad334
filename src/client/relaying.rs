//! A file whose two sides do not reach each other goes over a server: when it is asked for that, and what it is told.

use super::core::Core;
use super::effects::{FilesCommand, LegHost, Reach};
use super::event::Event;
use super::requests::Purpose;
use crate::limits::{RELAY_AFTER, RELAY_ANEW};
use crate::wire::frame::{Code, Reply, Request};
use crate::wire::id::{RoomId, TransferId};
use crate::wire::leg::{LegKey, RelayTokens};
use crate::wire::name::Name;
use std::time::Duration;

/// A session that may run over a server.
#[derive(Debug)]
pub(super) struct Relaying {
    /// The home of the conversation in which it was agreed on: both sides know it.
    server: Name,
    tokens: RelayTokens,
    stage: Stage,
    /// How many it has given.
    given: u32,
    /// It was too busy, and the user knows.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server is asked then.
    Wanted(Duration),
    Asked,
    /// It gave a leg, then.
    Given(Duration),
    /// A direct path was found first.
    Spared,
}

impl Relaying {
    pub const fn next_timeout(&self) -> Option<Duration> {
        match self.stage {
            Stage::Wanted(at) => Some(at),
            _ => None,
        }
    }
}

impl Core {
    /// A session begins. Where the peer said no address, or we want no direct path, its server is asked at once.
    pub(super) fn consider_relay(&mut self, id: TransferId, group: &RoomId, tokens: RelayTokens, unreachable: bool) {
        let wait = match self.config.files.reach {
            Reach::Direct => return,
            Reach::Relayed => Duration::ZERO,
            Reach::Any if unreachable => Duration::ZERO,
            Reach::Any => RELAY_AFTER,
        };
        let Some(server) = self.conversations.get(group).map(|c| c.server.clone()) else { return };
        let stage = Stage::Wanted(self.now + wait);
        self.transfers.relays.insert(id, Relaying { server, tokens, stage, given: 0, told: false });
    }

    /// The session has a path. What the server was not asked for yet, or has not given, is not needed now.
    pub(super) fn path_found(&mut self, transfer: &TransferId) {
        if let Some(relay) = self.transfers.relays.get_mut(transfer).filter(|relay| relay.given == 0) {
            relay.stage = Stage::Spared;
        }
    }

    /// The session's path has fallen silent, be it direct or over a leg: it may go on over a leg, or another one.
    pub(super) fn relay_wanted(&mut self, transfer: &TransferId) {
        let now = self.now;
        let Some(relay) = self.transfers.relays.get_mut(transfer) else { return };
        let due = match relay.stage {
            Stage::Spared => true,
            // A peer may say again and again that it does not hear us: for that no server is asked without end.
            Stage::Given(at) => now >= at + RELAY_ANEW * (1 << relay.given.saturating_sub(1).min(MOST_DOUBLED)),
            Stage::Wanted(_) | Stage::Asked => false,
        };
        if due {
            relay.stage = Stage::Wanted(now);
            self.relays_timeouts();
        }
    }

    /// We have a session at the server anew: it may have forgotten our legs, or wait for us at a link that is gone.
    pub(super) fn resume_relays(&mut self, server: &Name) {
        let now = self.now;
        for relay in self.transfers.relays.values_mut().filter(|relay| relay.server == *server) {
            if matches!(relay.stage, Stage::Given(_) | Stage::Asked) {
                relay.stage = Stage::Wanted(now);
            }
        }
        self.relays_timeouts();
    }

    pub(super) fn relays_timeouts(&mut self) {
        let now = self.now;
        let live = |id: &TransferId| self.transfers.sources.contains_key(id) || self.transfers.uploads.contains_key(id);
        let over: Vec<TransferId> = self.transfers.relays.keys().filter(|id| !live(id)).copied().collect();
        over.iter().for_each(|id| drop(self.transfers.relays.remove(id)));
        let due =
            self.transfers.relays.iter_mut().filter(|(_, relay)| relay.next_timeout().is_some_and(|at| at <= now));
        let due = due.map(|(id, relay)| {
            relay.stage = Stage::Asked;
            (*id, relay.server.clone(), relay.tokens)
        });
        for (id, server, tokens) in due.collect::<Vec<_>>() {
            if !self.request(&server, Request::RelayRegister(tokens), Purpose::Relay(id)) {
                self.no_leg(&id);
            }
        }
    }

    /// The server has answered.
    pub(super) fn leg_given(&mut self, server: &Name, transfer: TransferId, reply: Reply) {
        let now = self.now;
        let Some(relay) = self.transfers.relays.get_mut(&transfer).filter(|relay| relay.stage == Stage::Asked) else {
            // A direct path was found meanwhile.
            return;
        };
        let ticket = match reply {
            Reply::RelayTicket(ticket) => ticket,
            Reply::Refused(refusal) if refusal.code == Code::TooMany => {
                relay.stage = Stage::Wanted(now + RELAY_ANEW);
                if relay.given == 0 && !std::mem::replace(&mut relay.told, true) {
                    let text = format!("{server} does not pass this file on yet: {}", refusal.message);
                    self.tell(None, Event::Notice { from: "relay".into(), text });
                }
                return;
            }
            Reply::Refused(refusal) => {
                self.transfers.relays.remove(&transfer);
                let text = format!("{server} does not pass this file on: {}", refusal.message);
                let notice = Event::Notice { from: "relay".into(), text };
                return match self.transfers.sources.get(&transfer).map(|source| source.download) {
                    Some(download) => self.tell_of(&download, notice),
                    None => self.tell(None, notice),
                };
            }
            _ => return,
        };
        (relay.stage, relay.given) = (Stage::Given(now), relay.given.saturating_add(1));
        let host = match self.servers.endpoint(server) {
            _ if self.is_access(server) => LegHost::Linked,
            Some(endpoint) => LegHost::At(endpoint.host_text()),
            // The link leads there too.
            None => LegHost::Unknown,
        };
        self.tell_files(FilesCommand::Relay {
            transfer,
            server: server.clone(),
            host,
            port: ticket.port,
            leg: *ticket.leg,
            key: LegKey::new(*ticket.key),
        });
    }

    /// The server could not be asked, or the link broke before it answered: it is asked again while the session looks for a path.
    pub(super) fn no_leg(&mut self, transfer: &TransferId) {
        let again = self.now + ASK_AGAIN;
        if let Some(relay) = self.transfers.relays.get_mut(transfer).filter(|relay| relay.stage == Stage::Asked) {
            relay.stage = Stage::Wanted(again);
        }
    }
}

const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often the pause between two legs of one session is doubled.
const MOST_DOUBLED: u32 = 3;
