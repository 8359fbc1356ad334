//! Two channel ends and the network between them, in virtual time and from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use secchat::channel::{
    ChannelKeys, Config, Connection, ConnectionIds, Event, NoSink, NoSource, SegmentSource, SourceError,
};
use secchat::crypto::seal::SealKey;
use secchat::wire::datagram::Frame;
use secchat::wire::packet::{ConnectionId, HEADER_LEN, Header};

pub const SENDER: usize = 0;
pub const RECEIVER: usize = 1;
pub const SENDER_ID: ConnectionId = ConnectionId(*b"sender's");
pub const RECEIVER_ID: ConnectionId = ConnectionId(*b"receiver");

/// What the network does to each datagram; chances in per mille.
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub loss: u32,
    pub duplicate: u32,
    pub corrupt: u32,
    pub delay: Duration,
    pub jitter: Duration,
    /// Times at which nothing passes.
    pub outages: Vec<Range<Duration>>,
}

impl Link {
    /// A clean path with 20 ms each way.
    pub fn clean() -> Self {
        Self { delay: Duration::from_millis(20), ..Self::default() }
    }

    /// One datagram in five is lost, some come twice or damaged, most of the rest out of order.
    pub fn bad() -> Self {
        Self { loss: 200, duplicate: 50, corrupt: 50, jitter: Duration::from_millis(15), ..Self::clean() }
    }
}

/// Both ends and all that is under way between them.
pub struct Sim {
    pub now: Duration,
    pub ends: [Connection; 2],
    pub addrs: [SocketAddr; 2],
    pub file: Vec<u8>,
    /// Whether the sender's source has bytes to give.
    pub file_ready: bool,
    pub received: Vec<u8>,
    pub events: [Vec<Event>; 2],
    /// Every datagram that an end sent, with its destination.
    pub sent: Vec<(SocketAddr, usize)>,
    link: Link,
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
    /// Two ends with one candidate each and a random file of `file_len` bytes.
    pub fn new(seed: u64, link: Link, config: Config, file_len: usize) -> Self {
        let mut sim = Self::without_candidates(seed, link, config, file_len);
        for end in [SENDER, RECEIVER] {
            let peer = sim.addrs[1 - end];
            assert!(sim.ends[end].add_candidate(sim.now, peer));
        }
        sim
    }

    pub fn without_candidates(seed: u64, link: Link, config: Config, file_len: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut file = vec![0; file_len];
        rng.fill_bytes(&mut file);
        let entropy = [rng.next_u32() as u8; 32];
        let now = Duration::from_secs(1000);
        let len = file_len as u64;
        let sender_ids = ConnectionIds { local: SENDER_ID, remote: RECEIVER_ID };
        let receiver_ids = ConnectionIds { local: RECEIVER_ID, remote: SENDER_ID };
        let sender =
            Connection::new_sender(config.clone(), keys(SENDER), sender_ids, entropy, len, now).expect("valid");
        let receiver =
            Connection::new_receiver(config, keys(RECEIVER), receiver_ids, entropy, len, now).expect("valid");
        Self {
            now,
            ends: [sender, receiver],
            addrs: [addr("10.0.0.1:1000"), addr("10.0.0.2:2000")],
            file,
            file_ready: true,
            received: Vec::new(),
            events: [Vec::new(), Vec::new()],
            sent: Vec::new(),
            link,
            rng,
            under_way: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Runs until both ends are drained or `for_long` has passed.
    pub fn run(&mut self, for_long: Duration) {
        let until = self.now + for_long;
        loop {
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
        let mut bytes = bytes.to_vec();
        if end == RECEIVER {
            self.ends[end].handle_datagram(self.now, from, &mut bytes, &mut self.received);
        } else {
            self.ends[end].handle_datagram(self.now, from, &mut bytes, &mut NoSink);
        }
    }

    /// Everything that the ends want to send or tell.
    pub fn drain(&mut self) {
        for end in [SENDER, RECEIVER] {
            let mut out = Vec::new();
            loop {
                let to = if end == SENDER && self.file_ready {
                    self.ends[end].poll_transmit(self.now, &mut &self.file[..], &mut out)
                } else if end == SENDER {
                    self.ends[end].poll_transmit(self.now, &mut NotYet, &mut out)
                } else {
                    self.ends[end].poll_transmit(self.now, &mut NoSource, &mut out)
                };
                let Some(to) = to else { break };
                self.sent.push((to, out.len()));
                self.carry(self.addrs[end], to, &out);
            }
            while let Some(event) = self.ends[end].poll_event() {
                self.events[end].push(event);
            }
        }
    }

    /// A copy of a datagram under way to `end`, if there is one.
    pub fn last_to(&self, end: usize) -> Option<(usize, Vec<u8>)> {
        let Reverse(datagram) = self.under_way.iter().find(|Reverse(datagram)| datagram.to == self.addrs[end])?;
        Some((end, datagram.bytes.clone()))
    }

    pub fn finished(&self, end: usize) -> bool {
        self.events[end].contains(&Event::Finished)
    }

    pub fn is_whole(&self) -> bool {
        blake3::hash(&self.received) == blake3::hash(&self.file)
    }

    fn next_time(&self) -> Option<Duration> {
        let arrival = self.under_way.peek().map(|Reverse(datagram)| datagram.arrives);
        self.ends.iter().filter_map(Connection::poll_timeout).chain(arrival).min()
    }

    fn step(&mut self) {
        while self.under_way.peek().is_some_and(|Reverse(datagram)| datagram.arrives <= self.now) {
            let Some(Reverse(datagram)) = self.under_way.pop() else { break };
            if let Some(end) = self.addrs.iter().position(|addr| *addr == datagram.to) {
                self.deliver(end, datagram.from, &datagram.bytes);
            }
        }
        for end in &mut self.ends {
            end.handle_timeout(self.now);
        }
    }

    fn carry(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let out = self.link.outages.iter().any(|outage| outage.contains(&self.now));
        if out || self.chance(self.link.loss) {
            return;
        }
        let copies = 1 + u32::from(self.chance(self.link.duplicate));
        for _ in 0..copies {
            let mut bytes = bytes.to_vec();
            if self.chance(self.link.corrupt) {
                let at = self.rng.next_u32() as usize % bytes.len();
                bytes[at] ^= 1 << (self.rng.next_u32() % 8);
            }
            let jitter = self.link.jitter.as_nanos() as u64;
            let extra = if jitter == 0 { 0 } else { self.rng.next_u64() % jitter };
            let arrives = self.now + self.link.delay + Duration::from_nanos(extra);
            self.count += 1;
            self.under_way.push(Reverse(Datagram { arrives, order: self.count, from, to, bytes }));
        }
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.next_u32() % 1000 < per_mille
    }
}

/// A source whose bytes are still on their way from the disk.
struct NotYet;

impl SegmentSource for NotYet {
    fn read(&mut self, _offset: u64, _out: &mut [u8]) -> Result<(), SourceError> {
        Err(SourceError::NotReady)
    }
}

/// The keys of one end.
pub fn keys(end: usize) -> ChannelKeys {
    let key = |which: u8| SealKey::new([which; 32], [which; 12]);
    if end == SENDER { ChannelKeys { send: key(1), recv: key(2) } } else { ChannelKeys { send: key(2), recv: key(1) } }
}

/// A datagram as the holder of `end`'s keys would make it: what a hostile peer can do.
pub fn sealed(end: usize, packet_number: u64, frames: &[Frame<'_>]) -> Vec<u8> {
    sealed_with(end, packet_number, frames, &[])
}

/// The same with `rest` behind the frames.
pub fn sealed_with(end: usize, packet_number: u64, frames: &[Frame<'_>], rest: &[u8]) -> Vec<u8> {
    let connection = if end == SENDER { RECEIVER_ID } else { SENDER_ID };
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
