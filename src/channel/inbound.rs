//! A datagram from outside: is it acceptable, does it open, and only then: what does it change.

use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::datagram::{Ack, Frame, Frames, Segment};
use crate::wire::packet::{HEADER_LEN, Header};

use super::connection::{Connection, Phase, Role};
use super::data::SegmentSink;
use super::event::{Event, Failure, HandshakeBytes, Violation};
use super::policy::Arrival;

impl Connection {
    /// Takes a datagram that arrived from `from`; it is opened in place, so its bytes are changed. Segments go to
    /// `sink`. What is not authentic, or was seen before, is counted and changes nothing.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut dyn SegmentSink,
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
        if let Err(violation) = self.on_authentic(now, from, len, number, payload, sink) {
            self.fail(now, Failure::Peer(violation));
        }
    }

    fn on_authentic(
        &mut self,
        now: Duration,
        from: SocketAddr,
        len: usize,
        number: u64,
        payload: &[u8],
        sink: &mut dyn SegmentSink,
    ) -> Result<(), Violation> {
        if self.is_over() {
            self.on_late(now, payload);
            return Ok(());
        }
        self.heard_at = now;
        self.acks.on_packet(now, number);
        self.paths.on_received(now, from, len);
        let traffic = self.on_frames(now, from, number, payload, sink)?;
        if traffic {
            if let Role::Receiver(receiver) = &mut self.role {
                receiver.postpone_nudge(now, false, &self.rtt);
            }
            if self.paths.on_traffic(now, from, number) {
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
        from: SocketAddr,
        number: u64,
        payload: &[u8],
        sink: &mut dyn SegmentSink,
    ) -> Result<bool, Violation> {
        let (mut traffic, mut cumulative) = (false, None);
        for frame in Frames::new(payload) {
            if self.is_over() {
                break;
            }
            match frame.map_err(Violation::Malformed)? {
                Frame::PathChallenge(token) => {
                    self.paths.on_challenge(from, token);
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
                Frame::Window { segments } => self.on_window(number, cumulative, segments)?,
                Frame::Ping => self.acks.request(now, true),
                Frame::Close(close) => self.on_peer_close(now, close.code, close.reason),
                Frame::Handshake(bytes) => self.emit(Event::Handshake(HandshakeBytes::new(bytes))),
            }
            traffic = true;
        }
        Ok(traffic)
    }

    fn on_path_response(&mut self, now: Duration, token: [u8; 8]) {
        if let Some((round_trip, changed)) = self.paths.on_response(now, token) {
            self.rtt.update(round_trip, Duration::ZERO);
            if changed {
                self.on_path_chosen(now);
            }
        }
    }

    fn on_segment(
        &mut self,
        now: Duration,
        segment: &Segment<'_>,
        sink: &mut dyn SegmentSink,
    ) -> Result<(), Violation> {
        let Role::Receiver(receiver) = &mut self.role else { return Err(Violation::UnexpectedFrame) };
        let arrival = receiver.on_segment(segment, sink)?;
        self.stats.file_bytes = receiver.delivered();
        let complete = receiver.is_complete();
        if arrival == Arrival::InOrder {
            self.moved_at = now;
        }
        self.acks.request(now, complete || arrival == Arrival::OutOfOrder);
        self.finish_receiver_if_complete(now);
        Ok(())
    }

    fn on_ack(&mut self, now: Duration, ack: &Ack) -> Result<(), Violation> {
        if ack.largest >= self.numbers.upcoming() {
            return Err(Violation::AckOfUnsentPacket);
        }
        let left = self.sent.on_ack(ack.largest);
        if let Some(left) = left {
            self.rtt.update(now.saturating_sub(left), Duration::from_micros(ack.delay_micros.into()));
        }
        let Role::Sender(sender) = &mut self.role else {
            let empty = ack.cumulative == 0 && ack.ranges.is_empty();
            return if empty { Ok(()) } else { Err(Violation::AckOfUnsentSegment) };
        };
        let moved = sender.on_ack(now, ack, left.is_some(), self.sent.largest_acked(), &self.rtt)?;
        if moved > 0 {
            self.moved_at = now;
            self.stats.file_bytes = sender.file.offset(sender.cumulative());
        }
        if sender.is_complete() {
            self.finish_sender(now);
        }
        Ok(())
    }

    fn on_window(&mut self, number: u64, cumulative: Option<u64>, segments: u32) -> Result<(), Violation> {
        let Role::Sender(sender) = &mut self.role else { return Err(Violation::UnexpectedFrame) };
        let from = cumulative.unwrap_or_else(|| sender.cumulative());
        sender.on_window(number, from.saturating_add(segments.into()));
        Ok(())
    }
}
