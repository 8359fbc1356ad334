//! The seam between the IO around the server and what decides. [`Core`] stands behind it; a test may put a wrapper there.

use super::metrics::Gauges;
use super::{Core, Input, Output};
use std::time::Duration;

/// What decides: takes one input, then gives outputs until there are no more.
pub trait Engine: Send + 'static {
    /// Takes one input. `now` counts from any origin, `wall_ms` is Unix time.
    fn handle(&mut self, now: Duration, wall_ms: u64, input: Input);
    /// The next output, in order.
    fn poll_output(&mut self) -> Option<Output>;
    /// When [`Input::Timeout`] is wanted, on the clock of `now`.
    fn next_timeout(&self) -> Option<Duration>;
    /// How many there are of what.
    fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}

impl Engine for Core {
    fn handle(&mut self, now: Duration, wall_ms: u64, input: Input) {
        self.handle(now, wall_ms, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.poll_output()
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.next_timeout()
    }

    fn gauges(&self) -> Gauges {
        self.gauges()
    }
}
