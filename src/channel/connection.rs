//! One file, one direction: the state of a connection and its clock-facing half.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::net::SocketAddr;
use std::time::Duration;

use crate::crypto::replay::ReplayWindow;
use crate::crypto::seal::PacketNumbers;
use crate::wire::datagram::{CloseCode, FrameError, MAX_CLOSE_REASON, MAX_HANDSHAKE};

use super::acks::{AckState, SentPackets};
use super::config::{ChannelKeys, Config, ConfigError, ConnectionIds};
use super::event::{ClosedBy, Event, Failure, HandshakeBytes, Stats};
use super::paths::Paths;
use super::receiver::Receiver;
use super::rtt::Rtt;
use super::sender::{FileShape, Sender};

/// Carries one file between two peers that share keys. See the [module](super) for how to drive it.
///
/// `now` is the time since an origin of the driver's choice, and never goes back. Addresses are compared as they are
/// given: a driver with a dual-stack socket turns IPv4-mapped addresses into one form.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Config,
    pub(super) keys: ChannelKeys,
    pub(super) ids: ConnectionIds,
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) numbers: PacketNumbers,
    pub(super) replay: ReplayWindow,
    pub(super) paths: Paths,
    pub(super) acks: AckState,
    pub(super) sent: SentPackets,
    pub(super) rtt: Rtt,
    // When an authentic datagram came last.
    pub(super) heard_at: Duration,
    // When the file moved last.
    pub(super) moved_at: Duration,
    pub(super) stats: Stats,
    pub(super) handshake: Option<Handshake>,
    // At most one of each kind waits.
    events: VecDeque<Event>,
}

#[derive(Debug)]
pub(super) enum Role {
    Sender(Sender),
    Receiver(Receiver),
}

#[derive(Debug)]
pub(super) enum Phase {
    /// No path is chosen.
    Probing { until: Duration },
    /// The file moves.
    Transferring,
    /// A receiver has everything and waits for the sender to confirm.
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
    /// The side that has the file of `file_bytes` bytes. `entropy` is 32 fresh random bytes, from which the path
    /// challenges are made.
    pub fn new_sender(
        config: Config,
        keys: ChannelKeys,
        ids: ConnectionIds,
        entropy: [u8; 32],
        file_bytes: u64,
        now: Duration,
    ) -> Result<Self, ConfigError> {
        let sender = Sender::new(&config, FileShape::new(file_bytes, config.segment_size()));
        Self::new(config, keys, ids, Role::Sender(sender), Paths::new(false, entropy), now)
    }

    /// The side that asked for the file of `file_bytes` bytes. It chooses the path: the first that answers.
    pub fn new_receiver(
        config: Config,
        keys: ChannelKeys,
        ids: ConnectionIds,
        entropy: [u8; 32],
        file_bytes: u64,
        now: Duration,
    ) -> Result<Self, ConfigError> {
        let receiver = Receiver::new(FileShape::new(file_bytes, config.segment_size()));
        Self::new(config, keys, ids, Role::Receiver(receiver), Paths::new(true, entropy), now)
    }

    fn new(
        config: Config,
        keys: ChannelKeys,
        ids: ConnectionIds,
        role: Role,
        paths: Paths,
        now: Duration,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            phase: Phase::Probing { until: now + config.connect_timeout },
            config,
            keys,
            ids,
            role,
            numbers: PacketNumbers::new(),
            replay: ReplayWindow::new(),
            paths,
            acks: AckState::default(),
            sent: SentPackets::default(),
            rtt: Rtt::default(),
            heard_at: now,
            moved_at: now,
            stats: Stats::default(),
            handshake: None,
            events: VecDeque::new(),
        })
    }

    /// Adds an address at which the peer may be. Returns whether it was taken; past
    /// [`MAX_CANDIDATES`](super::MAX_CANDIDATES) it is not.
    pub fn add_candidate(&mut self, now: Duration, addr: SocketAddr) -> bool {
        self.paths.add_candidate(now, addr)
    }

    /// Receiver: how many segments beyond those delivered may be under way; 0 stops the sender. Without a call there is
    /// no limit but the sender's own window. A stop longer than `stall_timeout` ends the connection.
    pub fn set_receive_window(&mut self, now: Duration, segments: u32) {
        if let Role::Receiver(receiver) = &mut self.role {
            receiver.set_window(segments);
            self.acks.request(now, true);
        }
    }

    /// Sends key-agreement bytes over the path, once there is one, again and again with growing pauses until
    /// [`Self::stop_handshake`] or another message. The driver knows by the answer that they arrived; meanwhile its
    /// source answers [`NotReady`](super::SourceError::NotReady), so that no file byte leaves under these keys.
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
        let role_timer = match &self.role {
            Role::Sender(sender) => sender.retransmit_at(),
            Role::Receiver(receiver) => receiver.nudge_at(),
        };
        let on_path = self.paths.active().is_some();
        let handshake = self.handshake.as_ref().map(|handshake| handshake.due);
        let timers = [self.acks.due(), role_timer, handshake].into_iter().flatten().filter(|_| on_path);
        timers.chain(self.paths.next_probe_at()).chain([deadline]).min()
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
        if let (Role::Sender(sender), Phase::Transferring) = (&mut self.role, &self.phase) {
            self.stats.timeouts += u64::from(sender.on_timeout(now));
        }
    }

    /// The address over which the file travels, once one is validated and chosen.
    pub fn path(&self) -> Option<SocketAddr> {
        self.paths.active()
    }

    /// Whether the connection is over and may be dropped.
    pub fn is_drained(&self) -> bool {
        matches!(self.phase, Phase::Drained)
    }

    /// Counters so far.
    pub fn stats(&self) -> Stats {
        Stats { round_trip: self.rtt.smoothed(), ..self.stats }
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
        if matches!(self.phase, Phase::Probing { .. }) {
            self.phase = Phase::Transferring;
            self.moved_at = now;
        }
        if let Role::Receiver(receiver) = &mut self.role {
            receiver.postpone_nudge(now, true, &self.rtt);
        }
        self.finish_receiver_if_complete(now);
    }

    pub(super) fn finish_receiver_if_complete(&mut self, now: Duration) {
        if let (Role::Receiver(receiver), Phase::Transferring) = (&self.role, &self.phase)
            && receiver.is_complete()
        {
            self.phase = Phase::Lingering { until: now + self.config.linger };
            self.emit(Event::Finished);
        }
    }

    /// The receiver has everything: the driver and the receiver are told.
    pub(super) fn finish_sender(&mut self, now: Duration) {
        if !self.is_over() {
            self.emit(Event::Finished);
            self.begin_closing(now, CloseCode::DONE, "");
        }
    }

    pub(super) fn fail(&mut self, now: Duration, failure: Failure) {
        if self.is_over() {
            return;
        }
        self.emit(Event::Failed(failure));
        match failure {
            Failure::Peer(violation) => self.begin_closing(now, CloseCode::VIOLATION, &violation.to_string()),
            Failure::Source => self.begin_closing(now, CloseCode::FILE, &failure.to_string()),
            Failure::Stalled => self.begin_closing(now, CloseCode::CANCELLED, &failure.to_string()),
            Failure::NoPath | Failure::Silent | Failure::PacketNumbers => self.phase = Phase::Drained,
        }
    }

    /// The peer said that it is over.
    pub(super) fn on_peer_close(&mut self, now: Duration, code: CloseCode, reason: &str) {
        let done = code == CloseCode::DONE;
        match (&self.phase, &self.role) {
            (Phase::Closing(_) | Phase::Drained, _) => {
                self.phase = Phase::Drained;
                return;
            }
            (Phase::Lingering { .. }, _) => {}
            (_, Role::Sender(_)) if done => self.emit(Event::Finished),
            _ => self.emit(Event::Closed { by: ClosedBy::Peer, code, reason: reason.to_owned() }),
        }
        self.begin_closing(now, code, "");
        if let Phase::Closing(closing) = &mut self.phase {
            closing.answer = true;
        }
    }

    fn begin_closing(&mut self, now: Duration, code: CloseCode, reason: &str) {
        let until = now + (self.rtt.timeout(0) * 3).clamp(MIN_CLOSING, MAX_CLOSING);
        let reason = cut(reason, MAX_CLOSE_REASON).to_owned();
        self.phase = Phase::Closing(Closing { until, code, reason, owed: true, answer: false });
    }

    /// Queues an event. A later path or handshake message takes the place of one that nobody has asked for yet.
    pub(super) fn emit(&mut self, event: Event) {
        if matches!(event, Event::PathValidated(_) | Event::Handshake(_)) {
            self.events.retain(|waiting| discriminant(waiting) != discriminant(&event));
        }
        self.events.push_back(event);
    }
}

/// `text` cut at a character's start, to `max` bytes at most.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or("")
}

/// How long a closed connection answers a peer that has not heard of it.
const MIN_CLOSING: Duration = Duration::from_secs(1);
const MAX_CLOSING: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{NoSource, SegmentSink};
    use crate::crypto::seal::{PACKET_NUMBER_LIMIT, SealKey};
    use crate::wire::packet::ConnectionId;

    const NOW: Duration = Duration::from_secs(5);

    fn ends(file_bytes: u64) -> (Connection, Connection) {
        let keys = |send: u8, recv: u8| ChannelKeys {
            send: SealKey::new([send; 32], [0; 12]),
            recv: SealKey::new([recv; 32], [0; 12]),
        };
        let ids = |local: u8, remote: u8| ConnectionIds {
            local: ConnectionId([local; 8]),
            remote: ConnectionId([remote; 8]),
        };
        let config = Config::default();
        let sender = Connection::new_sender(config.clone(), keys(1, 2), ids(1, 2), [1; 32], file_bytes, NOW).unwrap();
        let receiver = Connection::new_receiver(config, keys(2, 1), ids(2, 1), [2; 32], file_bytes, NOW).unwrap();
        (sender, receiver)
    }

    fn addr(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// Passes datagrams to and fro at one instant until both are quiet.
    fn settle(sender: &mut Connection, receiver: &mut Connection, mut file: &[u8], got: &mut dyn SegmentSink) {
        let mut out = Vec::new();
        loop {
            let mut quiet = true;
            while sender.poll_transmit(NOW, &mut file, &mut out).is_some() {
                receiver.handle_datagram(NOW, addr(1), &mut out, got);
                quiet = false;
            }
            while receiver.poll_transmit(NOW, &mut NoSource, &mut out).is_some() {
                sender.handle_datagram(NOW, addr(2), &mut out, got);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn events(connection: &mut Connection) -> Vec<Event> {
        std::iter::from_fn(|| connection.poll_event()).collect()
    }

    #[test]
    fn running_out_of_packet_numbers_ends_the_connection_and_repeats_no_nonce() {
        let file = vec![3; 100_000];
        let (mut sender, mut receiver) = ends(file.len() as u64);
        sender.numbers = PacketNumbers::starting_at(PACKET_NUMBER_LIMIT - 20);
        receiver.add_candidate(NOW, addr(1));
        let mut got = Vec::new();
        settle(&mut sender, &mut receiver, &file, &mut got);
        assert!(events(&mut sender).contains(&Event::Failed(Failure::PacketNumbers)));
        assert!(sender.is_drained());
        assert_eq!(sender.stats().datagrams_sent, 20);
        assert!(!got.is_empty() && file.starts_with(&got));
    }

    #[test]
    fn a_source_that_cannot_be_read_ends_both_ends() {
        let (mut sender, mut receiver) = ends(100_000);
        receiver.add_candidate(NOW, addr(1));
        settle(&mut sender, &mut receiver, &[0; 50_000], &mut Vec::new());
        assert_eq!(events(&mut sender).last(), Some(&Event::Failed(Failure::Source)));
        let told = events(&mut receiver);
        assert!(matches!(told.last(), Some(Event::Closed { by: ClosedBy::Peer, code: CloseCode::FILE, .. })));
        assert!(receiver.is_drained() && sender.is_drained());
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        for (datagram_size, window) in [(1_199, 16), (65_508, 16), (usize::MAX, 16), (1_200, 0), (1_200, u32::MAX)] {
            let (sender, _) = ends(1);
            let config = Config { datagram_size, window, ..Config::default() };
            let made = Connection::new_receiver(config, sender.keys, sender.ids, [0; 32], 1, NOW);
            assert!(made.is_err(), "{datagram_size} {window}");
        }
    }

    #[test]
    fn keys_and_challenges_do_not_print() {
        let (sender, _) = ends(1);
        let shown = format!("{sender:?}");
        assert!(!shown.contains("[1, 1, 1, 1, 1, 1, 1, 1, 1"), "{shown}");
    }
}
