//! The next datagram to send: what is owed first, then the file.

use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::datagram::{Ack, Close, Frame, FrameError, begin_segment};
use crate::wire::packet::{BASE_DATAGRAM, HEADER_LEN, Header, MIN_DATAGRAM};

use super::connection::{Connection, Phase, Role};
use super::data::{SegmentSource, SourceError};
use super::event::Failure;

impl Connection {
    /// Puts the next datagram into `out`, whose old contents are dropped, and returns where to send it. Call it until it
    /// returns `None`, after every input. A sender's segments are read from `source`; a receiver passes
    /// [`NoSource`](super::NoSource).
    pub fn poll_transmit(
        &mut self,
        now: Duration,
        source: &mut dyn SegmentSource,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        out.clear();
        match self.phase {
            Phase::Drained => return None,
            Phase::Closing(_) => return self.transmit_close(out),
            _ => {}
        }
        if let Some((to, token)) = self.paths.next_response(BASE_DATAGRAM) {
            return self.transmit_padded(now, to, &Frame::PathResponse(token), out);
        }
        if let Some((to, token)) = self.paths.next_challenge(now, BASE_DATAGRAM) {
            return self.transmit_padded(now, to, &Frame::PathChallenge(token), out);
        }
        let to = self.paths.active()?;
        if self.transmit_ack(now, out) || self.transmit_handshake(now, out) || self.transmit_segment(now, source, out) {
            return Some(to);
        }
        if self.is_over() { self.transmit_close(out) } else { None }
    }

    fn transmit_close(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let Phase::Closing(closing) = &mut self.phase else { return None };
        if !std::mem::take(&mut closing.owed) {
            return None;
        }
        let answer = closing.answer;
        begin(out);
        let close = Close { code: closing.code, reason: &closing.reason };
        // A reason was cut to its cap when the closing began.
        let encoded = Frame::Close(close).encode(out).is_ok();
        let to = self.paths.farewell(out.len() + MIN_DATAGRAM - HEADER_LEN);
        let sealed = encoded && to.is_some() && self.finish(out).is_some();
        if answer || to.is_none() {
            self.phase = Phase::Drained;
        }
        to.filter(|_| sealed)
    }

    fn transmit_padded(
        &mut self,
        now: Duration,
        to: SocketAddr,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        begin(out);
        let encoded = frame.encode(out).is_ok();
        out.resize(BASE_DATAGRAM + HEADER_LEN - MIN_DATAGRAM, 0);
        (encoded && self.seal_or_fail(now, out).is_some()).then_some(to)
    }

    /// An ack that is due; from a receiver with its window, and with a ping when it breaks a silence.
    fn transmit_ack(&mut self, now: Duration, out: &mut Vec<u8>) -> bool {
        let nudge = match &mut self.role {
            Role::Receiver(receiver) => receiver.take_nudge(now, &self.rtt),
            Role::Sender(_) => false,
        };
        if !nudge && self.acks.due().is_none_or(|due| due > now) {
            return false;
        }
        begin(out);
        if self.encode_ack(now, nudge, out).is_err() {
            return false;
        }
        let Some(number) = self.seal_or_fail(now, out) else { return false };
        if nudge {
            self.sent.on_sent(now, number);
        }
        true
    }

    fn encode_ack(&mut self, now: Duration, nudge: bool, out: &mut Vec<u8>) -> Result<(), FrameError> {
        if let Some((largest, delay_micros)) = self.acks.take(now) {
            let (cumulative, ranges) = match &self.role {
                Role::Receiver(receiver) => (receiver.cumulative(), receiver.ranges()),
                Role::Sender(_) => (0, Vec::new()),
            };
            Frame::Ack(Ack { largest, delay_micros, cumulative, ranges }).encode(out)?;
        }
        if let Role::Receiver(receiver) = &mut self.role {
            Frame::Window { segments: receiver.offer() }.encode(out)?;
        }
        if nudge { Frame::Ping.encode(out) } else { Ok(()) }
    }

    fn transmit_handshake(&mut self, now: Duration, out: &mut Vec<u8>) -> bool {
        let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.due <= now) else { return false };
        handshake.due = now + self.rtt.timeout(handshake.repeats);
        handshake.repeats = handshake.repeats.saturating_add(1);
        begin(out);
        let encoded = Frame::Handshake(handshake.bytes.as_bytes()).encode(out);
        encoded.is_ok() && self.seal_or_fail(now, out).is_some()
    }

    fn transmit_segment(&mut self, now: Duration, source: &mut dyn SegmentSource, out: &mut Vec<u8>) -> bool {
        let Role::Sender(sender) = &mut self.role else { return false };
        let Some(segment) = sender.next_segment() else { return false };
        if self.numbers.is_exhausted() {
            self.fail(now, Failure::PacketNumbers);
            return false;
        }
        begin(out);
        let (last, len) = (sender.file.is_last(segment), sender.file.len(segment));
        let read = match begin_segment(out, segment, last, len) {
            Ok(bytes) => source.read(sender.file.offset(segment), bytes),
            Err(_) => Err(SourceError::Failed),
        };
        match read {
            Ok(()) => {}
            Err(SourceError::NotReady) => return false,
            Err(SourceError::Failed) => {
                self.fail(now, Failure::Source);
                return false;
            }
        }
        let repeat = sender.on_sent(now, segment, self.numbers.upcoming(), &self.rtt);
        // Nothing can follow this one before an ack: ask for it at once.
        let encoded = sender.next_segment().is_some() || Frame::Ping.encode(out).is_ok();
        self.stats.segments_sent += 1;
        self.stats.segments_repeated += u64::from(repeat);
        let Some(number) = self.seal_or_fail(now, out) else { return false };
        self.sent.on_sent(now, number);
        encoded
    }

    fn seal_or_fail(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<u64> {
        let number = self.finish(out);
        if number.is_none() {
            self.fail(now, Failure::PacketNumbers);
        }
        number
    }

    /// Draws a packet number, writes the header and seals. `None` when no number is left.
    fn finish(&mut self, out: &mut Vec<u8>) -> Option<u64> {
        let packet_number = self.numbers.next()?;
        let header = Header { connection: self.ids.remote, packet_number };
        out.get_mut(..HEADER_LEN)?.copy_from_slice(&header.encode());
        self.keys.send.seal_datagram(packet_number, HEADER_LEN, out).ok()?;
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += out.len() as u64;
        Some(packet_number)
    }
}

/// Leaves room for the header, which is written when the packet number is drawn.
fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_LEN, 0);
}
