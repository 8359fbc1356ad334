//! The two streams with one other node, and their epochs.
//!
//! Each end has an epoch for the pair, 1 at first, and raises it whenever it gives the streams up. Every packet says
//! both, as its sender knows them; messages count only when both are right. So when one end begins anew the other hears
//! of it with the first packet, and no old message gets into the new streams.

use std::time::Duration;

use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::packet::{Ack, Target};
use crate::wire::vouch::NodeId;

/// The streams with one process of another node.
#[derive(Debug)]
pub(super) struct Streams {
    epoch: u32,
    peer_epoch: u32,
    /// Until the peer is known to have heard of our epoch: when to tell it again.
    tell_at: Option<Duration>,
    tells: u32,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
}

/// What a packet's epochs mean for the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epochs {
    /// Its messages and acknowledgement count.
    Current,
    /// They do not.
    Void,
    /// The streams are void at both ends and begin anew; those of the packet count.
    Anew,
    /// The same, and it says nothing that counts.
    AnewAndVoid,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self { epoch: 1, peer_epoch: 1, tell_at: None, tells: 0, outgoing: Outgoing::new(), incoming: Incoming::new() }
    }

    /// Gives the streams up and tells the peer.
    pub(super) fn reset(&mut self, now: Duration) {
        self.begin(self.epoch.saturating_add(1), self.peer_epoch);
        self.tell_at = Some(now);
    }

    fn begin(&mut self, epoch: u32, peer_epoch: u32) {
        *self = Self { epoch, peer_epoch, ..Self::new() };
    }

    /// Judges a packet by its epochs.
    pub(super) fn judge(&mut self, now: Duration, target: &Target) -> Epochs {
        let (theirs, ours) = (target.epoch, target.peer_epoch);
        if ours > self.epoch {
            // We have forgotten what the peer remembers.
            self.begin(ours.saturating_add(1), theirs.max(self.peer_epoch));
            self.tell_at = Some(now);
            return Epochs::AnewAndVoid;
        }
        if theirs < self.peer_epoch || (theirs == self.peer_epoch && ours < self.epoch) {
            // It is to hear of it, but not for each packet of a flight.
            self.tell_at = Some(self.tell_at.map_or(now + TELL_FIRST, |at| at.min(now + TELL_FIRST)));
            return Epochs::Void;
        }
        if theirs > self.peer_epoch {
            return self.adopt(now, theirs, ours);
        }
        self.tell_at = None;
        Epochs::Current
    }

    fn adopt(&mut self, now: Duration, theirs: u32, ours: u32) -> Epochs {
        if ours == self.epoch {
            self.begin(self.epoch, theirs);
            return Epochs::Anew;
        }
        // It has not heard of our epoch, so it has taken nothing of it: what waits for it is still good.
        let fresh = self.incoming.is_fresh();
        self.peer_epoch = theirs;
        if fresh {
            self.outgoing.lose_all();
        } else {
            self.begin(self.epoch, theirs);
        }
        self.tell_at = Some(now);
        if fresh { Epochs::Void } else { Epochs::AnewAndVoid }
    }

    /// When something has to be told without a message.
    pub(super) fn ack_at(&self) -> Option<Duration> {
        [self.incoming.ack_at(), self.tell_at].into_iter().flatten().min()
    }

    /// What stands before the messages in a packet to the peer.
    pub(super) fn target(&mut self, now: Duration, id: NodeId, instance: u64, base: u64) -> Target {
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tells = (self.tells + 1).min(5);
            // Forgotten as soon as a packet shows that the peer knows.
            self.tell_at = Some(now + TELL_AGAIN * (1 << self.tells));
        }
        let ack: Ack = self.incoming.ack();
        Target { id, instance, epoch: self.epoch, peer_epoch: self.peer_epoch, base, ack }
    }
}

const TELL_FIRST: Duration = Duration::from_millis(5);
const TELL_AGAIN: Duration = Duration::from_millis(100);
