//! Signs of life in silence. The asker repeats its last ack with a ping: that nominates the path, reopens a window whose
//! opening was lost, confirms the end, and lets the holder know that it is still there.

use std::time::Duration;

use super::rtt::Rtt;

#[derive(Debug, Default)]
pub(super) struct Nudge {
    due: Option<Duration>,
    // Since the peer was heard last.
    count: u32,
}

impl Nudge {
    /// The peer was heard, or a path was found (`at_once`: it should hear of us now).
    pub(super) fn postpone(&mut self, now: Duration, at_once: bool, rtt: &Rtt) {
        self.count = 0;
        self.due = Some(if at_once { now } else { now + interval(rtt, 0) });
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Whether the silence has lasted; if so the next nudge is set, further off.
    pub(super) fn take(&mut self, now: Duration, rtt: &Rtt) -> bool {
        if self.due.is_none_or(|at| at > now) {
            return false;
        }
        self.due = Some(now + interval(rtt, self.count));
        self.count = self.count.saturating_add(1);
        true
    }
}

fn interval(rtt: &Rtt, count: u32) -> Duration {
    rtt.timeout(count).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// Longer than the shortest retransmission timeout, which should be the first to act.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nudges_grow_apart_while_the_peer_is_silent() {
        let (mut nudge, rtt) = (Nudge::default(), Rtt::default());
        let mut now = Duration::from_secs(1);
        assert!(!nudge.take(now, &rtt), "there is no path yet");
        nudge.postpone(now, true, &rtt);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let due = nudge.due().unwrap();
            pauses.push(due - now);
            now = due;
            assert!(nudge.take(now, &rtt));
            assert!(!nudge.take(now, &rtt));
        }
        assert!(pauses.is_sorted() && *pauses.last().unwrap() <= MAX_INTERVAL);
    }
}
