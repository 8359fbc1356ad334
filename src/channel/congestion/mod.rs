//! Congestion control: how many bytes may be under way, and how fast they may leave. Pure arithmetic on what the sender
//! tells it; times are durations since any origin, sizes are bytes of datagrams, rates are bytes a second.
//!
//! ```text
//! bbr      the default: a model of the path from delivery rate and round trip (draft-ietf-ccwg-bbr)
//! cubic    the loss-based window of TCP (RFC 9438)
//! fixed    no control: a window so large that only the receiver's counts
//! rate     delivery rate samples (draft-ietf-ccwg-bbr, "Delivery Rate Samples")
//! pacer    spreads what may leave over time
//! ```
//!
//! A sender calls, for one ack: [`RateSampler::on_acked`] for each packet, [`RateSampler::sample`] once,
//! [`Controller::on_lost`] for each packet found lost, then [`Controller::on_ack`]. For each datagram that leaves:
//! [`RateSampler::on_sent`], [`Pacer::on_sent`], [`Controller::on_sent`].

mod bbr;
mod cubic;
mod fixed;
mod pacer;
mod rate;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub(crate) use pacer::Pacer;
pub(crate) use rate::{RateSample, RateSampler, SentState};

use bbr::Bbr;
use cubic::Cubic;
use fixed::Fixed;

/// Which controller a connection uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CongestionKind {
    /// A model of the path; random loss is not taken for congestion.
    #[default]
    Bbr,
    /// As TCP does by default: loss is congestion.
    Cubic,
    /// None: only the receiver's window bounds what is under way, and nothing is paced.
    None,
}

/// Decides window and rate of one path.
pub(crate) trait Controller: fmt::Debug + Send {
    /// A datagram of `bytes` leaves; `in_flight` counts it.
    fn on_sent(&mut self, now: Duration, bytes: u64, in_flight: u64);
    /// An ack told of packets for the first time. Comes after [`on_lost`](Self::on_lost) for what it showed as lost.
    fn on_ack(&mut self, ack: &AckSample);
    /// A packet is lost.
    fn on_lost(&mut self, lost: &LossSample);
    /// The retransmission timer ran out: nothing was heard.
    fn on_timeout(&mut self, now: Duration);
    /// The datagrams' size is `datagram` bytes from here on.
    fn on_datagram_size(&mut self, datagram: u64);
    /// Bytes that may be in flight.
    fn window(&self) -> u64;
    /// Bytes a second at which to pace; `None` is unpaced.
    fn pacing_rate(&self) -> Option<u64>;
}

/// What one ack says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AckSample {
    pub(crate) now: Duration,
    /// Bytes acknowledged for the first time.
    pub(crate) acked: u64,
    /// Bytes in flight after it.
    pub(crate) in_flight: u64,
    /// The round trip of the newest packet that it acknowledges, if it is new.
    pub(crate) rtt: Option<Duration>,
    pub(crate) smoothed_rtt: Duration,
    pub(crate) rate: Option<RateSample>,
    /// Whether the path marked packets as having met congestion (ECN).
    pub(crate) ce: bool,
}

/// One packet found lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LossSample {
    pub(crate) now: Duration,
    /// Its bytes.
    pub(crate) lost: u64,
    /// Bytes in flight after it was taken out.
    pub(crate) in_flight: u64,
    /// When it was sent.
    pub(crate) sent_at_loss: Duration,
    /// Bytes in flight when it was sent, itself included.
    pub(crate) prior_in_flight: u64,
}

/// A controller at the start of a path, for datagrams of `datagram` bytes.
pub(crate) fn controller(kind: CongestionKind, datagram: u64, now: Duration) -> Box<dyn Controller> {
    match kind {
        CongestionKind::Bbr => Box::new(Bbr::new(datagram, now)),
        CongestionKind::Cubic => Box::new(Cubic::new(datagram)),
        CongestionKind::None => Box::new(Fixed),
    }
}

/// Bytes that may leave at once on a path of which nothing is known: about four times what RFC 9002 allows a sender that
/// does not pace, spread by pacing.
const INITIAL_WINDOW: u64 = 64 * 1024;
/// What the round trip is taken for until one was measured.
const ASSUMED_RTT: Duration = Duration::from_millis(50);

/// `rate` bytes a second during `time`, in bytes.
fn over(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / NANOS;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// `bytes` in `time`, as bytes a second.
fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * NANOS / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// How long `bytes` take at `rate` bytes a second.
fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * NANOS / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// `percent` hundredths of `value`.
fn percent(value: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

const NANOS: u128 = 1_000_000_000;
