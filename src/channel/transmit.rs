//! Segments on their way out: which go into the next batch, read at once, and each put into its datagram and sealed there.

use std::time::Duration;

use super::config::DATAGRAM_OVERHEAD;
use super::connection::Connection;
use super::data::{Batch, MAX_BATCH, SourceError, StreamSource};
use super::event::Failure;
use super::flight::Cargo;
use super::outgoing::Segment;
use crate::crypto::seal::TAG_LEN;
use crate::wire::datagram::{SEGMENT_OVERHEAD, segment_head};
use crate::wire::packet::{HEADER_LEN, Header, MAX_DATAGRAM};

/// What goes into a batch.
#[derive(Debug)]
struct Plan {
    // The first `count` count.
    items: [Item; MAX_BATCH],
    count: usize,
    // Bytes of each datagram but the last, and of all.
    stride: usize,
    bytes: usize,
    // A single segment: it is read where it will stand.
    alone: bool,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    number: u64,
    segment: Segment,
    repeat: bool,
}

/// What a batch may hold.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    datagrams: usize,
    // In flight and to send.
    window: u64,
    // By the pacer; the first datagram may go beyond.
    paced: u64,
}

impl Connection {
    /// Bytes in each new segment.
    pub(super) fn segment_size(&self) -> usize {
        self.sizes.current().saturating_sub(DATAGRAM_OVERHEAD)
    }

    /// Fills `batch` with sealed segments. Returns whether there are any.
    pub(super) fn transmit_segments(
        &mut self,
        now: Duration,
        source: &mut dyn StreamSource,
        batch: &mut Batch,
    ) -> bool {
        let Some(mut plan) = self.plan(now, batch.max()) else { return false };
        plan.alone = plan.count == 1;
        let ready = self.read(now, &plan, source, batch);
        for item in plan.items[ready..plan.count].iter().rev().filter(|item| item.repeat) {
            self.outgoing.put_back(item.number);
        }
        if ready < plan.count {
            plan.count = ready;
            plan.bytes = plan.bytes.min(ready * plan.stride);
            batch.truncate(plan.bytes);
        }
        if ready == 0 || self.is_over() {
            return false;
        }
        self.send(now, &plan, batch)
    }

    /// Chooses what goes next: a probe, what is to be sent again, then what is new.
    fn plan(&mut self, now: Duration, max: usize) -> Option<Plan> {
        let mut plan = Plan { items: [Item::NONE; MAX_BATCH], count: 0, stride: 0, bytes: 0, alone: false };
        if self.recovery.wants_probe() && self.plan_probe(&mut plan) {
            return Some(plan);
        }
        let repeats = self.outgoing.has_repeat();
        let mut room = self.new_room();
        if !repeats && (room == 0 || !self.outgoing.has_new()) {
            self.pace.release();
            self.pace.on_nothing_to_send(self.flight.in_flight());
            return None;
        }
        let allowed = self.allowance(now, max, repeats)?;
        while let Some((number, segment)) = self.take_fitting(&plan, &allowed) {
            plan.push(Item { number, segment, repeat: true });
            if self.asks_midway(number) {
                return Some(plan);
            }
        }
        let (mut number, mut offset) = (self.outgoing.next(), self.outgoing.next_offset());
        while room > 0 && !self.outgoing.has_repeat() {
            let Some(segment) = self.outgoing.new_segment(offset, self.segment_size()) else { break };
            if !plan.takes(&segment, &allowed) {
                break;
            }
            plan.push(Item { number, segment, repeat: false });
            (number, offset, room) = (number + 1, offset + u64::from(segment.len), room - 1);
            if segment.fin || self.asks_midway(number - 1) {
                break;
            }
        }
        (plan.count > 0).then_some(plan)
    }

    /// Segments that were never sent and may be, by the windows that count segments.
    fn new_room(&self) -> u64 {
        let window = self.config.window.unwrap_or(u32::MAX);
        self.outgoing.room(window).min(self.recovery.limit().saturating_sub(self.flight.segments()))
    }

    /// `None` when nothing may leave now.
    fn allowance(&mut self, now: Duration, max: usize, repeats: bool) -> Option<Allowance> {
        let in_flight = self.flight.in_flight();
        let slots = self.recovery.limit().saturating_sub(self.flight.segments());
        // A window below two datagrams would wait for each ack.
        let least = 2 * self.sizes.current() as u64;
        let window = self.pace.window().map_or(u64::MAX, |window| window.max(least)).saturating_sub(in_flight);
        if slots == 0 || window == 0 {
            self.pace.release();
            return None;
        }
        let repeated = if repeats { self.sizes.current() as u64 } else { 0 };
        let wanted =
            (self.outgoing.backlog() + repeated).clamp(1, (max * self.sizes.current()).min(MAX_DATAGRAM) as u64);
        let paced = self.pace.budget(now, wanted.min(window))?;
        let datagrams = max.min(usize::try_from(slots).unwrap_or(usize::MAX));
        Some(Allowance { datagrams, window, paced })
    }

    fn take_fitting(&mut self, plan: &Plan, allowed: &Allowance) -> Option<(u64, Segment)> {
        let (number, segment) = self.outgoing.take_repeat()?;
        if plan.takes(&segment, allowed) {
            return Some((number, segment));
        }
        self.outgoing.put_back(number);
        None
    }

    /// What is known to be lost, or else the oldest segment without an ack.
    fn plan_probe(&mut self, plan: &mut Plan) -> bool {
        self.recovery.on_probe();
        let oldest = self.outgoing.base();
        let lost = self.outgoing.take_repeat();
        let chosen = lost.or_else(|| self.outgoing.get(oldest).map(|segment| (oldest, segment)));
        if let Some((number, segment)) = chosen {
            plan.push(Item { number, segment, repeat: true });
        }
        plan.count > 0
    }

    /// Reads what the planned segments carry. Returns how many came, from the first on.
    fn read(&mut self, now: Duration, plan: &Plan, source: &mut dyn StreamSource, batch: &mut Batch) -> usize {
        batch.begin(plan.bytes, plan.stride);
        let (mut plain, datagrams) = batch.halves();
        if plan.alone {
            plain = body(datagrams);
        }
        let mut items = plan.items.get(..plan.count).unwrap_or_default();
        let mut ready = 0;
        while let Some(first) = items.first() {
            let (run, later) = items.split_at(run_length(items));
            let len = run.iter().map(|item| usize::from(item.segment.len)).sum();
            let (room, rest) = plain.split_at_mut_checked(len).unwrap_or_default();
            // The end of a stream may carry nothing.
            let read = if len == 0 { Ok(()) } else { source.read(first.segment.offset, room) };
            match read {
                Ok(()) => {
                    ready += run.len();
                    (items, plain) = (later, rest);
                }
                Err(SourceError::NotReady) => {
                    self.source_waits = true;
                    return ready;
                }
                Err(SourceError::Failed) => {
                    self.fail_because(now, Failure::Source, &source.failure());
                    return 0;
                }
            }
        }
        self.source_waits = false;
        ready
    }

    /// Numbers and seals what was read.
    fn send(&mut self, now: Duration, plan: &Plan, batch: &mut Batch) -> bool {
        let (mut whole, mut sealed) = (true, 0);
        let (mut plain, datagrams) = batch.halves();
        for (index, datagram) in datagrams.chunks_mut(plan.stride.max(1)).enumerate() {
            let Some(item) = plan.items.get(index).filter(|_| index < plan.count) else { break };
            let Some(packet) = self.draw_number(now) else {
                whole = false;
                break;
            };
            let bytes = datagram.len();
            let state = self.pace.on_sent(now, bytes as u64, self.flight.in_flight());
            self.record(now, packet, Cargo::Segment(item.number), bytes, Some(state));
            if item.repeat {
                self.outgoing.on_repeated(item.number, packet);
            } else {
                self.outgoing.push_new(item.segment, packet);
            }
            self.stats.datagrams_sent += 1;
            self.stats.bytes_sent += bytes as u64;
            self.stats.segments_sent += 1;
            self.stats.segments_repeated += u64::from(item.repeat);
            let ask = index + 1 == plan.count && self.must_ask() || self.asks_midway(item.number);
            let header = Header { connection: self.ids.remote, packet_number: packet };
            if !plan.alone {
                // Only now, so that it is in the processor's first cache when it is sealed.
                let piece = plain.split_off_mut(..usize::from(item.segment.len)).unwrap_or_default();
                if let Some(room) = body(datagram).get_mut(..piece.len()) {
                    room.copy_from_slice(piece);
                }
            }
            if !seal_segment(&self.keys.send, &header, item, ask, datagram) {
                whole = false;
                break;
            }
            sealed += bytes;
        }
        if !whole {
            batch.truncate(sealed);
            self.fail(now, Failure::PacketNumbers);
        }
        sealed > 0
    }

    /// Nothing can follow before an ack, or there is nothing: it should come at once.
    fn must_ask(&mut self) -> bool {
        let window = self.pace.window().map_or(u64::MAX, |window| window.max(2 * self.sizes.current() as u64));
        let full = self.flight.in_flight() >= window;
        full || (!self.outgoing.has_repeat() && (self.new_room() == 0 || !self.outgoing.has_new()))
    }

    /// A small fixed window asks for acks along the way too, at the end of a batch, so that both ends work at the same
    /// time.
    fn asks_midway(&self, number: u64) -> bool {
        self.config.window.is_some_and(|window| {
            let stretch = u64::from(window / 2);
            window <= SMALL_WINDOW && stretch > 0 && (number + 1).is_multiple_of(stretch)
        })
    }
}

impl Item {
    const NONE: Self = Self {
        number: 0,
        segment: Segment { offset: 0, len: 0, fin: false, repeat: false, lost: false, first_packet: 0, packet: 0 },
        repeat: false,
    };
}

impl Plan {
    /// Whether the segment may come next: none is longer than the first, and only the last is shorter.
    fn takes(&self, segment: &Segment, allowed: &Allowance) -> bool {
        let (len, so_far) = (datagram_len(segment), self.bytes as u64);
        let total = self.bytes + len;
        if total as u64 > allowed.window {
            return false;
        }
        if self.count == 0 {
            return true;
        }
        self.count < allowed.datagrams
            && len <= self.stride
            && self.bytes == self.count * self.stride
            && total <= MAX_DATAGRAM
            && so_far + len as u64 <= allowed.paced
    }

    fn push(&mut self, item: Item) {
        let len = datagram_len(&item.segment);
        if self.count == 0 {
            self.stride = len;
        }
        if let Some(slot) = self.items.get_mut(self.count) {
            *slot = item;
            self.count += 1;
            self.bytes += len;
        }
    }
}

fn datagram_len(segment: &Segment) -> usize {
    usize::from(segment.len) + DATAGRAM_OVERHEAD
}

/// How many items from the first on follow one another in the stream.
fn run_length(items: &[Item]) -> usize {
    let follows = |pair: &&[Item]| match pair {
        [one, next] => one.segment.offset + u64::from(one.segment.len) == next.segment.offset,
        _ => false,
    };
    1 + items.windows(2).take_while(follows).count()
}

/// Where a datagram's piece of the stream stands.
fn body(datagram: &mut [u8]) -> &mut [u8] {
    let end = datagram.len().saturating_sub(TAG_LEN);
    datagram.get_mut(HEADER_LEN + SEGMENT_OVERHEAD..end).unwrap_or_default()
}

fn seal_segment(
    key: &crate::crypto::seal::SealKey,
    header: &Header,
    item: &Item,
    ask: bool,
    datagram: &mut [u8],
) -> bool {
    let Some((head, rest)) = datagram.split_first_chunk_mut::<HEADER_LEN>() else { return false };
    let Some((frame, _)) = rest.split_first_chunk_mut::<SEGMENT_OVERHEAD>() else { return false };
    *head = header.encode();
    *frame = segment_head(item.number, item.segment.fin, ask);
    key.seal_slot(header.packet_number, HEADER_LEN, datagram).is_ok()
}

/// Segments of a window that may run dry within one batch.
const SMALL_WINDOW: u32 = 64;
