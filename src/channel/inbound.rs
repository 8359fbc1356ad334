//! A datagram from outside: is it acceptable, does it open, and only then: what does it change.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::Side;
use super::connection::{Connection, Phase};
use super::data::StreamSink;
use super::event::{Event, Failure, HandshakeBytes, Violation};
use super::incoming::Arrival;
use crate::wire::datagram::{Frame, Frames, Segment};
use crate::wire::packet::{HEADER_LEN, Header};

impl Connection {
    /// Takes a datagram that arrived from `from`; it is opened in place, so its bytes are changed. `ecn_ce` says whether
    /// it came marked "congestion experienced". Bytes of the peer's stream go to `sink`. Call
    /// [`Self::end_of_batch`] after the last of those that were received together. What is not authentic, or was seen before, is counted and changes nothing.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
        ecn_ce: bool,
        sink: &mut dyn StreamSink,
    ) {
        let len = datagram.len();
        let header = match Header::decode(datagram) {
            Ok(header) if header.connection == self.ids.local => header,
            _ => {
                self.stats.ignored_foreign += 1;
                return;
            }
        };
        let number = header.packet_number;
        if !self.replay.check(number) {
            self.stats.ignored_replayed += 1;
            return;
        }
        let opened = datagram
            .split_at_mut_checked(HEADER_LEN)
            .and_then(|(header, body)| self.keys.recv.open_in_place(number, header, body).ok());
        let Some(payload) = opened else {
            self.stats.ignored_forged += 1;
            return;
        };
        self.replay.mark(number);
        self.stats.datagrams_received += 1;
        self.stats.ce_received += u64::from(ecn_ce);
        self.acks.on_packet(now, number, ecn_ce);
        if let Err(violation) = self.on_authentic(now, &from, len, number, payload, sink) {
            self.fail(now, Failure::Peer(violation));
        }
    }

    /// The datagrams that were received together are through: what to acknowledge of them, and when, is decided here.
    pub fn end_of_batch(&mut self, now: Duration) {
        self.acks.end_of_batch(now, self.rtt.ack_delay());
    }

    fn on_authentic(
        &mut self,
        now: Duration,
        // Not a copy: one made behind what was just opened waits in the processor until all of that is stored.
        from: &SocketAddr,
        len: usize,
        number: u64,
        payload: &[u8],
        sink: &mut dyn StreamSink,
    ) -> Result<(), Violation> {
        if self.is_over() {
            self.paths.on_received(now, from, len);
            self.on_late(now, payload);
            return Ok(());
        }
        self.heard_at = now;
        self.recovery.on_heard();
        self.paths.on_received(now, from, len);
        let traffic = self.on_frames(now, from, len, number, payload, sink)?;
        if traffic {
            if self.side == Side::Asker {
                self.nudge.postpone(now, false, &self.rtt);
            }
            if self.paths.on_traffic(now, from, number) && !self.is_over() {
                self.on_path_chosen(now);
            }
        }
        Ok(())
    }

    /// After the end only a close matters; anything else shows that the peer has not heard ours.
    fn on_late(&mut self, now: Duration, payload: &[u8]) {
        let close = Frames::new(payload).flatten().any(|frame| matches!(frame, Frame::Close(_)));
        if close {
            self.phase = Phase::Drained;
        } else if let Phase::Closing(closing) = &mut self.phase {
            closing.owed = now < closing.until;
        }
    }

    /// Acts on each frame. Returns whether there was more than path validation.
    fn on_frames(
        &mut self,
        now: Duration,
        from: &SocketAddr,
        len: usize,
        number: u64,
        payload: &[u8],
        sink: &mut dyn StreamSink,
    ) -> Result<bool, Violation> {
        let (mut traffic, mut cumulative) = (false, None);
        for frame in Frames::new(payload) {
            if self.is_over() {
                break;
            }
            match frame.map_err(Violation::Malformed)? {
                Frame::PathChallenge(token) => {
                    self.paths.on_challenge(now, *from, token);
                    continue;
                }
                Frame::PathResponse(token) => {
                    self.on_path_response(now, token);
                    continue;
                }
                Frame::Segment(segment) => self.on_segment(now, &segment, sink)?,
                Frame::Ack(ack) => {
                    cumulative = Some(ack.cumulative);
                    self.on_ack(now, &ack)?;
                }
                Frame::Window { segments } => self.on_window(number, cumulative, segments),
                Frame::Ping => self.acks.request(),
                Frame::Close(close) => self.on_peer_close(now, close.code, close.reason),
                Frame::Handshake(bytes) => self.emit(Event::Handshake(HandshakeBytes::new(bytes))),
                Frame::SizeProbe(size) => self.on_size_probe(len, size),
                Frame::SizeConfirmed(size) => self.on_size_confirmed(size.into()),
            }
            traffic = true;
        }
        Ok(traffic)
    }

    fn on_path_response(&mut self, now: Duration, token: [u8; 8]) {
        let Some((round_trip, changed)) = self.paths.on_response(now, token) else { return };
        if changed {
            self.on_path_chosen(now);
        }
        // The round trips of other paths tell nothing of this one.
        if self.paths.active().is_none() || self.paths.round_trip() == Some(round_trip) {
            self.rtt.update(round_trip, Duration::ZERO);
        }
    }

    fn on_segment(&mut self, now: Duration, segment: &Segment<'_>, sink: &mut dyn StreamSink) -> Result<(), Violation> {
        let arrival = self.incoming.on_segment(segment, sink)?;
        self.acks.on_segment(now, segment.bytes.len());
        if arrival != Arrival::OutOfOrder {
            self.moved_at = now;
        }
        if arrival != Arrival::InOrder || segment.ask {
            self.acks.request();
        }
        if segment.fin || arrival == Arrival::Filled {
            self.check_finished(now);
        }
        Ok(())
    }

    /// Only a probe that has the size that it tells is worth an answer.
    fn on_size_probe(&mut self, len: usize, size: u16) {
        if usize::from(size) == len {
            self.probed = Some(size);
            self.acks.request();
        }
    }

    fn on_size_confirmed(&mut self, size: usize) {
        if self.sizes.on_confirmed(size) {
            self.pace.on_datagram_size(size);
            let segment = self.segment_size();
            self.emit(Event::SegmentSize(segment));
        }
    }

    fn on_window(&mut self, number: u64, cumulative: Option<u64>, segments: u32) {
        let from = cumulative.unwrap_or_else(|| self.outgoing.base());
        self.outgoing.on_window(number, from.saturating_add(segments.into()));
    }
}
