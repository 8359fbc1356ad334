//! The other servers, as our clients are told of them.

use super::{Act, Relay};
use crate::limits::FRAME_MAX;
use crate::mesh::NodeInfo;
use crate::server::io::SessionId;
use crate::wire::frame::{Push, ServerInfo, ToClient};
use crate::wire::vouch::ServerCert;
use std::sync::Arc;
use std::time::Duration;

/// When clients are told, and what.
#[derive(Debug, Default)]
pub(super) struct Listing {
    due: Option<Duration>,
    told: Option<Duration>,
    /// What all were told last.
    last: Option<Arc<[u8]>>,
    /// The encoded push, and when it was made.
    frame: Option<(Arc<[u8]>, Duration)>,
}

impl Listing {
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// A server comes, or something of it has changed.
    pub(super) fn change(&mut self, old: Option<&NodeInfo>, new: &NodeInfo, now: Duration) {
        let same = |old: &NodeInfo| {
            (&old.name, &old.key, &old.vouch, &old.endpoints) == (&new.name, &new.key, &new.vouch, &new.endpoints)
        };
        let as_far = |old: &NodeInfo| (old.hops, old.round_trip) == (new.hops, new.round_trip);
        match old {
            Some(old) if same(old) && as_far(old) => {}
            Some(old) if same(old) => self.tell(now, MEASURED),
            _ => self.tell(now, MOVED),
        }
    }

    pub(super) fn gone(&mut self, now: Duration) {
        self.tell(now, MOVED);
    }

    /// At once, unless that was done a moment ago.
    fn tell(&mut self, now: Duration, pause: Duration) {
        let due = self.told.map_or(now, |told| now.max(told + pause));
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        self.frame = None;
    }
}

impl Relay {
    /// Tells all clients, if it is time.
    pub(super) fn tell_servers(&mut self) {
        if self.listing.due.is_none_or(|due| due > self.now) {
            return;
        }
        (self.listing.due, self.listing.told) = (None, Some(self.now));
        let frame = self.servers();
        if self.listing.last.as_ref() == Some(&frame) {
            return;
        }
        self.listing.last = Some(Arc::clone(&frame));
        for session in self.access.sessions() {
            self.acts.push_back(Act::Client(session, Arc::clone(&frame)));
        }
    }

    pub(super) fn tell_servers_to(&mut self, session: SessionId) {
        let frame = self.servers();
        if self.listing.last.as_ref() != Some(&frame) {
            // Not all have heard the same now.
            self.listing.last = None;
        }
        self.acts.push_back(Act::Client(session, frame));
    }

    fn servers(&mut self) -> Arc<[u8]> {
        if let Some((frame, made)) = &self.listing.frame
            && self.now < *made + RENEWED
        {
            return Arc::clone(frame);
        }
        let mut nearest: Vec<_> = self.nodes.values().filter(|node| !self.sight.is_lost(&node.id)).collect();
        nearest.sort_by_key(|node| (node.round_trip, node.hops, node.id));
        let mut bytes = 0;
        let infos = nearest.into_iter().map(|node| self.info(node)).take_while(|info| {
            bytes += info.vouch.len() + info.endpoints.iter().map(|e| e.len() + 8).sum::<usize>() + INFO_BYTES;
            bytes <= FRAME_MAX / 2
        });
        let frame: Arc<[u8]> = ToClient::Push(Push::Servers(infos.collect())).to_bytes().into();
        self.listing.frame = Some((Arc::clone(&frame), self.now));
        frame
    }

    fn info(&self, node: &NodeInfo) -> ServerInfo {
        // Where no authority that our clients know vouches for it, the operator does, who has listed it.
        let known = |cert: &&ServerCert| self.config.authorities.contains(&cert.signer());
        let vouch = node.vouch.as_ref().filter(known).map(ServerCert::to_bytes).unwrap_or_else(|| {
            let not_after = self.wall_ms.saturating_add(LISTED_MS);
            ServerCert::issue(&self.config.identity, node.name.clone(), node.key, not_after).to_bytes()
        });
        ServerInfo {
            name: node.name.clone(),
            key: (*node.key.as_bytes()).into(),
            vouch: vouch.into(),
            endpoints: node.endpoints.clone(),
            hops: node.hops,
            round_trip_us: u32::try_from(node.round_trip.as_micros()).unwrap_or(u32::MAX),
        }
    }
}

/// Between two lists, where a server came, went or moved.
const MOVED: Duration = Duration::from_secs(1);
/// Between two lists, where only the way to a server was measured anew.
const MEASURED: Duration = Duration::from_secs(30);
/// A list with signatures of ours is made anew after this time.
const RENEWED: Duration = Duration::from_secs(3600);
/// How long our word on a listed server holds: a day, milliseconds.
const LISTED_MS: u64 = 24 * 3600 * 1000;
/// More than the rest of an entry takes, bytes.
const INFO_BYTES: usize = 128;
