//! One connection: its state and its clock-facing half.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::net::SocketAddr;
use std::time::Duration;

use super::acks::AckState;
use super::config::{Arq, ChannelKeys, Config, ConfigError, ConnectionIds, MAX_WINDOW, Side};
use super::event::{ClosedBy, Event, Failure, HandshakeBytes, Stats};
use super::flight::Flight;
use super::incoming::Incoming;
use super::nudge::Nudge;
use super::numbers::Numbers;
use super::outgoing::Outgoing;
use super::pace::Pace;
use super::paths::Paths;
use super::recovery::Recovery;
use super::rtt::Rtt;
use super::sizes::Sizes;
use crate::crypto::replay::ReplayWindow;
use crate::wire::datagram::{CloseCode, FrameError, MAX_CLOSE_REASON, MAX_HANDSHAKE};

/// Carries one byte stream each way between two peers that share keys. See the [module](super) for how to drive it.
///
/// `now` is the time since an origin of the driver's choice, and never goes back. Addresses are compared as they are
/// given: a driver with a dual-stack socket turns IPv4-mapped addresses into one form.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Config,
    pub(super) keys: ChannelKeys,
    pub(super) ids: ConnectionIds,
    pub(super) side: Side,
    pub(super) phase: Phase,
    pub(super) numbers: Numbers,
    pub(super) replay: ReplayWindow,
    pub(super) paths: Paths,
    pub(super) sizes: Sizes,
    pub(super) acks: AckState,
    pub(super) rtt: Rtt,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    pub(super) flight: Flight,
    pub(super) recovery: Recovery,
    pub(super) pace: Pace,
    pub(super) nudge: Nudge,
    pub(super) handshake: Option<Handshake>,
    // Where the streams went last.
    pub(super) carrier: Option<SocketAddr>,
    // Bytes, to be confirmed, of the newest size probe.
    pub(super) probed: Option<u16>,
    // A small datagram should leave that asks for an ack.
    pub(super) ping_owed: bool,
    // The source had nothing yet when it was asked last.
    pub(super) source_waits: bool,
    // When an authentic datagram came last.
    pub(super) heard_at: Duration,
    // When a stream moved last.
    pub(super) moved_at: Duration,
    // Datagrams marked "congestion experienced", as the peer counts them.
    pub(super) peer_ce: u32,
    pub(super) stats: Stats,
    pub(super) told_peer_finished: bool,
    // Frames of a datagram in the making.
    pub(super) scratch: Vec<u8>,
    // At most one of each kind waits.
    events: VecDeque<Event>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// No path is chosen.
    Probing { until: Duration },
    /// The streams move.
    Transferring,
    /// An asker has finished and waits for the holder to confirm.
    Lingering { until: Duration },
    /// Over; the peer is told, again when it is heard.
    Closing(Closing),
    /// Over.
    Drained,
}

#[derive(Debug)]
pub(super) struct Closing {
    pub(super) until: Duration,
    pub(super) code: CloseCode,
    pub(super) reason: String,
    /// A close frame should leave.
    pub(super) owed: bool,
    /// It answers the peer's close, so nothing comes after it.
    pub(super) answer: bool,
}

/// A handshake message that is sent until the driver stops it.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) bytes: HandshakeBytes,
    pub(super) due: Duration,
    pub(super) repeats: u32,
}

impl Connection {
    /// One end of a connection. `seed` is 32 fresh random bytes, from which path challenges are made and the packet
    /// numbers that are passed over.
    pub fn new(
        config: Config,
        keys: ChannelKeys,
        ids: ConnectionIds,
        side: Side,
        seed: [u8; 32],
        now: Duration,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            phase: Phase::Probing { until: now + config.connect_timeout },
            keys,
            ids,
            side,
            numbers: Numbers::new(seed),
            replay: ReplayWindow::new(),
            paths: Paths::new(side == Side::Asker, seed),
            sizes: Sizes::new(),
            acks: AckState::default(),
            rtt: Rtt::default(),
            outgoing: Outgoing::new(config.arq),
            incoming: Incoming::new(config.arq != Arq::GoBackN, config.receive_bytes),
            flight: Flight::new(),
            recovery: Recovery::default(),
            pace: Pace::new(&config, now),
            nudge: Nudge::default(),
            handshake: None,
            carrier: None,
            probed: None,
            ping_owed: false,
            source_waits: false,
            heard_at: now,
            moved_at: now,
            peer_ce: 0,
            stats: Stats { arq: in_use(config.arq), ..Stats::default() },
            told_peer_finished: false,
            scratch: Vec::new(),
            events: VecDeque::new(),
            config,
        })
    }

    /// Adds an address at which the peer may be. Returns whether it was taken; past
    /// [`MAX_CANDIDATES`](super::MAX_CANDIDATES) it is not.
    pub fn add_candidate(&mut self, now: Duration, addr: SocketAddr) -> bool {
        self.paths.add_candidate(now, addr)
    }

    /// Adds an address at which the peer may be, if only by a detour: it carries the streams while no other address does, and the others go
    /// on being tried, now and then. One that is known is tried anew. Returns whether it was taken.
    pub fn add_detour(&mut self, now: Duration, addr: SocketAddr) -> bool {
        self.paths.add_detour(now, addr)
    }

    /// Bytes `[0, end)` of our stream exist: the source can be asked for them. A smaller end than before, or any after
    /// [`Self::finish_stream`], changes nothing.
    pub fn set_stream_end(&mut self, now: Duration, end: u64) {
        self.lengthen(now, |outgoing| outgoing.set_end(end));
        self.source_waits = false;
    }

    /// Our stream ends where [`Self::set_stream_end`] said last.
    pub fn finish_stream(&mut self, now: Duration) {
        self.lengthen(now, Outgoing::finish);
    }

    /// What we say of our stream is no sign that it moves. But a peer that had everything has, from the moment on when there is more, the
    /// whole time to take some of it.
    fn lengthen(&mut self, now: Duration, change: impl FnOnce(&mut Outgoing)) {
        let had_all = self.outgoing.is_taken();
        change(&mut self.outgoing);
        if had_all && !self.outgoing.is_taken() {
            self.moved_at = now;
        }
    }

    /// The bytes of our stream below this are acknowledged: the source will not be asked for them again.
    pub fn acked(&self) -> u64 {
        self.outgoing.acked_bytes()
    }

    /// How many segments beyond those delivered may be under way to us; 0 stops the peer. Without a call only
    /// `receive_bytes` and [`MAX_WINDOW`] limit it. A stop longer than `stall_timeout` ends the connection.
    pub fn set_receive_window(&mut self, now: Duration, segments: u32) {
        self.incoming.set_window(segments.min(MAX_WINDOW));
        self.acks.request();
        self.acks.end_of_batch(now, Duration::ZERO);
    }

    /// Changes the most bytes a second that we send.
    pub fn set_rate_limit(&mut self, rate: Option<u64>) {
        self.config.rate_limit = rate;
        self.pace.set_rate_limit(rate);
    }

    /// Sends key-agreement bytes over the path, once there is one, again and again with growing pauses until
    /// [`Self::stop_handshake`] or another message. The driver knows by the answer that they arrived; until then it sets
    /// no stream end, so that no stream byte leaves under these keys.
    pub fn send_handshake(&mut self, now: Duration, bytes: &[u8]) -> Result<(), FrameError> {
        if bytes.len() > MAX_HANDSHAKE {
            return Err(FrameError::TooLarge);
        }
        self.handshake = Some(Handshake { bytes: HandshakeBytes::new(bytes), due: now, repeats: 0 });
        Ok(())
    }

    /// The message arrived, or nobody waits for it.
    pub fn stop_handshake(&mut self) {
        self.handshake = None;
    }

    /// Ends the connection and tells the peer. A reason is cut at 200 bytes. Does nothing when it is over already.
    pub fn close(&mut self, now: Duration, code: CloseCode, reason: &str) {
        if self.is_over() {
            return;
        }
        self.emit(Event::Closed { by: ClosedBy::Us, code, reason: reason.to_owned() });
        self.begin_closing(now, code, reason);
    }

    /// What happened, in order. `None` when the driver knows everything.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] and then [`Self::poll_transmit`] want to be called, if nothing comes before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadline = match &self.phase {
            Phase::Drained => return None,
            Phase::Closing(closing) => return Some(closing.until),
            Phase::Probing { until } | Phase::Lingering { until } => *until,
            Phase::Transferring => self.silence_deadline().min(self.stall_deadline()),
        };
        let on_path = self.paths.active().is_some();
        let timers = [
            self.acks.due(),
            self.recovery_due(),
            self.nudge.due(),
            self.handshake.as_ref().map(|handshake| handshake.due),
            self.sizes.due(),
            self.pace.held_until().filter(|_| !self.source_waits),
        ];
        let timers = timers.into_iter().flatten().filter(|_| on_path);
        timers.chain(self.paths.look_at()).chain(self.paths.next_probe_at()).chain([deadline]).min()
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &self.phase {
            Phase::Probing { until } if *until <= now => self.fail(now, Failure::NoPath),
            Phase::Transferring if self.silence_deadline() <= now => self.fail(now, Failure::Silent),
            Phase::Transferring if self.stall_deadline() <= now => self.fail(now, Failure::Stalled),
            Phase::Lingering { until } if *until <= now => self.phase = Phase::Drained,
            Phase::Closing(closing) if closing.until <= now => self.phase = Phase::Drained,
            _ => {}
        }
        if self.recovery_due().is_some_and(|due| due <= now) {
            self.on_recovery_timeout(now);
        }
        self.paths.look_around(now);
    }

    /// The address over which the streams travel, once one is validated and chosen.
    pub fn path(&self) -> Option<SocketAddr> {
        self.paths.active()
    }

    /// Whether nothing has come over that path for some seconds, in one direction at least: all addresses are being tried.
    pub fn is_silent(&self) -> bool {
        !self.is_over() && self.paths.is_silent()
    }

    /// Whether the connection is over and may be dropped.
    pub fn is_drained(&self) -> bool {
        matches!(self.phase, Phase::Drained)
    }

    /// Counters and estimates as of now.
    pub fn stats(&self) -> Stats {
        Stats {
            bytes_acked: self.outgoing.acked_bytes(),
            bytes_delivered: self.incoming.delivered(),
            round_trip: self.rtt.smoothed(),
            min_round_trip: self.rtt.min(),
            max_queue_delay: self.rtt.spread(),
            congestion_window: self.pace.window(),
            pacing_rate: self.pace.rate(),
            in_flight: self.flight.in_flight(),
            segment_size: self.segment_size(),
            ..self.stats
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Drained)
    }

    fn silence_deadline(&self) -> Duration {
        self.heard_at + self.config.idle_timeout
    }

    fn stall_deadline(&self) -> Duration {
        self.moved_at + self.config.stall_timeout
    }

    /// A path was chosen, or another one.
    pub(super) fn on_path_chosen(&mut self, now: Duration) {
        let Some(addr) = self.paths.active() else { return };
        self.emit(Event::PathValidated(addr));
        // A router may give another port on the same way.
        if self.carrier.replace(addr).is_some_and(|before| before.ip() != addr.ip()) {
            self.leave_path(now);
        }
        if matches!(self.phase, Phase::Probing { .. }) {
            self.phase = Phase::Transferring;
            self.moved_at = now;
        }
        if self.side == Side::Asker {
            self.nudge.postpone(now, true, &self.rtt);
        }
        self.sizes.on_path(now, addr, self.config.max_datagram);
        self.check_finished(now);
    }

    /// What was learned of the path before does not hold on this one (RFC 9000 §9.4). What is under way over it still counts when it arrives.
    fn leave_path(&mut self, now: Duration) {
        let before = std::mem::take(&mut self.rtt);
        if let Some(round_trip) = self.paths.round_trip() {
            self.rtt.update(round_trip, Duration::ZERO);
        }
        self.flight.leave_path(before.loss_delay().max(self.rtt.loss_delay()));
        self.sizes.forget();
        self.pace = Pace::new(&self.config, now);
        self.recovery.on_alive();
        self.find_losses(now);
    }

    /// Tells what has come to its end. When both streams have, the holder closes and the asker waits for that.
    pub(super) fn check_finished(&mut self, now: Duration) {
        if !self.incoming.is_complete() || self.is_over() {
            return;
        }
        if !std::mem::replace(&mut self.told_peer_finished, true) {
            self.emit(Event::PeerFinished);
        }
        if !self.outgoing.is_complete() || !matches!(self.phase, Phase::Transferring) {
            return;
        }
        self.emit(Event::Finished);
        match self.side {
            Side::Asker => self.phase = Phase::Lingering { until: now + self.config.linger },
            Side::Holder => self.begin_closing(now, CloseCode::DONE, ""),
        }
    }

    pub(super) fn fail(&mut self, now: Duration, failure: Failure) {
        self.fail_because(now, failure, &failure.to_string());
    }

    /// The same, with what the peer is told of our stream.
    pub(super) fn fail_because(&mut self, now: Duration, failure: Failure, why: &str) {
        if self.is_over() {
            return;
        }
        self.emit(Event::Failed(failure));
        match failure {
            Failure::Peer(violation) => self.begin_closing(now, CloseCode::VIOLATION, &violation.to_string()),
            Failure::Source => self.begin_closing(now, CloseCode::FILE, why),
            Failure::Stalled | Failure::PathShrunk => {
                self.begin_closing(now, CloseCode::GONE, &failure.to_string());
            }
            Failure::NoPath | Failure::Silent | Failure::PacketNumbers => self.phase = Phase::Drained,
        }
    }

    /// The peer said that it is over.
    pub(super) fn on_peer_close(&mut self, now: Duration, code: CloseCode, reason: &str) {
        // Who closes like this has all of our stream; its last ack may have been lost.
        let done = code == CloseCode::DONE && self.incoming.is_complete() && self.outgoing.is_all_sent();
        match &self.phase {
            Phase::Closing(_) | Phase::Drained => {
                self.phase = Phase::Drained;
                return;
            }
            Phase::Lingering { .. } => {}
            _ if done => self.emit(Event::Finished),
            _ => self.emit(Event::Closed { by: ClosedBy::Peer, code, reason: reason.to_owned() }),
        }
        self.begin_closing(now, code, "");
        if let Phase::Closing(closing) = &mut self.phase {
            closing.answer = true;
        }
    }

    fn begin_closing(&mut self, now: Duration, code: CloseCode, reason: &str) {
        let short = (self.rtt.timeout(0) * 3).clamp(MIN_CLOSING, MAX_CLOSING);
        // Who has finished is worth more patience: the other's success hangs on our word.
        let until = now + if code == CloseCode::DONE { self.config.linger.max(short) } else { short };
        let reason = cut(reason, MAX_CLOSE_REASON).to_owned();
        self.phase = Phase::Closing(Closing { until, code, reason, owed: true, answer: false });
    }

    /// Queues an event. A later one takes the place of one of its kind that nobody has asked for yet.
    pub(super) fn emit(&mut self, event: Event) {
        if matches!(event, Event::PathValidated(_) | Event::Handshake(_) | Event::SegmentSize(_)) {
            self.events.retain(|waiting| discriminant(waiting) != discriminant(&event));
        }
        self.events.push_back(event);
    }
}

/// What `Auto` begins with.
fn in_use(arq: Arq) -> Arq {
    if arq == Arq::Auto { Arq::GoBackN } else { arq }
}

/// `text` cut at a character's start, to `max` bytes at most.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or("")
}

/// How long a closed connection answers a peer that has not heard of it.
const MIN_CLOSING: Duration = Duration::from_secs(1);
const MAX_CLOSING: Duration = Duration::from_secs(3);
