//! Two channel ends and the network between them, in virtual time and from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use secchat::channel::{
    Batch, ChannelKeys, Config, Connection, ConnectionIds, Event, Side, SourceError, StreamSink, StreamSource,
};
use secchat::crypto::seal::SealKey;
use secchat::wire::datagram::Frame;
use secchat::wire::packet::{ConnectionId, HEADER_LEN, Header};

use crate::routers::Router;

/// The end with the long stream.
pub const HOLDER: usize = 0;
/// The end that chose the path; its stream is short.
pub const ASKER: usize = 1;
pub const START: Duration = Duration::from_secs(1000);
const IDS: [ConnectionId; 2] = [ConnectionId(*b"holder's"), ConnectionId(*b"asker's ")];

/// What the network does to each datagram; chances in per mille.
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub loss: u32,
    pub duplicate: u32,
    pub corrupt: u32,
    /// These come up to two jitters late.
    pub reorder: u32,
    /// Bytes of the largest datagram that passes; 0 is all.
    pub largest: usize,
    pub delay: Duration,
    pub jitter: Duration,
    /// Times at which nothing passes, but over the detour.
    pub outages: Vec<Range<Duration>>,
    /// The same for what one end sends.
    pub mute: Option<(usize, Range<Duration>)>,
}

impl Link {
    /// A clean path with 20 ms each way.
    pub fn clean() -> Self {
        Self { delay: Duration::from_millis(20), ..Self::default() }
    }

    /// One datagram in five is lost, one in four comes late, some come twice or damaged.
    pub fn bad() -> Self {
        Self { loss: 200, duplicate: 50, corrupt: 50, reorder: 250, jitter: Duration::from_millis(10), ..Self::clean() }
    }

    /// The same with nothing at all for a while.
    pub fn with_outage(self, from: Duration, long: Duration) -> Self {
        let outage = START + from..START + from + long;
        Self { outages: vec![outage], ..self }
    }
}

/// By these the ends know a way over somebody else: it always works, and takes twice as long.
pub fn detour(end: usize) -> SocketAddr {
    addr(["[100::1]:1", "[100::2]:1"][end])
}

/// Both ends and all that is under way between them.
pub struct Sim {
    pub now: Duration,
    pub ends: [Connection; 2],
    pub addrs: [SocketAddr; 2],
    /// What stands between each end and the network.
    pub routers: [Option<Router>; 2],
    /// What each end sends.
    pub streams: [Vec<u8>; 2],
    /// Whether the ends' sources have bytes to give.
    pub ready: bool,
    /// What each end was given.
    pub received: [Vec<u8>; 2],
    pub events: [Vec<Event>; 2],
    /// Every datagram that an end sent, with its destination.
    pub sent: Vec<(SocketAddr, usize)>,
    pub link: Link,
    batch: Batch,
    rng: ChaCha8Rng,
    under_way: BinaryHeap<Reverse<Datagram>>,
    count: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    arrives: Duration,
    order: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Sim {
    /// Two ends with one candidate each; the holder's stream is `len` random bytes.
    pub fn new(seed: u64, link: Link, config: Config, len: usize) -> Self {
        let mut sim = Self::without_candidates(seed, link, config, len);
        for end in [HOLDER, ASKER] {
            let peer = sim.addrs[1 - end];
            assert!(sim.ends[end].add_candidate(sim.now, peer));
        }
        sim
    }

    pub fn without_candidates(seed: u64, link: Link, config: Config, len: usize) -> Self {
        let mut sim = Self::unfinished(seed, link, config, [len, 10 + seed as usize % 3_000]);
        for end in [HOLDER, ASKER] {
            sim.ends[end].finish_stream(START);
        }
        sim
    }

    /// Two ends without candidates whose streams exist in part and are not finished.
    pub fn unfinished(seed: u64, link: Link, config: Config, lens: [usize; 2]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let streams = lens.map(|len| {
            let mut stream = vec![0; len];
            rng.fill_bytes(&mut stream);
            stream
        });
        let ends = [HOLDER, ASKER].map(|end| {
            let ids = ConnectionIds { local: IDS[end], remote: IDS[1 - end] };
            let side = if end == HOLDER { Side::Holder } else { Side::Asker };
            let entropy = [rng.next_u32() as u8; 32];
            let mut made = Connection::new(config.clone(), keys(end), ids, side, entropy, START).expect("valid");
            made.set_stream_end(START, lens[end] as u64);
            made
        });
        Self {
            now: START,
            ends,
            addrs: [addr("10.0.0.1:1000"), addr("10.0.0.2:2000")],
            routers: [None, None],
            streams,
            ready: true,
            received: [Vec::new(), Vec::new()],
            events: [Vec::new(), Vec::new()],
            sent: Vec::new(),
            link,
            batch: Batch::new(1 + seed as usize % 20),
            rng,
            under_way: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Runs until both ends are drained or `for_long` has passed.
    pub fn run(&mut self, for_long: Duration) {
        let until = self.now + for_long;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 1_000_000, "time stands still: {:?}", self.ends);
            self.drain();
            let next = self.next_time();
            match next {
                Some(at) if at <= until => self.now = self.now.max(at),
                _ => break,
            }
            self.step();
        }
        self.now = self.now.max(until.min(self.next_time().unwrap_or(self.now)));
    }

    /// Puts a datagram at an end's door now.
    pub fn deliver(&mut self, end: usize, from: SocketAddr, bytes: &[u8]) {
        self.hand_over(end, from, bytes);
        self.ends[end].end_of_batch(self.now);
    }

    fn hand_over(&mut self, end: usize, from: SocketAddr, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut sink = Checked(&mut self.received[end]);
        self.ends[end].handle_datagram(self.now, from, &mut bytes, false, &mut sink);
    }

    /// Everything that the ends want to send or tell.
    pub fn drain(&mut self) {
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(1));
        for end in [HOLDER, ASKER] {
            loop {
                let mut source = Source { bytes: &self.streams[end], ready: self.ready };
                let Some(to) = self.ends[end].poll_transmit(self.now, &mut source, &mut batch) else { break };
                assert!(!batch.is_empty() && batch.len() <= batch.max() && batch.bytes().len() <= 65_507);
                for datagram in batch.datagrams() {
                    self.sent.push((to, datagram.len()));
                    if is_detour(to) {
                        self.carry(detour(1 - end), detour(1 - end), datagram);
                        continue;
                    }
                    let from = self.routers[end].as_mut().map_or(self.addrs[end], |router| router.out(self.now, to));
                    let mute = self.link.mute.as_ref();
                    if !mute.is_some_and(|(who, times)| *who == end && times.contains(&self.now)) {
                        self.carry(from, to, datagram);
                    }
                }
            }
            while let Some(event) = self.ends[end].poll_event() {
                self.events[end].push(event);
            }
        }
        self.batch = batch;
    }

    /// A copy of a datagram under way to `end`, if there is one.
    pub fn last_to(&self, end: usize) -> Option<(usize, Vec<u8>)> {
        let Reverse(datagram) = self.under_way.iter().find(|Reverse(datagram)| datagram.to == self.addrs[end])?;
        Some((end, datagram.bytes.clone()))
    }

    pub fn finished(&self, end: usize) -> bool {
        self.events[end].contains(&Event::Finished)
    }

    /// Whether both streams have arrived.
    pub fn is_whole(&self) -> bool {
        self.received[ASKER] == self.streams[HOLDER] && self.received[HOLDER] == self.streams[ASKER]
    }

    fn next_time(&self) -> Option<Duration> {
        let arrival = self.under_way.peek().map(|Reverse(datagram)| datagram.arrives);
        self.ends.iter().filter_map(Connection::poll_timeout).chain(arrival).min()
    }

    fn step(&mut self) {
        while self.under_way.peek().is_some_and(|Reverse(datagram)| datagram.arrives <= self.now) {
            let Some(Reverse(datagram)) = self.under_way.pop() else { break };
            if let Some(end) = [HOLDER, ASKER].into_iter().find(|end| self.reaches(*end, &datagram)) {
                self.hand_over(end, datagram.from, &datagram.bytes);
            }
        }
        for end in &mut self.ends {
            end.end_of_batch(self.now);
            end.handle_timeout(self.now);
        }
    }

    fn reaches(&self, end: usize, datagram: &Datagram) -> bool {
        if is_detour(datagram.to) {
            return datagram.to == detour(end);
        }
        match &self.routers[end] {
            Some(router) => router.lets_in(self.now, datagram.from, datagram.to),
            None => datagram.to == self.addrs[end],
        }
    }

    fn carry(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let longer = if is_detour(to) { 2 } else { 1 };
        let out = longer == 1 && self.link.outages.iter().any(|outage| outage.contains(&self.now));
        let too_large = self.link.largest > 0 && bytes.len() > self.link.largest;
        if out || too_large || self.chance(self.link.loss) {
            return;
        }
        let copies = 1 + u32::from(self.chance(self.link.duplicate));
        for _ in 0..copies {
            let mut bytes = bytes.to_vec();
            if self.chance(self.link.corrupt) {
                let at = self.rng.next_u32() as usize % bytes.len();
                bytes[at] ^= 1 << (self.rng.next_u32() % 8);
            }
            let late = self.chance(self.link.reorder);
            let jitter = self.link.jitter.as_nanos() as u64 * 2;
            let extra = if late && jitter > 0 { self.rng.next_u64() % jitter } else { 0 };
            let arrives = self.now + self.link.delay * longer + Duration::from_nanos(extra);
            self.count += 1;
            self.under_way.push(Reverse(Datagram { arrives, order: self.count, from, to, bytes }));
        }
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.next_u32() % 1000 < per_mille
    }
}

fn is_detour(addr: SocketAddr) -> bool {
    [HOLDER, ASKER].into_iter().any(|end| detour(end) == addr)
}

/// A stream, or one whose bytes are still on their way from the disk.
struct Source<'a> {
    bytes: &'a [u8],
    ready: bool,
}

impl StreamSource for Source<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        assert!(!bytes.is_empty(), "nothing is asked for at {offset}");
        if self.ready { self.bytes.read(offset, bytes) } else { Err(SourceError::NotReady) }
    }
}

/// Holds that each byte comes once and in order.
struct Checked<'a>(&'a mut Vec<u8>);

impl StreamSink for Checked<'_> {
    fn deliver(&mut self, offset: u64, bytes: &[u8]) {
        assert_eq!(offset, self.0.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

/// The keys of one end.
pub fn keys(end: usize) -> ChannelKeys {
    let key = |which: u8| SealKey::new([which; 32], [which; 12]);
    if end == HOLDER { ChannelKeys { send: key(1), recv: key(2) } } else { ChannelKeys { send: key(2), recv: key(1) } }
}

/// A datagram as the holder of `end`'s keys would make it: what a hostile peer can do.
pub fn sealed(end: usize, packet_number: u64, frames: &[Frame<'_>]) -> Vec<u8> {
    sealed_with(end, packet_number, frames, &[])
}

/// The same with `rest` behind the frames.
pub fn sealed_with(end: usize, packet_number: u64, frames: &[Frame<'_>], rest: &[u8]) -> Vec<u8> {
    let connection = IDS[1 - end];
    let mut datagram = Header { connection, packet_number }.encode().to_vec();
    for frame in frames {
        frame.encode(&mut datagram).expect("within its caps");
    }
    datagram.extend_from_slice(rest);
    keys(end).send.seal_datagram(packet_number, HEADER_LEN, &mut datagram).expect("sealable");
    datagram
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
