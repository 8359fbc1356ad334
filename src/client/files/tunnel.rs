//! One session's sealed path: a connection, and before it, with `rsa-split`, another that carries only the hand-over.

use std::net::SocketAddr;
use std::time::Duration;

use rand_core::OsRng;
use zeroize::Zeroizing;

use super::legs::is_alias;
use super::session::Terms;
use crate::channel::{
    Batch, ChannelKeys, ClosedBy, Config, ConfigError, Connection, ConnectionIds, Event, Failure, NoSink, NoSource,
    Side, Stats, StreamSink, StreamSource,
};
use crate::client::effects::{ChannelStart, Reach};
use crate::crypto::handover::{Handover, StageTwo};
use crate::crypto::seal::SealKey;
use crate::net::udp::worth_trying;
use crate::wire::datagram::CloseCode;
use crate::wire::packet::ConnectionId;

/// Drives one connection, or two while keys are handed over.
#[derive(Debug)]
pub(super) struct Tunnel {
    // Carries the file, or the hand-over as long as there is one.
    current: Line,
    handover: Option<Box<Handover>>,
    // The holder's first connection repeats the ciphertext until the second has a path; the asker's says goodbye.
    before: Option<Line>,
    side: Side,
    config: Config,
    // Nobody but servers is to learn that we are here.
    hidden: bool,
    // What the peer may be reached at, and what stands for a server that passes it on.
    candidates: Vec<SocketAddr>,
    detour: Option<SocketAddr>,
    // Of our stream, told to the connection that carries it.
    stream_end: u64,
    finished: bool,
    window: Option<u32>,
}

#[derive(Debug)]
struct Line {
    connection: Connection,
    id: [u8; 8],
}

/// What a session wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// The file travels over this address.
    Path(SocketAddr),
    /// The peer's stream was delivered whole.
    PeerFinished,
    /// Both streams were.
    Finished,
    /// The peer closed.
    Closed(CloseCode, String),
    /// The connection cannot go on.
    Failed(Failure),
    /// The hand-over of keys failed.
    KeyAgreement,
}

impl Tunnel {
    /// Opens the connection; it tries the peer's candidates at once.
    pub(super) fn new(
        now: Duration,
        start: ChannelStart,
        side: Side,
        config: Config,
        terms: Terms,
    ) -> Result<Self, ConfigError> {
        let ChannelStart { send, receive, our_connection, peer_connection, peer_candidates, handover, .. } = start;
        let candidates = match terms.reach {
            Reach::Relayed => Vec::new(),
            _ => worth_trying(&peer_candidates, terms.loopback),
        };
        let keys = StageTwo { send, receive, our_connection, peer_connection };
        let current = Line::open(now, &keys, side, config.clone(), &candidates, None)?;
        let mut tunnel = Self {
            current,
            handover,
            before: None,
            side,
            config,
            hidden: terms.reach == Reach::Relayed,
            candidates,
            detour: None,
            stream_end: 0,
            finished: false,
            window: None,
        };
        let first = tunnel.handover.as_ref().and_then(|handover| handover.first());
        if let Some(first) = first {
            // It is far below the largest handshake message.
            let _ = tunnel.current.connection.send_handshake(now, &first);
        }
        Ok(tunnel)
    }

    /// The peer may be reached over a server, for which this address stands; it is tried anew where it was known.
    pub(super) fn add_detour(&mut self, now: Duration, addr: SocketAddr) {
        self.detour = Some(addr);
        self.current.connection.add_detour(now, addr);
    }

    /// Whether nothing comes over the path in use.
    pub(super) fn is_silent(&self) -> bool {
        self.current.connection.is_silent()
    }

    /// Whether datagrams with this connection id are ours.
    pub(super) fn is_ours(&self, id: &[u8; 8]) -> bool {
        self.current.id == *id || self.before.as_ref().is_some_and(|before| before.id == *id)
    }

    /// A datagram with one of our connection ids.
    pub(super) fn handle_datagram(
        &mut self,
        now: Duration,
        id: &[u8; 8],
        from: SocketAddr,
        bytes: &mut [u8],
        ce: bool,
        sink: &mut dyn StreamSink,
    ) {
        if self.hidden && !is_alias(from) {
            return;
        }
        if self.current.id == *id {
            let sink: &mut dyn StreamSink = if self.handover.is_some() { &mut NoSink } else { sink };
            self.current.connection.handle_datagram(now, from, bytes, ce, sink);
        } else if let Some(before) = &mut self.before {
            before.connection.handle_datagram(now, from, bytes, ce, &mut NoSink);
        }
    }

    /// After the last datagram that had come.
    pub(super) fn end_of_batch(&mut self, now: Duration) {
        self.current.connection.end_of_batch(now);
        if let Some(before) = &mut self.before {
            before.connection.end_of_batch(now);
        }
    }

    /// Acts on deadlines that have passed.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        self.current.connection.handle_timeout(now);
        if let Some(before) = &mut self.before {
            before.connection.handle_timeout(now);
            while before.connection.poll_event().is_some() {}
            if before.connection.is_drained() {
                self.before = None;
            }
        }
    }

    /// Puts the next datagrams into `batch` and returns where they go.
    pub(super) fn poll_transmit(
        &mut self,
        now: Duration,
        source: &mut dyn StreamSource,
        batch: &mut Batch,
    ) -> Option<SocketAddr> {
        let source: &mut dyn StreamSource = if self.handover.is_some() { &mut NoSource } else { source };
        let sent = self.current.connection.poll_transmit(now, source, batch);
        sent.or_else(|| self.before.as_mut()?.connection.poll_transmit(now, &mut NoSource, batch))
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] want to be called.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let before = self.before.as_ref().and_then(|before| before.connection.poll_timeout());
        self.current.connection.poll_timeout().into_iter().chain(before).min()
    }

    /// Bytes of our stream that exist.
    pub(super) fn set_stream_end(&mut self, now: Duration, end: u64) {
        self.stream_end = end;
        if self.handover.is_none() {
            self.current.connection.set_stream_end(now, end);
        }
    }

    /// No more of our stream will exist.
    pub(super) fn finish_stream(&mut self, now: Duration) {
        self.finished = true;
        if self.handover.is_none() {
            self.current.connection.finish_stream(now);
        }
    }

    /// Bytes of our stream that the peer has.
    pub(super) fn acked(&self) -> u64 {
        if self.handover.is_none() { self.current.connection.acked() } else { 0 }
    }

    /// 0 pauses the peer.
    pub(super) fn set_receive_window(&mut self, now: Duration, segments: u32) {
        self.window = Some(segments);
        if self.handover.is_none() {
            self.current.connection.set_receive_window(now, segments);
        }
    }

    /// Ends it and tells the peer.
    pub(super) fn close(&mut self, now: Duration, code: CloseCode, reason: &str) {
        self.current.connection.close(now, code, reason);
        if let Some(before) = &mut self.before {
            before.connection.close(now, code, reason);
        }
    }

    /// Nothing is left to do.
    pub(super) fn is_drained(&self) -> bool {
        self.current.connection.is_drained() && self.before.as_ref().is_none_or(|before| before.connection.is_drained())
    }

    /// Counters of the connection that carries the file.
    pub(super) fn stats(&self) -> Stats {
        self.current.connection.stats()
    }

    /// Its window is so small and its path so short that it waits for each ack.
    pub(super) fn is_hasty(&self) -> bool {
        let short = || self.stats().round_trip.is_some_and(|round_trip| round_trip < SHORT_PATH);
        self.config.window.is_some_and(|window| window <= SMALL_WINDOW) && short()
    }

    /// What happened, in order.
    pub(super) fn poll_news(&mut self, now: Duration) -> Option<News> {
        loop {
            let event = self.current.connection.poll_event()?;
            let news = match event {
                Event::Handshake(bytes) => self.on_handshake(now, bytes.as_bytes()),
                Event::PathValidated(addr) if self.handover.is_some() && self.detour == Some(addr) => None,
                Event::PathValidated(addr) if self.handover.is_some() => {
                    self.candidates.retain(|known| *known != addr);
                    self.candidates.insert(0, addr);
                    None
                }
                Event::PathValidated(addr) => {
                    if let Some(before) = &mut self.before {
                        before.connection.close(now, CloseCode::DONE, "");
                    }
                    Some(News::Path(addr))
                }
                Event::PeerFinished => Some(News::PeerFinished),
                Event::Finished => Some(News::Finished),
                Event::Closed { by: ClosedBy::Peer, code, reason } => Some(News::Closed(code, reason)),
                Event::Failed(failure) => Some(News::Failed(failure)),
                Event::Closed { by: ClosedBy::Us, .. } | Event::SegmentSize(_) => None,
            };
            if news.is_some() {
                return news;
            }
        }
    }

    fn on_handshake(&mut self, now: Duration, bytes: &[u8]) -> Option<News> {
        let handover = self.handover.as_mut()?;
        let Ok(taken) = handover.take(&mut OsRng, bytes) else {
            // The peer is told nothing of the reason.
            self.current.connection.close(now, CloseCode::CANCELLED, "");
            return Some(News::KeyAgreement);
        };
        if let Some(reply) = taken.reply {
            let _ = self.current.connection.send_handshake(now, &reply);
        }
        let keys = taken.keys?;
        match Line::open(now, &keys, self.side, self.config.clone(), &self.candidates, self.detour) {
            Ok(line) => self.go_over_to(now, line),
            Err(_) => return Some(News::KeyAgreement),
        }
        None
    }

    fn go_over_to(&mut self, now: Duration, line: Line) {
        let mut before = std::mem::replace(&mut self.current, line);
        if self.side == Side::Asker {
            before.connection.close(now, CloseCode::DONE, "");
        }
        self.before = Some(before);
        self.handover = None;
        self.set_stream_end(now, self.stream_end);
        if self.finished {
            self.finish_stream(now);
        }
        if let Some(segments) = self.window {
            self.set_receive_window(now, segments);
        }
    }
}

impl Line {
    fn open(
        now: Duration,
        keys: &StageTwo,
        side: Side,
        config: Config,
        candidates: &[SocketAddr],
        detour: Option<SocketAddr>,
    ) -> Result<Self, ConfigError> {
        let ids =
            ConnectionIds { local: ConnectionId(keys.our_connection), remote: ConnectionId(keys.peer_connection) };
        let sealing = ChannelKeys { send: seal_key(&keys.send), recv: seal_key(&keys.receive) };
        let mut seed = Zeroizing::new([0; 32]);
        // Without randomness the path challenges can be guessed, and nothing else: the keys do not come from here.
        let _ = getrandom::fill(seed.as_mut_slice());
        let mut connection = Connection::new(config, sealing, ids, side, *seed, now)?;
        for addr in candidates {
            connection.add_candidate(now, *addr);
        }
        if let Some(addr) = detour {
            connection.add_detour(now, addr);
        }
        Ok(Self { connection, id: keys.our_connection })
    }
}

/// The first 32 bytes are the key, the rest the iv.
fn seal_key(bytes: &[u8; 44]) -> SealKey {
    let (mut key, mut iv) = ([0; 32], [0; 12]);
    key.iter_mut().chain(&mut iv).zip(bytes).for_each(|(to, from)| *to = *from);
    SealKey::new(std::mem::take(&mut key), iv)
}

/// Windows that never leave time to sleep, where the round trip is that short.
const SMALL_WINDOW: u32 = 64;
const SHORT_PATH: Duration = Duration::from_micros(500);
