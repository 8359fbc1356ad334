//! CUBIC (RFC 9438): loss is congestion. The window falls to 70 % on a loss and then follows a cubic curve of the time
//! since, so that long paths grow as fast as short ones. Slow start ends at the first loss.

use std::time::Duration;

use super::{ASSUMED_RTT, AckSample, Controller, INITIAL_WINDOW, LossSample, per_second, percent};

#[derive(Debug)]
pub(super) struct Cubic {
    datagram: u64,
    // Bytes.
    window: u64,
    slow_start_until: u64,
    smoothed_rtt: Duration,
    // Losses of packets sent before this belong to a reduction that was made.
    reduced_at: Option<Duration>,
    epoch: Option<Epoch>,
    // The window before the last reduction, in bytes.
    last_max: u64,
}

/// Congestion avoidance since a reduction; windows in segments.
#[derive(Debug, Clone, Copy)]
struct Epoch {
    start: Duration,
    // Seconds from the start until the curve is back at `origin`.
    plateau: f64,
    origin: f64,
    // What Reno would have by now.
    reno: f64,
}

impl Cubic {
    pub(super) fn new(datagram: u64) -> Self {
        Self {
            datagram: datagram.max(1),
            window: INITIAL_WINDOW,
            slow_start_until: u64::MAX,
            smoothed_rtt: ASSUMED_RTT,
            reduced_at: None,
            epoch: None,
            last_max: 0,
        }
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.slow_start_until
    }

    fn segments(&self, bytes: u64) -> f64 {
        bytes as f64 / self.datagram as f64
    }

    /// RFC 9438 §4.2 to §4.5: one ack of `acked` bytes in congestion avoidance.
    fn avoid_congestion(&mut self, now: Duration, acked: u64) {
        let window = self.segments(self.window);
        let (acked, last_max) = (self.segments(acked), self.segments(self.last_max));
        let epoch = self.epoch.get_or_insert_with(|| {
            let origin = last_max.max(window);
            Epoch { start: now, plateau: ((origin - window) / CURVE).cbrt(), origin, reno: window }
        });
        let friendly = if epoch.reno < epoch.origin { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        epoch.reno += friendly * acked / window;
        let since = (now.saturating_sub(epoch.start) + self.smoothed_rtt).as_secs_f64() - epoch.plateau;
        let target = (CURVE * since.powi(3) + epoch.origin).clamp(window, window * 1.5);
        let next = (window + (target - window) * acked / window).max(epoch.reno);
        self.window = (next * self.datagram as f64) as u64;
    }

    fn reduce(&mut self, now: Duration) {
        // Whoever did not get back to the last maximum makes room for who just came (fast convergence).
        self.last_max = if self.window < self.last_max { percent(self.window, 85) } else { self.window };
        self.window = percent(self.window, 70).max(self.datagram * 2);
        self.slow_start_until = self.window;
        self.epoch = None;
        self.reduced_at = Some(now);
    }
}

impl Controller for Cubic {
    fn on_sent(&mut self, _now: Duration, _bytes: u64, _in_flight: u64) {}

    fn on_ack(&mut self, ack: &AckSample) {
        self.smoothed_rtt = ack.smoothed_rtt;
        if ack.ce && self.reduced_at.is_none_or(|at| at + ack.smoothed_rtt < ack.now) {
            self.reduce(ack.now);
            return;
        }
        // A window that was not used says nothing about a larger one.
        if (ack.in_flight + ack.acked).saturating_mul(4) < self.window.saturating_mul(3) {
            return;
        }
        if self.in_slow_start() {
            self.window = self.window.saturating_add(ack.acked).min(WINDOW_MAX);
        } else if ack.acked > 0 {
            self.avoid_congestion(ack.now, ack.acked);
            self.window = self.window.min(WINDOW_MAX);
        }
    }

    fn on_lost(&mut self, lost: &LossSample) {
        if self.reduced_at.is_none_or(|at| lost.sent_at_loss > at) {
            // What was not used is not to be kept (RFC 9438 §4.6 goes by the bytes in flight).
            self.window = self.window.min((lost.in_flight + lost.lost).max(self.datagram * 2));
            self.reduce(lost.now);
        }
    }

    fn on_timeout(&mut self, now: Duration) {
        self.reduce(now);
        self.window = self.datagram * 2;
    }

    fn on_datagram_size(&mut self, datagram: u64) {
        self.datagram = datagram.max(1);
        self.epoch = None;
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        let rate = per_second(self.window, self.smoothed_rtt.max(Duration::from_micros(1)));
        Some(percent(rate, if self.in_slow_start() { 200 } else { 125 }))
    }
}

const BETA: f64 = 0.7;
const CURVE: f64 = 0.4;
/// No path needs more, and no sum overflows.
const WINDOW_MAX: u64 = 1 << 40;
