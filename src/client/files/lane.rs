//! A thread for one direction: it takes what comes, lets every session speak, and waits.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::mailbox::{Ended, Mailbox};
use super::wire::{Incoming, Wire};

/// What one direction does with letters and datagrams.
pub(super) trait Lane {
    /// What other threads tell it.
    type Letter;
    /// Acts on a letter; breaks when nobody listens any more.
    fn on_letter(&mut self, now: Duration, wire: &mut Wire, letter: Self::Letter) -> ControlFlow<()>;
    /// Takes a datagram; it is opened in place.
    fn on_datagram(&mut self, now: Duration, datagram: Incoming<'_>);
    /// Everything that had come was taken: acks and deadlines are due, and news for the core.
    fn on_time(&mut self, now: Duration);
    /// Sends, fairly, for a little while. Returns whether there is more to send at once.
    fn transmit(&mut self, now: Duration, wire: &mut Wire) -> bool;
    /// When [`Self::on_time`] wants to be called.
    fn deadline(&self, now: Duration) -> Option<Duration>;
    /// How long datagrams may lie before they are taken.
    fn patience(&self) -> Duration;
    /// Whether every moment counts: then the thread does not sleep while datagrams come.
    fn is_hasty(&self) -> bool;
    /// Nobody listens any more: tells every peer.
    fn leave(&mut self, now: Duration);
    /// Whether every peer has confirmed that it heard us leave.
    fn is_empty(&self) -> bool;
}

/// Runs until nobody can write letters any more and the peers know.
pub(super) fn run<L: Lane>(mut lane: L, mut wire: Wire, mut mailbox: Mailbox<L::Letter>, origin: Instant) {
    let mut leaving: Option<Duration> = None;
    let mut came = Duration::ZERO;
    loop {
        let now = origin.elapsed();
        loop {
            let flow = match mailbox.take() {
                Ok(Some(letter)) => lane.on_letter(now, &mut wire, letter),
                Ok(None) => break,
                Err(Ended) => ControlFlow::Break(()),
            };
            if flow.is_break() {
                if leaving.is_none() {
                    lane.leave(now);
                    leaving = Some(now + LEAVING);
                }
                break;
            }
        }
        let full = wire.receive(now, |datagram| lane.on_datagram(now, datagram));
        let now = origin.elapsed();
        lane.on_time(now);
        wire.retry(now);
        let more = !wire.is_blocked() && lane.transmit(now, &mut wire);
        if leaving.is_some_and(|until| lane.is_empty() || now >= until) {
            return;
        }
        if full || more {
            continue;
        }
        if lane.is_hasty() {
            wire.hurry();
            if wire.has_come() {
                came = now;
            }
            if now.saturating_sub(came) < AWAKE && !wire.is_blocked() {
                // Another thread's work may be what is waited for.
                std::thread::yield_now();
                continue;
            }
        }
        let due = [lane.deadline(now), wire.deadline(), leaving].into_iter().flatten().min();
        // Deadlines that have passed cannot be met before there is room again.
        let least = if wire.is_blocked() { BLOCKED_TICK } else { Duration::ZERO };
        let timeout = due.map_or(Duration::MAX, |due| due.saturating_sub(origin.elapsed()).max(least));
        wire.wait(&mailbox, lane.patience(), timeout);
    }
}

/// How long peers have to confirm that they heard us leave.
const LEAVING: Duration = Duration::from_millis(300);
/// How long after the last datagram the next one is waited for without sleep: several times what waking up takes.
const AWAKE: Duration = Duration::from_micros(100);
/// How often deadlines are looked at while nothing can be sent.
const BLOCKED_TICK: Duration = Duration::from_millis(5);
