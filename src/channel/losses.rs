//! What an ack settles, what it shows as lost, and what happens when none comes.

use std::time::Duration;

use super::config::Arq;
use super::connection::{Connection, Phase};
use super::event::{Failure, Violation};
use super::flight::{Cargo, Sent};
use super::pace::Acked;
use super::recovery::Timeout;
use crate::wire::datagram::Ack;
use crate::wire::packet::BASE_DATAGRAM;

impl Connection {
    pub(super) fn on_ack(&mut self, now: Duration, ack: &Ack) -> Result<(), Violation> {
        if ack.largest >= self.numbers.upcoming() {
            return Err(Violation::AckOfUnsentPacket);
        }
        self.outgoing.check(ack)?;
        let newest = self.flight.on_largest(ack.largest);
        if newest.is_some_and(|sent| sent.cargo == Cargo::Skipped) {
            return Err(Violation::AckOfUnsentPacket);
        }
        // What left for another path measures nothing.
        let round_trip = newest.filter(|sent| sent.is_of_path()).map(|sent| now.saturating_sub(sent.at));
        if let Some(sample) = round_trip {
            self.rtt.update(sample, Duration::from_micros(ack.delay_micros.into()));
        }
        if let Some(sent) = newest.filter(|sent| sent.cargo == Cargo::Ping && sent.is_of_path()) {
            self.sizes.on_arrived(sent.bytes as usize);
        }
        let bytes = self.settle(now, ack);
        if bytes > 0 || newest.is_some() {
            self.recovery.on_alive();
        }
        self.find_losses(now);
        let ce = ack.ce != std::mem::replace(&mut self.peer_ce, ack.ce);
        self.pace.on_ack(
            now,
            Acked {
                bytes,
                in_flight: self.flight.in_flight(),
                rtt: round_trip,
                smoothed_rtt: self.rtt.smoothed().unwrap_or_default(),
                ce,
            },
        );
        self.check_finished(now);
        Ok(())
    }

    /// Takes out what the ack names. Returns the bytes in flight that arrived.
    fn settle(&mut self, now: Duration, ack: &Ack) -> u64 {
        let (mut bytes, mut spurious, mut any) = (0, 0, false);
        let Self { outgoing, flight, pace, sizes, .. } = self;
        outgoing.on_ack(ack, &mut |_, segment| {
            any = true;
            if let Some(sent) = flight.settle(segment.packet) {
                bytes += u64::from(sent.bytes);
                pace.on_acked(now, &sent);
                if sent.is_of_path() {
                    sizes.on_arrived(sent.bytes as usize);
                }
            }
            // It came before the last repeat could have.
            if segment.lost && (segment.repeat || ack.largest < segment.packet) {
                spurious += 1;
                flight.on_spurious(ack.largest.saturating_sub(segment.first_packet));
            }
        });
        self.stats.spurious += spurious;
        if any {
            self.moved_at = now;
        }
        bytes
    }

    /// Everything that is lost by now waits to be sent again.
    pub(super) fn find_losses(&mut self, now: Duration) {
        while let Some((packet, sent)) = self.flight.next_lost(now, &self.rtt) {
            self.on_lost(now, packet, &sent);
        }
    }

    fn on_lost(&mut self, now: Duration, packet: u64, sent: &Sent) {
        let Cargo::Segment(number) = sent.cargo else { return };
        // A copy arrived, and nobody knows which.
        if self.outgoing.is_acked(number) {
            return;
        }
        self.stats.segments_lost += 1;
        if sent.is_of_path() {
            self.pace.on_lost(now, sent, self.flight.in_flight());
        }
        self.repeat(packet, number);
        if self.sizes.on_lost(packet, sent.bytes as usize, self.numbers.upcoming()) {
            self.fail(now, Failure::PathShrunk);
        }
    }

    /// `packet` did not bring segment `number`: unless a newer one is on its way, it goes out again.
    fn repeat(&mut self, packet: u64, number: u64) {
        if self.config.arq == Arq::Auto {
            self.stats.arq = Arq::SelectiveRepeat;
        }
        let Self { outgoing, flight, .. } = self;
        if outgoing.get(number).is_some_and(|segment| segment.packet == packet) {
            outgoing.on_lost(number, &mut |dropped| {
                flight.settle(dropped);
            });
        }
    }

    pub(super) fn recovery_due(&self) -> Option<Duration> {
        if !matches!(self.phase, Phase::Transferring) {
            return None;
        }
        self.flight.loss_at().or_else(|| self.recovery.due(&self.flight, &self.rtt))
    }

    pub(super) fn on_recovery_timeout(&mut self, now: Duration) {
        if self.flight.loss_at().is_some() {
            self.find_losses(now);
            return;
        }
        let Some(timeout) = self.recovery.on_timeout(now, &self.flight, &self.rtt) else { return };
        self.stats.timeouts += 1;
        // Its ack will tell a path that is dead from one that has shrunk.
        self.ping_owed = self.sizes.current() > BASE_DATAGRAM;
        if timeout == Timeout::GiveUp {
            while let Some((packet, sent)) = self.flight.next_given_up() {
                if let Cargo::Segment(number) = sent.cargo {
                    self.stats.segments_lost += 1;
                    self.repeat(packet, number);
                }
            }
            self.pace.on_timeout(now);
        }
    }
}
