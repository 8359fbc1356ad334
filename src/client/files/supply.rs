//! One source of a download: asks out, a holder's bytes in.

use std::net::SocketAddr;
use std::time::Duration;

use super::session::{Terms, Way, WayNews, config_of};
use super::tunnel::{News, Tunnel};
use super::wire::Incoming;
use super::writer::{CHUNK, Writer};
use crate::channel::{Batch, ConfigError, Failure, MAX_WINDOW, Side, SourceError, StreamSink, StreamSource};
use crate::client::effects::{ChannelStart, LostReason};
use crate::transfer::exchange::{Ask, Outbox, Wanted};
use crate::transfer::planner::SourceId;
use crate::transfer::ranges::RangeSet;
use crate::wire::datagram::CloseCode;
use crate::wire::id::TransferId;
use crate::wire::name::Name;
use crate::wire::text::shown;

/// A session with one holder.
#[derive(Debug)]
pub(super) struct Supply {
    transfer: TransferId,
    /// Its number in the plan.
    pub(super) number: SourceId,
    /// It has only a part, and says which: what it has said so far.
    pub(super) partial: bool,
    pub(super) has: RangeSet,
    // Groups that it was asked for and did not bring yet.
    pending: u64,
    tunnel: Tunnel,
    way: Way,
    asks: Outbox,
    // The end of our stream that the channel knows.
    sent: u64,
    // Bytes of its stream that were not handed over yet.
    chunk: Vec<u8>,
    // How many are worth it, and when fewer are.
    goal: usize,
    chunk_due: Option<Duration>,
    paused: bool,
    announced: bool,
    over: bool,
    // Where the first bytes of its stream came from, if that was before a path was settled.
    heard_from: Option<SocketAddr>,
}

/// What a source does that its download wants to know.
#[derive(Debug)]
pub(super) enum Turn {
    /// The channel runs.
    Started(String),
    /// It takes another way.
    Rerouted(String),
    /// Nothing comes over its way.
    Silent,
    /// It is gone.
    Lost(LostReason, String),
}

impl Supply {
    /// Opens the channel; it tries the peer's candidates at once.
    pub(super) fn new(now: Duration, start: ChannelStart, number: SourceId, terms: Terms) -> Result<Self, ConfigError> {
        let (transfer, partial, config) = (start.transfer, start.partial, config_of(&start, terms));
        let tunnel = Tunnel::new(now, start, Side::Asker, config, terms)?;
        Ok(Self {
            transfer,
            number,
            partial,
            has: RangeSet::new(),
            pending: 0,
            tunnel,
            way: Way::default(),
            asks: Outbox::default(),
            sent: 0,
            chunk: Vec::new(),
            goal: CHUNK,
            chunk_due: None,
            paused: false,
            announced: false,
            over: false,
            heard_from: None,
        })
    }

    pub(super) fn transfer(&self) -> TransferId {
        self.transfer
    }

    /// The peer may be reached over a server too.
    pub(super) fn add_relay(&mut self, now: Duration, addr: SocketAddr, server: Name) {
        self.way.may_be_relayed(server);
        self.tunnel.add_detour(now, addr);
    }

    /// From now on that way leads somewhere: without another one it is tried at once.
    pub(super) fn relay_opened(&mut self, now: Duration, addr: SocketAddr) {
        if !self.way.is_found() {
            self.tunnel.add_detour(now, addr);
        }
    }

    /// Whether it would have use for a leg at a server.
    pub(super) fn keeps_leg(&self, now: Duration) -> bool {
        !self.way.spares_relay(now)
    }

    pub(super) fn is_ours(&self, id: &[u8; 8]) -> bool {
        self.tunnel.is_ours(id)
    }

    /// It delivers, or may yet.
    pub(super) fn is_live(&self) -> bool {
        !self.over
    }

    /// The round trip, once it is known.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.tunnel.stats().round_trip
    }

    /// Its window is so small and its path so short that it waits for each ack.
    pub(super) fn is_hasty(&self) -> bool {
        !self.over && self.tunnel.is_hasty()
    }

    /// Nothing is left to do.
    pub(super) fn is_gone(&self) -> bool {
        self.over && self.tunnel.is_drained()
    }

    /// When [`Self::on_time`] and [`Self::poll_transmit`] want to be called.
    pub(super) fn deadline(&self, now: Duration) -> Option<Duration> {
        let look_again = self.paused.then_some(now + DISK_INTERVAL);
        let way = self.way.due().filter(|_| !self.over);
        self.tunnel.poll_timeout().into_iter().chain(look_again).chain(self.chunk_due).chain(way).min()
    }

    pub(super) fn on_datagram(&mut self, now: Duration, datagram: Incoming<'_>, writer: &Writer) {
        let Incoming { id, from, bytes, ce, linked } = datagram;
        self.way.came(from, linked);
        let taking = (!self.over).then_some(writer);
        let mut sink = Taking { transfer: self.transfer, chunk: &mut self.chunk, goal: &mut self.goal, writer: taking };
        self.tunnel.handle_datagram(now, &id, from, bytes, ce, &mut sink);
        if !self.announced && self.heard_from.is_none() && self.tunnel.stats().bytes_delivered > 0 {
            self.heard_from = Some(from);
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Duration, batch: &mut Batch) -> Option<SocketAddr> {
        self.tunnel.poll_transmit(now, &mut Asking(&self.asks), batch)
    }

    /// Everything that had come was taken.
    pub(super) fn on_time(&mut self, now: Duration, writer: &Writer, tell: &mut dyn FnMut(Turn)) {
        self.tunnel.end_of_batch(now);
        self.tunnel.handle_timeout(now);
        // A small file is whole before a path is settled.
        if let Some(from) = self.heard_from.take().filter(|_| !self.announced) {
            self.way.leads_to(now, from);
            self.tell_way(now, tell);
        }
        // While the disk is busy it is handed over in larger pieces.
        if self.chunk.is_empty() || self.goal < CHUNK || self.over {
            self.chunk_due = None;
        } else if self.chunk.len() >= HANDFUL || self.chunk_due.is_some_and(|due| due <= now) {
            if writer.is_idle() {
                self.goal = writer.take(self.transfer, &mut self.chunk);
                self.chunk_due = None;
            } else {
                self.chunk_due = Some(now + DISK_INTERVAL);
            }
        } else {
            self.chunk_due.get_or_insert(now + DISK_INTERVAL);
        }
        while let Some(news) = self.tunnel.poll_news(now) {
            self.on_news(now, news, writer, tell);
        }
        if !self.over {
            self.tell_way(now, tell);
        }
        self.asks.forget(self.tunnel.acked());
        if !self.over {
            let pause = if self.paused { !writer.is_relieved() } else { writer.is_congested() };
            if pause != self.paused {
                self.paused = pause;
                self.tunnel.set_receive_window(now, if pause { 0 } else { MAX_WINDOW });
            }
        }
    }

    /// Asks for this; [`Self::send_asks`] follows.
    pub(super) fn ask(&mut self, ask: &Ask, wanted: Vec<Wanted>, writer: &Writer) {
        let mut bytes = Vec::new();
        ask.encode(&mut bytes);
        self.asks.push(&bytes);
        self.pending += wanted.iter().map(|wanted| wanted.groups.end - wanted.groups.start).sum::<u64>();
        writer.asked(self.transfer, wanted);
    }

    /// Groups of it were checked and written.
    pub(super) fn brought(&mut self, groups: u64) {
        self.pending = self.pending.saturating_sub(groups);
    }

    /// Lets the asks leave.
    pub(super) fn send_asks(&mut self, now: Duration) {
        if self.sent < self.asks.end() {
            self.sent = self.asks.end();
            self.tunnel.set_stream_end(now, self.sent);
        }
    }

    /// Nothing more is wanted of it.
    pub(super) fn finish(&mut self, now: Duration) {
        self.over = true;
        if self.pending == 0 {
            self.tunnel.finish_stream(now);
        } else {
            // Others brought what it is still sending.
            self.tunnel.close(now, CloseCode::DONE, "");
        }
    }

    /// Ends it and tells the peer.
    pub(super) fn close(&mut self, now: Duration, code: CloseCode, reason: &str, writer: &Writer) {
        if !self.over {
            self.over = true;
            writer.gone(self.transfer);
        }
        self.tunnel.close(now, code, reason);
    }

    fn tell_way(&mut self, now: Duration, tell: &mut dyn FnMut(Turn)) {
        while let Some(news) = self.way.news(now, self.tunnel.is_silent()) {
            tell(match news {
                WayNews::Silent => Turn::Silent,
                WayNews::Route(route) if std::mem::replace(&mut self.announced, true) => Turn::Rerouted(route),
                WayNews::Route(route) => Turn::Started(route),
            });
        }
    }

    fn on_news(&mut self, now: Duration, news: News, writer: &Writer, tell: &mut dyn FnMut(Turn)) {
        let (reason, detail) = match news {
            News::Path(addr) => {
                // Told at once: what comes next may be its end.
                self.way.leads_to(now, addr);
                return self.tell_way(now, tell);
            }
            News::Closed(CloseCode::FILE, reason) => (LostReason::Changed, shown(&reason)),
            News::Closed(CloseCode::CANCELLED, reason) => (LostReason::Cancelled, shown(&reason)),
            News::Closed(_, reason) => (LostReason::Left, shown(&reason)),
            // Before we finished: it has nothing more to say.
            News::PeerFinished | News::Finished => (LostReason::Left, "the holder ended the transfer".to_owned()),
            News::Failed(failure) => (lost(failure), failure.to_string()),
            News::KeyAgreement => (LostReason::KeyAgreement, "the hand-over of keys failed".to_owned()),
        };
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if !self.chunk.is_empty() {
            writer.take(self.transfer, &mut self.chunk);
        }
        writer.gone(self.transfer);
        tell(Turn::Lost(reason, detail));
    }
}

fn lost(failure: Failure) -> LostReason {
    match failure {
        Failure::NoPath => LostReason::NoPath,
        Failure::Stalled => LostReason::Stalled,
        Failure::PathShrunk => LostReason::PathShrunk,
        Failure::Silent | Failure::Source | Failure::Peer(_) | Failure::PacketNumbers => LostReason::Left,
    }
}

/// Gathers a holder's stream and hands it over in large pieces.
struct Taking<'t> {
    transfer: TransferId,
    chunk: &'t mut Vec<u8>,
    goal: &'t mut usize,
    // None when nothing of it counts any more.
    writer: Option<&'t Writer>,
}

impl StreamSink for Taking<'_> {
    fn deliver(&mut self, _offset: u64, mut bytes: &[u8]) {
        let Some(writer) = self.writer else { return };
        while !bytes.is_empty() {
            let room = self.goal.saturating_sub(self.chunk.len()).max(1);
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() >= *self.goal {
                *self.goal = writer.take(self.transfer, self.chunk);
            }
        }
    }
}

/// Our own stream.
struct Asking<'a>(&'a Outbox);

impl StreamSource for Asking<'_> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        if self.0.read(offset, bytes) { Ok(()) } else { Err(SourceError::Failed) }
    }
}

/// How often the disk is looked at while the peer is paused for it, or bytes wait to be handed over.
const DISK_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes worth waking the writing thread for: a group.
const HANDFUL: usize = 64 << 10;
