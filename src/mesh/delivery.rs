//! The two streams with one other node, and their epochs.
//!
//! Each end has an epoch for the pair, 1 at first, and raises it whenever it gives the streams up. Every packet says
//! both, as its sender knows them; messages count only when both are right. So when one end begins anew the other hears
//! of it with the first packet, and no old message gets into the new streams.

use std::time::Duration;

use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::packet::{Ack, Target};
use crate::crypto::pair::TAG_LEN;
use crate::wire::vouch::NodeId;

/// The streams with one process of another node.
#[derive(Debug)]
pub(super) struct Streams {
    epoch: u64,
    peer_epoch: u64,
    // Until the peer is known to have heard of our epoch: when to ask again whether it has.
    ask_at: Option<Duration>,
    asks: u32,
    // The peer is to hear our epochs once more.
    answer_at: Option<Duration>,
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
        Self {
            epoch: 1,
            peer_epoch: 1,
            ask_at: None,
            asks: 0,
            answer_at: None,
            outgoing: Outgoing::new(),
            incoming: Incoming::new(),
        }
    }

    /// Gives the streams up and tells the peer.
    pub(super) fn reset(&mut self, now: Duration) {
        self.begin(self.epoch.saturating_add(1), self.peer_epoch);
        self.ask_at = Some(now);
    }

    fn begin(&mut self, epoch: u64, peer_epoch: u64) {
        *self = Self { epoch, peer_epoch, ..Self::new() };
    }

    /// Judges a packet by its epochs.
    pub(super) fn judge(&mut self, now: Duration, target: &Target) -> Epochs {
        let (theirs, ours) = (target.epoch, target.peer_epoch);
        if theirs > self.peer_epoch.saturating_add(LEAP) || ours > self.epoch.saturating_add(LEAP) {
            return Epochs::Void;
        }
        if ours > self.epoch {
            // We have forgotten what the peer remembers.
            self.begin(ours.saturating_add(1), theirs.max(self.peer_epoch));
            self.ask_at = Some(now);
            return Epochs::AnewAndVoid;
        }
        if theirs < self.peer_epoch || (theirs == self.peer_epoch && ours < self.epoch) {
            // It is to hear of it, but not for each packet of a flight.
            self.answer(now + ANSWER_AFTER);
            return Epochs::Void;
        }
        if theirs > self.peer_epoch {
            return self.adopt(now, theirs, ours);
        }
        self.ask_at = None;
        if target.asks {
            self.answer(now);
        }
        Epochs::Current
    }

    fn adopt(&mut self, now: Duration, theirs: u64, ours: u64) -> Epochs {
        if ours == self.epoch {
            self.begin(self.epoch, theirs);
            self.answer(now);
            return Epochs::Anew;
        }
        // It has not heard of our epoch, so it has taken nothing of it: what waits for it is still good.
        let fresh = self.incoming.is_fresh();
        if fresh {
            self.peer_epoch = theirs;
            self.outgoing.lose_all();
        } else {
            self.begin(self.epoch, theirs);
        }
        self.ask_at = Some(now);
        if fresh { Epochs::Void } else { Epochs::AnewAndVoid }
    }

    fn answer(&mut self, by: Duration) {
        self.answer_at = Some(self.answer_at.map_or(by, |at| at.min(by)));
    }

    /// When something has to be told without a message.
    pub(super) fn ack_at(&self) -> Option<Duration> {
        [self.incoming.ack_at(), self.ask_at, self.answer_at].into_iter().flatten().min()
    }

    /// What stands before the messages in a packet to the peer.
    pub(super) fn target(&mut self, now: Duration, id: NodeId, instance: u64, base: u64) -> Target {
        let asks = self.ask_at.is_some();
        if self.ask_at.is_some_and(|at| at <= now) {
            self.asks = (self.asks + 1).min(5);
            // Forgotten as soon as a packet shows that the peer knows.
            self.ask_at = Some(now + ASK_AGAIN * (1 << self.asks));
        }
        self.answer_at = None;
        let ack: Ack = self.incoming.ack();
        let (epoch, peer_epoch) = (self.epoch, self.peer_epoch);
        // The tag is made when the packet is whole.
        Target { id, instance, epoch, peer_epoch, asks, base, ack, tag: [0; TAG_LEN] }
    }
}

/// No end begins anew so often; whoever forges epochs must not use them up.
const LEAP: u64 = 1 << 20;
const ANSWER_AFTER: Duration = Duration::from_millis(5);
const ASK_AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    /// One end's packet to the other, with a message or without.
    fn packet(from: &mut Streams) -> Target {
        from.target(NOW, NodeId([0; 32]), 1, 1)
    }

    #[test]
    fn when_one_end_begins_anew_the_other_does_and_old_messages_are_void() {
        let (mut a, mut b) = (Streams::new(), Streams::new());
        let old = packet(&mut b);
        assert_eq!(a.judge(NOW, &old), Epochs::Current);
        a.reset(NOW);
        assert_eq!(a.judge(NOW, &old), Epochs::Void, "sent before it heard");
        let asks = packet(&mut a);
        assert!(asks.asks);
        assert_eq!(b.judge(NOW, &asks), Epochs::Anew);
        assert_eq!(b.judge(NOW, &asks), Epochs::Current, "it is heard once");
        assert_eq!(b.ack_at(), Some(NOW), "it answers");
        let answer = packet(&mut b);
        assert!(!answer.asks && a.judge(NOW, &answer) == Epochs::Current);
        assert_eq!((a.ack_at(), b.ack_at()), (None, None), "nobody speaks for ever");
    }

    #[test]
    fn when_both_begin_anew_nothing_that_waits_is_lost() {
        let (mut a, mut b) = (Streams::new(), Streams::new());
        a.reset(NOW);
        b.reset(NOW);
        a.outgoing.push(1, &[], &vec![0; 10].into());
        let (from_a, from_b) = (packet(&mut a), packet(&mut b));
        assert_eq!((a.judge(NOW, &from_b), b.judge(NOW, &from_a)), (Epochs::Void, Epochs::Void));
        let (from_a, from_b) = (packet(&mut a), packet(&mut b));
        assert_eq!((a.judge(NOW, &from_b), b.judge(NOW, &from_a)), (Epochs::Current, Epochs::Current));
        assert!(a.outgoing.queued() > 0);
        assert_eq!(a.judge(NOW, &packet(&mut b)), Epochs::Current);
        assert_eq!(b.judge(NOW, &packet(&mut a)), Epochs::Current);
        assert!(!packet(&mut a).asks && !packet(&mut b).asks);
    }

    #[test]
    fn whoever_has_forgotten_is_told() {
        let (mut a, mut b) = (Streams::new(), Streams::new());
        (0..3).for_each(|_| a.reset(NOW));
        assert_eq!(b.judge(NOW, &packet(&mut a)), Epochs::Anew);
        a = Streams::new();
        assert_eq!(b.judge(NOW, &packet(&mut a)), Epochs::Void);
        assert_eq!(a.judge(NOW, &packet(&mut b)), Epochs::AnewAndVoid);
        assert_eq!(b.judge(NOW, &packet(&mut a)), Epochs::Anew);
        assert_eq!(a.judge(NOW, &packet(&mut b)), Epochs::Current);
        let (mut theirs, mut ours) = (packet(&mut b), packet(&mut b));
        (theirs.epoch, ours.peer_epoch) = (u64::MAX, u64::MAX);
        assert_eq!((a.judge(NOW, &theirs), a.judge(NOW, &ours)), (Epochs::Void, Epochs::Void), "absurd ones");
        assert_eq!(a.judge(NOW, &packet(&mut b)), Epochs::Current);
    }
}
