//! The next datagrams to send: what is owed first, then the stream.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::Side;
use super::congestion::SentState;
use super::connection::{Connection, Phase};
use super::data::{Batch, StreamSource};
use super::event::Failure;
use super::flight::{Cargo, Sent};
use crate::crypto::seal::TAG_LEN;
use crate::wire::datagram::{Ack, Close, Frame, FrameError};
use crate::wire::packet::{BASE_DATAGRAM, HEADER_LEN, Header, MIN_DATAGRAM};

impl Connection {
    /// Fills `batch`, whose old contents are dropped, with the next datagrams and returns where to send them. Call it
    /// until it returns `None`, after every input. The stream is read from `source`.
    pub fn poll_transmit(
        &mut self,
        now: Duration,
        source: &mut dyn StreamSource,
        batch: &mut Batch,
    ) -> Option<SocketAddr> {
        batch.clear();
        match self.phase {
            Phase::Drained => return None,
            Phase::Closing(_) => return self.transmit_close(batch),
            _ => {}
        }
        if let Some((to, token)) = self.paths.next_response(BASE_DATAGRAM) {
            return self.transmit_padded(now, &Frame::PathResponse(token), batch).then_some(to);
        }
        if let Some((to, token)) = self.paths.next_challenge(now, BASE_DATAGRAM) {
            return self.transmit_padded(now, &Frame::PathChallenge(token), batch).then_some(to);
        }
        let Some(to) = self.paths.active() else { return self.transmit_early(now, source, batch) };
        if self.transmit_ack(now, batch)
            || self.transmit_handshake(now, batch)
            || self.transmit_ping(now, batch)
            || self.transmit_size_probe(now, batch)
            || self.transmit_segments(now, source, batch)
        {
            return Some(to);
        }
        if self.is_over() { self.transmit_close(batch) } else { None }
    }

    /// The beginning of our stream, with the answer to the peer's challenge.
    fn transmit_early(
        &mut self,
        now: Duration,
        source: &mut dyn StreamSource,
        batch: &mut Batch,
    ) -> Option<SocketAddr> {
        let to = self.paths.promising(BASE_DATAGRAM)?;
        let max = batch.max();
        batch.set_max(1);
        let sent = self.transmit_segments(now, source, batch);
        batch.set_max(max);
        if !sent {
            return if self.is_over() { self.transmit_close(batch) } else { None };
        }
        self.paths.spend(to, batch.bytes().len());
        Some(to)
    }

    fn transmit_close(&mut self, batch: &mut Batch) -> Option<SocketAddr> {
        let Phase::Closing(closing) = &mut self.phase else { return None };
        if !std::mem::take(&mut closing.owed) {
            return None;
        }
        let answer = closing.answer;
        self.scratch.clear();
        let close = Close { code: closing.code, reason: &closing.reason };
        // A reason was cut to its cap when the closing began.
        let encoded = Frame::Close(close).encode(&mut self.scratch).is_ok();
        let to = self.paths.farewell(self.scratch.len() + MIN_DATAGRAM);
        let number = if encoded && to.is_some() { self.numbers.next() } else { None };
        let sealed = number.is_some_and(|number| self.seal_scratch(number, batch));
        // Without an address one may still be heard from.
        if answer {
            self.phase = Phase::Drained;
        }
        to.filter(|_| sealed)
    }

    fn transmit_padded(&mut self, now: Duration, frame: &Frame<'_>, batch: &mut Batch) -> bool {
        self.scratch.clear();
        let encoded = frame.encode(&mut self.scratch).is_ok();
        self.scratch.resize(BASE_DATAGRAM - MIN_DATAGRAM, 0);
        encoded && self.send_scratch(now, Cargo::Settled, batch)
    }

    /// An ack that is due, with our window; with a ping when it breaks a silence.
    fn transmit_ack(&mut self, now: Duration, batch: &mut Batch) -> bool {
        let nudge = self.side == Side::Asker && self.nudge.take(now, &self.rtt);
        if !nudge && self.acks.due().is_none_or(|due| due > now) {
            return false;
        }
        self.scratch.clear();
        let cargo = if nudge { Cargo::Ping } else { Cargo::Settled };
        self.encode_ack(now, nudge).is_ok() && self.send_scratch(now, cargo, batch)
    }

    fn encode_ack(&mut self, now: Duration, nudge: bool) -> Result<(), FrameError> {
        if let Some((largest, delay_micros)) = self.acks.take(now) {
            let (cumulative, ranges) = (self.incoming.expected(), self.incoming.ranges());
            let ack = Ack { largest, delay_micros, ce: self.acks.ce(), cumulative, ranges };
            Frame::Ack(ack).encode(&mut self.scratch)?;
        }
        Frame::Window { segments: self.incoming.offer() }.encode(&mut self.scratch)?;
        if let Some(size) = self.probed.take() {
            Frame::SizeConfirmed(size).encode(&mut self.scratch)?;
        }
        if nudge { Frame::Ping.encode(&mut self.scratch) } else { Ok(()) }
    }

    fn transmit_handshake(&mut self, now: Duration, batch: &mut Batch) -> bool {
        let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.due <= now) else { return false };
        handshake.due = now + self.rtt.timeout(handshake.repeats);
        handshake.repeats = handshake.repeats.saturating_add(1);
        self.scratch.clear();
        let encoded = Frame::Handshake(handshake.bytes.as_bytes()).encode(&mut self.scratch);
        encoded.is_ok() && self.send_scratch(now, Cargo::Settled, batch)
    }

    fn transmit_ping(&mut self, now: Duration, batch: &mut Batch) -> bool {
        if !std::mem::take(&mut self.ping_owed) {
            return false;
        }
        self.scratch.clear();
        Frame::Ping.encode(&mut self.scratch).is_ok() && self.send_scratch(now, Cargo::Ping, batch)
    }

    fn transmit_size_probe(&mut self, now: Duration, batch: &mut Batch) -> bool {
        let Some(size) = self.sizes.next_probe(now, &self.rtt) else { return false };
        self.scratch.clear();
        let Ok(wire_size) = u16::try_from(size) else { return false };
        let encoded = Frame::SizeProbe(wire_size).encode(&mut self.scratch);
        self.scratch.resize(size.saturating_sub(MIN_DATAGRAM), 0);
        encoded.is_ok() && self.send_scratch(now, Cargo::Settled, batch)
    }

    /// The frames in `scratch` leave as one datagram. Fails the connection when no packet number is left.
    fn send_scratch(&mut self, now: Duration, cargo: Cargo, batch: &mut Batch) -> bool {
        let Some(number) = self.draw_number(now) else {
            self.fail(now, Failure::PacketNumbers);
            return false;
        };
        self.record(now, number, cargo, self.scratch.len() + MIN_DATAGRAM, None);
        self.seal_scratch(number, batch)
    }

    fn seal_scratch(&mut self, packet_number: u64, batch: &mut Batch) -> bool {
        let len = self.scratch.len() + MIN_DATAGRAM;
        let datagram = batch.begin(len, len);
        let header = Header { connection: self.ids.remote, packet_number };
        let parts = datagram.split_first_chunk_mut::<HEADER_LEN>();
        let Some((head, rest)) = parts else { return false };
        *head = header.encode();
        let Some((body, _)) = rest.split_last_chunk_mut::<TAG_LEN>() else { return false };
        body.copy_from_slice(&self.scratch);
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += len as u64;
        self.keys.send.seal_slot(packet_number, HEADER_LEN, datagram).is_ok()
    }

    /// A new packet number. Now and then one before it is passed over.
    pub(super) fn draw_number(&mut self, now: Duration) -> Option<u64> {
        while let Some(passed) = self.numbers.pass_over() {
            self.record(now, passed, Cargo::Skipped, 0, None);
        }
        self.numbers.next()
    }

    /// Remembers that `packet` left.
    pub(super) fn record(&mut self, now: Duration, packet: u64, cargo: Cargo, bytes: usize, state: Option<SentState>) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.flight.on_sent(packet, Sent { at: now, cargo, bytes, in_flight: 0, state });
    }
}
