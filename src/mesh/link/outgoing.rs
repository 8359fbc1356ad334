//! What waits to be sent on a link: answers to pings first, then control, then bulk, then parcels; each bounded in bytes.

use super::framing::{self, HEAD, Kind};
use crate::limits::{MESH_BULK_BYTES, MESH_CONTROL_BYTES, MESH_PARCEL_BYTES, MESH_WRITE_BYTES};
use crate::mesh::Class;
use crate::wire::mesh_hello::MeshRefusal;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The queue of one link. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::mesh) struct Outgoing(Arc<Shared>);

/// Why the link is to end, said by our side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mesh) enum Cut {
    /// We do not want it any more, and why; and what the peer is told.
    Refused(String, Option<MeshRefusal>),
    /// The server stops.
    Stopping,
    /// So much control waits that the peer cannot be taking it.
    Overflow,
}

/// A link's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::mesh) struct Counts {
    /// That wait, bytes.
    pub control_bytes: usize,
    /// That wait, bytes.
    pub bulk_bytes: usize,
    /// That wait, bytes.
    pub parcel_bytes: usize,
    /// Bulk that found no room.
    pub dropped_frames: u64,
    /// Parcels that found none.
    pub dropped_parcels: u64,
    /// Of the node.
    pub sent_frames: u64,
    /// In all, before TLS.
    pub sent_bytes: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Notify,
    cut: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    pulses: VecDeque<(Kind, [u8; 8])>,
    control: VecDeque<Arc<[u8]>>,
    bulk: VecDeque<Arc<[u8]>>,
    parcels: VecDeque<Arc<[u8]>>,
    counts: Counts,
    cut: Option<Cut>,
    /// [`Outgoing::push`] has said that bulk is nearly full.
    full: bool,
}

impl Outgoing {
    pub(in crate::mesh) fn new() -> Self {
        Self(Arc::default())
    }

    /// Queues frames, of each class in their order, and empties the list. Bulk that finds no room is dropped and counted: whoever
    /// wants it to arrive repeats it. Control that finds none ends the link. `true` if bulk is nearly full now and was not before:
    /// [`Self::fill`] says when there is room again.
    pub(in crate::mesh) fn push(&self, frames: &mut Vec<(Class, Arc<[u8]>)>) -> bool {
        let mut queue = self.lock();
        for (class, frame) in frames.drain(..) {
            queue.push(class, frame);
        }
        let cut = queue.cut.is_some();
        let became_full = !queue.full && queue.counts.bulk_bytes > MESH_BULK_BYTES / 2;
        queue.full |= became_full;
        drop(queue);
        self.0.filled.notify_one();
        if cut {
            self.0.cut.notify_waiters();
        }
        became_full
    }

    /// Queues a ping or its answer. Of a peer's flood of pings only some are answered.
    pub(super) fn pulse(&self, kind: Kind, stamp: [u8; 8]) {
        let mut queue = self.lock();
        if queue.pulses.len() < PULSES_MAX {
            queue.pulses.push_back((kind, stamp));
        }
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Ends the link.
    pub(in crate::mesh) fn cut(&self, why: Cut) {
        self.lock().cut.get_or_insert(why);
        self.0.cut.notify_waiters();
    }

    /// Resolves once [`Self::cut`] was called, or control found no room.
    pub(super) async fn until_cut(&self) -> Cut {
        loop {
            let cut = self.0.cut.notified();
            if let Some(why) = self.lock().cut.clone() {
                return why;
            }
            cut.await;
        }
    }

    /// Waits until something is there, and moves about [`MESH_WRITE_BYTES`] of it to the batch. `true` if there is room for bulk
    /// again, where [`Self::push`] had said that there was not.
    pub(super) async fn fill(&self, batch: &mut Vec<u8>) -> bool {
        loop {
            let room = self.lock().fill(batch);
            if !batch.is_empty() {
                return room;
            }
            self.0.filled.notified().await;
        }
    }

    pub(in crate::mesh) fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, class: Class, frame: Arc<[u8]>) {
        let bytes = frame.len() + HEAD;
        let counts = &mut self.counts;
        match class {
            Class::Control if counts.control_bytes + bytes > MESH_CONTROL_BYTES => {
                self.cut.get_or_insert(Cut::Overflow);
            }
            Class::Control => {
                counts.control_bytes += bytes;
                self.control.push_back(frame);
            }
            Class::Bulk if counts.bulk_bytes + bytes > MESH_BULK_BYTES => counts.dropped_frames += 1,
            Class::Bulk => {
                counts.bulk_bytes += bytes;
                self.bulk.push_back(frame);
            }
            Class::Parcel if counts.parcel_bytes + bytes > MESH_PARCEL_BYTES => counts.dropped_parcels += 1,
            Class::Parcel => {
                counts.parcel_bytes += bytes;
                self.parcels.push_back(frame);
            }
        }
    }

    fn fill(&mut self, batch: &mut Vec<u8>) -> bool {
        for (kind, stamp) in self.pulses.drain(..) {
            framing::push(batch, kind, &stamp);
        }
        while batch.len() < MESH_WRITE_BYTES {
            let frame = if let Some(frame) = self.control.pop_front() {
                self.counts.control_bytes -= frame.len() + HEAD;
                frame
            } else if let Some(frame) = self.bulk.pop_front() {
                self.counts.bulk_bytes -= frame.len() + HEAD;
                frame
            } else if let Some(frame) = self.parcels.pop_front() {
                self.counts.parcel_bytes -= frame.len() + HEAD;
                frame
            } else {
                break;
            };
            framing::push(batch, Kind::Node, &frame);
            self.counts.sent_frames += 1;
        }
        self.counts.sent_bytes += batch.len() as u64;
        let room = self.full && self.counts.bulk_bytes < MESH_BULK_BYTES / 4;
        self.full &= !room;
        room
    }
}

/// Pings and answers that wait: more than a link ever needs.
const PULSES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, len: usize) -> Arc<[u8]> {
        vec![byte; len].into()
    }

    #[tokio::test]
    async fn control_overtakes_bulk_and_pings_overtake_both() {
        let out = Outgoing::new();
        out.push(&mut vec![(Class::Bulk, frame(1, 10)), (Class::Control, frame(2, 10)), (Class::Bulk, frame(3, 10))]);
        out.pulse(Kind::Pong, [9; 8]);
        let mut batch = Vec::new();
        out.fill(&mut batch).await;
        let (mut order, mut rest) = (Vec::new(), batch.as_slice());
        while let Some((_, frame, after)) = framing::next(rest).unwrap() {
            order.push(frame[0]);
            rest = after;
        }
        assert_eq!(order, [9, 2, 1, 3]);
        assert_eq!((out.counts().control_bytes, out.counts().bulk_bytes, out.counts().sent_frames), (0, 0, 3));
    }

    #[tokio::test]
    async fn a_full_relay_puts_one_batch_before_a_line_of_the_chat_and_no_more() {
        let out = Outgoing::new();
        for _ in 0..1000 {
            out.push(&mut vec![(Class::Parcel, frame(7, 60_000))]);
            assert!(out.counts().parcel_bytes <= MESH_PARCEL_BYTES);
        }
        let counts = out.counts();
        assert_eq!((counts.dropped_parcels, counts.dropped_frames), (992, 0));
        let mut batch = Vec::new();
        out.fill(&mut batch).await;
        assert!(batch.len() < 2 * MESH_WRITE_BYTES, "what is on its way already");
        out.push(&mut vec![
            (Class::Parcel, frame(7, 100)),
            (Class::Bulk, frame(1, 100)),
            (Class::Control, frame(2, 100)),
        ]);
        batch.clear();
        out.fill(&mut batch).await;
        let (mut order, mut rest) = (Vec::new(), batch.as_slice());
        while let Some((_, frame, after)) = framing::next(rest).unwrap() {
            order.push(frame[0]);
            rest = after;
        }
        assert_eq!(order[..3], [2, 1, 7]);
        while out.counts().parcel_bytes > 0 {
            batch.clear();
            out.fill(&mut batch).await;
        }
    }

    #[tokio::test]
    async fn bulk_over_the_bound_is_dropped_and_control_over_it_ends_the_link() {
        let out = Outgoing::new();
        let many = |class, bytes: usize| (0..=bytes / 60_000).map(|_| (class, frame(0, 60_000))).collect::<Vec<_>>();
        assert!(out.push(&mut many(Class::Bulk, MESH_BULK_BYTES)));
        let counts = out.counts();
        assert!(counts.dropped_frames > 0 && counts.bulk_bytes <= MESH_BULK_BYTES);
        out.push(&mut many(Class::Control, MESH_CONTROL_BYTES));
        assert!(!out.push(&mut many(Class::Bulk, 60_000)), "said once");
        let (mut batch, mut room) = (Vec::new(), 0);
        while out.counts().bulk_bytes > 0 {
            batch.clear();
            room += usize::from(out.fill(&mut batch).await);
        }
        assert_eq!(room, 1);
        assert_eq!(out.until_cut().await, Cut::Overflow);
        assert!(out.counts().control_bytes <= MESH_CONTROL_BYTES);
    }
}
