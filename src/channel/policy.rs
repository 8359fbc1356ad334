//! What an ARQ scheme decides. Everything else (packet numbers, timers, acks, paths) is the same for all of them.

use std::fmt;

use crate::wire::datagram::{Ack, SegmentRange};

use super::event::Violation;

/// The sending half of an ARQ scheme: which segment goes out next.
pub(super) trait SendPolicy: fmt::Debug + Send {
    /// The segment to send now, if the window has room for one below `limit` (exclusive).
    fn next(&self, limit: u64) -> Option<u64>;
    /// `segment` leaves in packet `packet`. Returns whether it had been sent before.
    fn on_sent(&mut self, segment: u64, packet: u64) -> bool;
    /// Takes what an ack says about segments; `largest_acked` is the largest packet number acknowledged so far. Returns
    /// how far the cumulative ack moved, in segments. The work is bounded by what is in flight.
    fn on_ack(&mut self, ack: &Ack, largest_acked: u64) -> Result<u64, Violation>;
    /// The retransmission timer ran out.
    fn on_timeout(&mut self);
    /// Every segment below this one is acknowledged.
    fn cumulative(&self) -> u64;
    /// Whether a segment was sent and is not acknowledged.
    fn in_flight(&self) -> bool;
}

/// The receiving half of an ARQ scheme: which segments are kept and what is acknowledged.
pub(super) trait ReceivePolicy: fmt::Debug + Send {
    /// Takes a segment, handing what can be delivered now to `deliver` as (segment number, bytes).
    fn on_segment(&mut self, number: u64, bytes: &[u8], deliver: &mut dyn FnMut(u64, &[u8])) -> Arrival;
    /// Every segment below this one has arrived.
    fn cumulative(&self) -> u64;
    /// Segments beyond it that have arrived and are kept.
    fn ranges(&self) -> Vec<SegmentRange>;
}

/// How a segment arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The one that was waited for.
    InOrder,
    /// Beyond a gap, or a repeat: the sender should hear at once.
    OutOfOrder,
}

/// How many newer packets must be acknowledged before an older one counts as lost (RFC 9002 §6.1.1).
pub(super) const PACKET_THRESHOLD: u64 = 3;
