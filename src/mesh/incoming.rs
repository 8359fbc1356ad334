//! What another node sends to us: delivered in order, once; what came too early is kept, within bounds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::outgoing::{MAX_ACK_DELAY, cost};
use super::packet::{Ack, RANGES_MAX};

/// The messages of one node. The first has number 1.
#[derive(Debug)]
pub(super) struct Incoming {
    // Everything below was delivered.
    next: u64,
    ahead: BTreeMap<u64, (Vec<u8>, Arc<[u8]>)>,
    // The keys of `ahead`: ascending, with gaps between.
    ranges: Vec<Range<u64>>,
    ahead_bytes: usize,
    // Came since the last acknowledgement.
    unacked: usize,
    ack_at: Option<Duration>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is next: deliver it, then whatever [`Incoming::follow`] has.
    Next,
    /// It is kept until those before it come, or dropped for want of room.
    Early,
    /// It was here before.
    Again,
}

impl Incoming {
    pub(super) fn new() -> Self {
        let (ahead, ranges) = (BTreeMap::new(), Vec::new());
        Self { next: 1, ahead, ranges, ahead_bytes: 0, unacked: 0, ack_at: None }
    }

    /// Whether anything was delivered or kept.
    pub(super) fn is_fresh(&self) -> bool {
        self.next == 1 && self.ahead.is_empty()
    }

    #[inline]
    pub(super) fn take(&mut self, now: Duration, number: u64, head: &[u8], body: &[u8], room: usize) -> Arrival {
        let size = cost(head.len(), body.len());
        if number == self.next {
            self.next += 1;
            self.unacked += size;
            let soon = if self.unacked >= ACK_BYTES { now } else { now + MAX_ACK_DELAY };
            self.owe(soon);
            return Arrival::Next;
        }
        // Something was lost, or an acknowledgement was.
        self.owe(now);
        if number < self.next || self.ahead.contains_key(&number) {
            return Arrival::Again;
        }
        if self.ahead_bytes + size <= room {
            self.ahead.insert(number, (head.to_vec(), body.into()));
            self.ahead_bytes += size;
            self.note(number);
        }
        Arrival::Early
    }

    /// The next message that came early, once those before it were delivered.
    #[inline]
    pub(super) fn follow(&mut self) -> Option<(Vec<u8>, Arc<[u8]>)> {
        if self.ahead.is_empty() {
            return None;
        }
        let (head, body) = self.ahead.remove(&self.next)?;
        self.next += 1;
        self.ahead_bytes -= cost(head.len(), body.len());
        if let Some(first) = self.ranges.first_mut() {
            first.start = self.next;
            if first.is_empty() {
                self.ranges.remove(0);
            }
        }
        Some((head, body))
    }

    fn note(&mut self, number: u64) {
        let at = self.ranges.partition_point(|range| range.end < number);
        match self.ranges.get_mut(at) {
            Some(range) if range.end == number => {
                range.end += 1;
                let end = range.end;
                let next = self.ranges.get(at + 1).filter(|next| next.start == end).map(|next| next.end);
                if let (Some(end), Some(range)) = (next, self.ranges.get_mut(at)) {
                    range.end = end;
                    self.ranges.remove(at + 1);
                }
            }
            Some(range) if range.start == number + 1 => range.start = number,
            _ => self.ranges.insert(at, number..number + 1),
        }
    }

    /// An acknowledgement must leave by then.
    pub(super) fn owe(&mut self, by: Duration) {
        self.ack_at = Some(self.ack_at.map_or(by, |at| at.min(by)));
    }

    pub(super) const fn ack_at(&self) -> Option<Duration> {
        self.ack_at
    }

    /// The acknowledgement; none is owed after it.
    pub(super) fn ack(&mut self) -> Ack {
        (self.unacked, self.ack_at) = (0, None);
        Ack { below: self.next, ranges: self.ranges.iter().take(RANGES_MAX).cloned().collect() }
    }
}

/// After so many bytes an acknowledgement leaves at once.
const ACK_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_order_of_arrival_is_delivered_in_order_and_once(numbers in proptest::collection::vec(1..60u64, 0..300)) {
            let (mut incoming, mut seen, mut delivered) = (Incoming::new(), BTreeSet::new(), Vec::new());
            for number in numbers {
                let body = number.to_le_bytes();
                match incoming.take(Duration::ZERO, number, &[], &body, usize::MAX) {
                    Arrival::Next => {
                        prop_assert!(seen.insert(number));
                        delivered.push(number);
                        while let Some((_, body)) = incoming.follow() {
                            delivered.push(u64::from_le_bytes(body[..].try_into().unwrap()));
                        }
                    }
                    Arrival::Early => prop_assert!(seen.insert(number)),
                    Arrival::Again => prop_assert!(seen.contains(&number)),
                }
                let ack = incoming.ack();
                let held: Vec<u64> = (1..ack.below).chain(ack.ranges.iter().flat_map(Clone::clone)).collect();
                let told: Vec<u64> = seen.iter().copied().take(held.len()).collect();
                prop_assert_eq!(&held, &told);
                prop_assert!(incoming.ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert!(incoming.ranges.len() > RANGES_MAX || held.len() == seen.len());
            }
            prop_assert_eq!(&delivered, &(1..=delivered.len() as u64).collect::<Vec<_>>());
            prop_assert!(incoming.ahead_bytes > 0 || incoming.ahead.is_empty());
        }
    }

    #[test]
    fn what_is_kept_early_is_bounded() {
        let mut incoming = Incoming::new();
        for number in 2..1000 {
            incoming.take(Duration::ZERO, number, &[], &[0; 1000], 10_000);
        }
        assert!(incoming.ahead_bytes <= 10_000 && incoming.ahead.len() < 10);
    }
}
