//! Several connections through one bottleneck, as drivers run them: batches, late timers, an emulated link each way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use secchat::channel::impair::{Counts, Impair};
use secchat::channel::{Batch, Config, Connection, ConnectionIds, Side, SourceError, Stats, StreamSink, StreamSource};
use secchat::wire::packet::ConnectionId;

use crate::sim::{ASKER, HOLDER, addr, keys};

/// One transfer: how its holder sends, how much, from when on.
pub struct Plan {
    pub config: Config,
    pub bytes: u64,
    pub starts_at: Duration,
}

/// The link and all that uses it.
pub struct Link {
    now: Duration,
    pub transfers: Vec<Transfer>,
    // From the holders, from the askers.
    lines: [Impair; 2],
    rng: ChaCha8Rng,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    serial: u64,
    batch: Batch,
}

pub struct Transfer {
    ends: [Connection; 2],
    starts_at: Duration,
    bytes: u64,
    sink: Checked,
    pub done_at: Option<Duration>,
    /// (time, bytes delivered), about every 10 ms.
    progress: Vec<(Duration, u64)>,
    /// How long each datagram of segments took from end to end.
    pub delays: Vec<(Duration, Duration)>,
    wakes: [Option<Duration>; 2],
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive { transfer: usize, end: usize, bytes: Vec<u8>, sent_at: Duration },
    Wake { transfer: usize, end: usize },
}

impl Link {
    /// `forward` is what the holders' datagrams meet, `back` what the askers' do.
    pub fn new(forward: &str, back: &str, plans: Vec<Plan>, seed: u64) -> Self {
        let lines = [forward, back].map(|line| Impair::new(format!("{line},seed={seed}").parse().expect("a path")));
        let mut link = Self {
            now: Duration::ZERO,
            transfers: Vec::new(),
            lines,
            rng: ChaCha8Rng::seed_from_u64(seed),
            events: BinaryHeap::new(),
            serial: 0,
            batch: Batch::new(64),
        };
        for (index, plan) in plans.into_iter().enumerate() {
            link.transfers.push(Transfer::new(plan));
            for end in [HOLDER, ASKER] {
                link.at(link.transfers[index].starts_at, Event::Wake { transfer: index, end });
            }
        }
        link
    }

    /// Runs until `end`, or until every file has arrived.
    pub fn run(&mut self, end: Duration) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > end || self.transfers.iter().all(|transfer| transfer.done_at.is_some()) {
                break;
            }
            self.now = at;
            match event {
                Event::Arrive { transfer, end, mut bytes, sent_at } => {
                    self.transfers[transfer].receive(at, end, &mut bytes, sent_at);
                    self.drive(transfer, end);
                }
                Event::Wake { transfer, end } => {
                    if self.transfers[transfer].wakes[end].take_if(|wake| *wake <= at).is_some() {
                        self.transfers[transfer].ends[end].handle_timeout(at);
                        self.drive(transfer, end);
                    }
                }
            }
        }
    }

    /// Sends all that an end has to send, and asks when it wants to be woken; that comes up to a millisecond late.
    fn drive(&mut self, index: usize, end: usize) {
        let now = self.now;
        let mut sent = Vec::new();
        let transfer = &mut self.transfers[index];
        let connection = &mut transfer.ends[end];
        while connection.poll_transmit(now, &mut Pattern, &mut self.batch).is_some() {
            sent.extend(self.batch.datagrams().map(<[u8]>::to_vec));
        }
        while connection.poll_event().is_some() {}
        for datagram in sent {
            let (events, serial) = (&mut self.events, &mut self.serial);
            self.lines[end].offer(now, &datagram, &mut |due, bytes| {
                *serial += 1;
                let arrive = Event::Arrive { transfer: index, end: 1 - end, bytes, sent_at: now };
                events.push(Reverse((due, *serial, arrive)));
            });
        }
        if let Some(at) = self.transfers[index].ends[end].poll_timeout() {
            let at = at.max(now) + Duration::from_nanos(self.rng.next_u64() % 1_000_000);
            let wake = &mut self.transfers[index].wakes[end];
            if wake.is_none_or(|wake| wake <= now || at < wake) {
                *wake = Some(at);
                self.at(at, Event::Wake { transfer: index, end });
            }
        }
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, event)));
    }

    /// What the link did to the holders' datagrams.
    pub fn counts(&self) -> Counts {
        self.lines[HOLDER].counts()
    }
}

impl Transfer {
    fn new(plan: Plan) -> Self {
        let now = plan.starts_at;
        let ends = [HOLDER, ASKER].map(|end| {
            let id = |end: usize| ConnectionId([u8::try_from(end).expect("one of two"); 8]);
            let side = if end == HOLDER { Side::Holder } else { Side::Asker };
            let ids = ConnectionIds { local: id(end), remote: id(1 - end) };
            let mut made = Connection::new(plan.config.clone(), keys(end), ids, side, [7; 32], now).expect("valid");
            made.add_candidate(now, addresses()[1 - end]);
            made.set_stream_end(now, if end == HOLDER { plan.bytes } else { 100 });
            made.finish_stream(now);
            made
        });
        Self {
            ends,
            starts_at: now,
            bytes: plan.bytes,
            sink: Checked(0),
            done_at: None,
            progress: Vec::new(),
            delays: Vec::new(),
            wakes: [Some(now); 2],
        }
    }

    fn receive(&mut self, now: Duration, end: usize, bytes: &mut [u8], sent_at: Duration) {
        let from = addresses()[1 - end];
        if end == HOLDER {
            self.ends[end].handle_datagram(now, from, bytes, false, &mut Checked(0));
        } else {
            if bytes.len() > 1_000 {
                self.delays.push((now, now - sent_at));
            }
            self.ends[end].handle_datagram(now, from, bytes, false, &mut self.sink);
            let delivered = self.sink.0;
            if self.progress.last().is_none_or(|(at, _)| *at + Duration::from_millis(10) <= now) {
                self.progress.push((now, delivered));
            }
            if delivered >= self.bytes {
                self.done_at.get_or_insert(now);
            }
        }
        self.ends[end].end_of_batch(now);
    }

    /// Megabits a second of the file, from the start to its end.
    pub fn mbit(&self) -> f64 {
        let took = self.done_at.expect("the file arrives") - self.starts_at;
        self.bytes as f64 * 8e-6 / took.as_secs_f64()
    }

    /// The same between two times.
    pub fn mbit_between(&self, from: Duration, to: Duration) -> f64 {
        let at = |time| {
            let index = self.progress.partition_point(|(at, _)| *at <= time);
            index.checked_sub(1).map_or(0, |index| self.progress[index].1)
        };
        (at(to) - at(from)) as f64 * 8e-6 / (to - from).as_secs_f64()
    }

    /// How long datagrams waited on top of `delay` from a time on: median and 95th percentile.
    pub fn queueing(&self, from: Duration, delay: Duration) -> (Duration, Duration) {
        let late = self.delays.iter().filter(|(at, _)| *at >= from);
        let mut waits: Vec<_> = late.map(|(_, took)| took.saturating_sub(delay)).collect();
        waits.sort_unstable();
        let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
        (at(50), at(95))
    }

    pub fn holder(&self) -> Stats {
        self.ends[HOLDER].stats()
    }
}

/// A file of which each byte follows from its place.
struct Pattern;

fn byte_at(offset: u64) -> u8 {
    ((offset >> 10).wrapping_mul(0x9e37_79b9) >> 8) as u8
}

impl StreamSource for Pattern {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        (offset..).zip(bytes).for_each(|(at, byte)| *byte = byte_at(at));
        Ok(())
    }
}

/// Counts what is delivered, and looks at the first byte of each piece.
struct Checked(u64);

impl StreamSink for Checked {
    fn deliver(&mut self, offset: u64, bytes: &[u8]) {
        assert_eq!(offset, self.0, "in order, each byte once");
        assert!(bytes.first().is_none_or(|first| *first == byte_at(offset)));
        self.0 += bytes.len() as u64;
    }
}

fn addresses() -> [SocketAddr; 2] {
    [addr("10.0.0.1:1000"), addr("10.0.0.2:2000")]
}
