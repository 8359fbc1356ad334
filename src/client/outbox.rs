//! What waits to be posted in one conversation, and what is on its way: in order, bounded in bytes, each with its inner id for ever.

use crate::wire::encode;
use crate::wire::id::MessageId;
use crate::wire::payload::Body;
use std::collections::VecDeque;

/// One message until the log has it.
#[derive(Debug)]
pub(super) struct Item {
    /// Stays the same however often it is sealed.
    pub id: MessageId,
    pub body: Body,
    /// The command that it ends, if any.
    pub ticket: Option<u64>,
    /// Its place among ours in this session; given when it is first sealed.
    pub counter: Option<u64>,
    /// It waits for a server that is away, and whoever said it knows.
    pub held: bool,
    sealed: Option<Sealed>,
    in_flight: bool,
    size: usize,
}

#[derive(Debug)]
struct Sealed {
    epoch: u64,
    bytes: Vec<u8>,
}

impl Item {
    pub fn new(id: MessageId, body: Body, ticket: Option<u64>) -> Self {
        let size = encode(&body).len();
        Self { id, body, ticket, counter: None, held: false, sealed: None, in_flight: false, size }
    }

    /// The bytes, if they were sealed in this epoch: such are repeated as they are.
    pub fn sealed_in(&self, epoch: u64) -> Option<&[u8]> {
        self.sealed.as_ref().filter(|s| s.epoch == epoch).map(|s| s.bytes.as_slice())
    }

    pub fn set_sealed(&mut self, epoch: u64, bytes: Vec<u8>) {
        self.sealed = Some(Sealed { epoch, bytes });
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    bytes: usize,
    /// How many are on their way, and their bytes: kept, since a queue may be long.
    flying: usize,
    flying_bytes: usize,
    /// How many are held.
    held: usize,
}

impl Outbox {
    /// Takes one more, or gives it back when [`QUEUE_BYTES`] are full.
    pub fn push(&mut self, item: Item) -> Result<(), Box<Item>> {
        if self.bytes + item.size > QUEUE_BYTES {
            return Err(Box::new(item));
        }
        self.bytes += item.size;
        self.held += usize::from(item.held);
        self.items.push_back(item);
        Ok(())
    }

    /// How many are held.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Holds all lines; those that were not held before, with the commands that they are of.
    pub fn hold(&mut self) -> Vec<(MessageId, Option<u64>)> {
        let text = |item: &&mut Item| matches!(item.body, Body::Text(_)) && !item.held;
        let lines = self.items.iter_mut().filter(text);
        let held: Vec<_> =
            lines.map(|item| (std::mem::replace(&mut item.held, true), (item.id, item.ticket)).1).collect();
        self.held += held.len();
        held
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The first that is not on its way, as long as less than [`IN_FLIGHT`] and [`IN_FLIGHT_BYTES`] are.
    pub fn next(&mut self) -> Option<&mut Item> {
        if self.flying_bytes >= IN_FLIGHT_BYTES || self.flying >= IN_FLIGHT {
            return None;
        }
        self.items.iter_mut().find(|i| !i.in_flight)
    }

    pub fn set_in_flight(&mut self, id: &MessageId) {
        self.set(id, true);
    }

    /// It was not logged and waits again; its bytes are kept for a repeat.
    pub fn put_back(&mut self, id: &MessageId) {
        self.set(id, false);
    }

    /// It was sealed in an epoch that is over.
    pub fn unseal(&mut self, id: &MessageId) {
        self.set(id, false);
        self.items.iter_mut().filter(|i| i.id == *id).for_each(|item| item.sealed = None);
    }

    pub fn any_in_flight(&self) -> bool {
        self.flying > 0
    }

    /// Something sealed in another epoch is on its way: it will come back as stale, and must go before what is newer.
    pub fn awaits_stale(&self, epoch: u64) -> bool {
        let mut flying = self.items.iter().filter(|i| i.in_flight).take(self.flying);
        flying.any(|i| i.sealed_in(epoch).is_none())
    }

    /// All are to be counted and sealed anew.
    pub fn forget_counters(&mut self) {
        self.items.iter_mut().for_each(|item| {
            item.counter = None;
            item.sealed = None;
        });
    }

    /// Nothing is on its way any more: the link is gone.
    pub fn ground(&mut self) {
        self.items.iter_mut().for_each(|item| item.in_flight = false);
        (self.flying, self.flying_bytes) = (0, 0);
    }

    /// The bytes as they are on their way.
    pub fn bytes_of(&self, id: &MessageId) -> Option<&[u8]> {
        let item = self.items.iter().find(|i| i.id == *id)?;
        item.sealed.as_ref().map(|s| s.bytes.as_slice())
    }

    /// The bytes and counters of those that were sealed, and so may be on their way.
    pub fn sealed(&self) -> impl Iterator<Item = (Vec<u8>, u64)> {
        self.items.iter().filter_map(|i| Some((i.sealed.as_ref()?.bytes.clone(), i.counter?)))
    }

    /// The epoch in which it was sealed last.
    pub fn epoch_of(&self, id: &MessageId) -> Option<u64> {
        self.items.iter().find(|i| i.id == *id)?.sealed.as_ref().map(|s| s.epoch)
    }

    pub fn with_bytes(&self, bytes: &[u8]) -> Option<MessageId> {
        let same = |item: &&Item| item.sealed.as_ref().is_some_and(|s| s.bytes == bytes);
        self.items.iter().find(same).map(|i| i.id)
    }

    /// The log has it, or it is given up.
    pub fn take(&mut self, id: &MessageId) -> Option<Item> {
        self.set(id, false);
        let at = self.items.iter().position(|i| i.id == *id)?;
        let item = self.items.remove(at)?;
        self.bytes -= item.size;
        self.held -= usize::from(item.held);
        Some(item)
    }

    /// All that wait, for another conversation: to be sealed and counted anew there.
    pub fn drain(&mut self, also_in_flight: bool) -> Vec<Item> {
        let (out, stay): (VecDeque<_>, VecDeque<_>) =
            self.items.drain(..).partition(|i| also_in_flight || !i.in_flight);
        self.items = stay;
        if also_in_flight {
            (self.flying, self.flying_bytes) = (0, 0);
        }
        self.bytes = self.items.iter().map(|i| i.size).sum();
        self.held = self.items.iter().filter(|i| i.held).count();
        out.into_iter().map(|i| Item { counter: None, sealed: None, in_flight: false, ..i }).collect()
    }

    fn set(&mut self, id: &MessageId, in_flight: bool) {
        let Some(item) = self.items.iter_mut().find(|i| i.id == *id) else { return };
        if item.in_flight == in_flight {
            return;
        }
        item.in_flight = in_flight;
        let (count, bytes) = (self.flying, self.flying_bytes);
        (self.flying, self.flying_bytes) =
            if in_flight { (count + 1, bytes + item.size) } else { (count - 1, bytes - item.size) };
    }
}

/// What may wait in one conversation, bytes.
pub(super) const QUEUE_BYTES: usize = 4 << 20;
/// What may be on its way at once, bytes: a long link stays full, and a lost one repeats little. With all rooms full of lines
/// a server that takes them at its steady pace answers each before its deadline.
const IN_FLIGHT_BYTES: usize = 128 << 10;
/// The same, messages.
const IN_FLIGHT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    fn item(n: u8, len: usize) -> Item {
        Item::new(Id([n; 16]), Body::Text("x".repeat(len)), None)
    }

    #[test]
    fn short_lines_are_bounded_in_number() {
        let mut outbox = Outbox::default();
        for n in 0..10_000u16 {
            let [high, low] = n.to_be_bytes();
            let mut id = [0; 16];
            (id[0], id[1]) = (high, low);
            outbox.push(Item::new(Id(id), Body::Text("x".into()), None)).unwrap();
        }
        let mut flown = 0;
        while let Some(id) = outbox.next().map(|i| i.id) {
            outbox.set_in_flight(&id);
            flown += 1;
        }
        assert_eq!(flown, IN_FLIGHT);
    }

    /// Else a burst into all rooms would run into the deadline of its requests at a server that slows it down.
    #[test]
    fn what_may_be_on_its_way_is_answered_in_time_at_the_steady_pace() {
        use crate::limits::{POST_BYTES_PER_SECOND, POSTS_PER_SECOND, REQUEST_DEADLINE, ROOMS_PER_CLIENT};
        let deadline = usize::try_from(REQUEST_DEADLINE.as_secs()).unwrap();
        assert!(ROOMS_PER_CLIENT * IN_FLIGHT < deadline * POSTS_PER_SECOND);
        assert!(ROOMS_PER_CLIENT * IN_FLIGHT_BYTES < deadline * POST_BYTES_PER_SECOND);
    }

    #[test]
    fn order_holds_and_bytes_bound_what_waits_and_what_flies() {
        let mut outbox = Outbox::default();
        let mut pushed = 0;
        while outbox.push(item(pushed, 100 << 10)).is_ok() {
            pushed += 1;
        }
        assert_eq!(usize::from(pushed), QUEUE_BYTES / (100 << 10));
        let mut flown = Vec::new();
        while let Some(id) = outbox.next().map(|i| i.id) {
            outbox.set_in_flight(&id);
            flown.push(id.0[0]);
        }
        assert_eq!(flown, [0, 1]);
        outbox.unseal(&Id([1; 16]));
        assert_eq!(outbox.next().map(|i| i.id.0[0]), Some(1));
        assert_eq!(outbox.drain(true).len(), usize::from(pushed));
        assert!(outbox.is_empty() && outbox.push(item(0, 1)).is_ok());
    }
}
