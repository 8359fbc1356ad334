//! No congestion control: the receiver's window and `--window` alone decide.

use std::time::Duration;

use super::{AckSample, Controller, LossSample};

#[derive(Debug)]
pub(super) struct Fixed;

impl Controller for Fixed {
    fn on_sent(&mut self, _now: Duration, _bytes: u64, _in_flight: u64) {}
    fn on_ack(&mut self, _ack: &AckSample) {}
    fn on_lost(&mut self, _lost: &LossSample) {}
    fn on_timeout(&mut self, _now: Duration) {}
    fn on_datagram_size(&mut self, _datagram: u64) {}

    fn window(&self) -> u64 {
        WINDOW
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}

/// More than any receiver offers, and far from overflowing a sum.
const WINDOW: u64 = 1 << 40;
