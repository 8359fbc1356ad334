//! What we send to one other node: kept until it is acknowledged, repeated when it seems lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::packet::Ack;

/// The messages for one node. The first has number 1.
#[derive(Debug)]
pub(super) struct Outgoing {
    // Numbers `base` and up; the first is not acknowledged.
    queue: VecDeque<Entry>,
    base: u64,
    // No number below this waits to be sent.
    cursor: u64,
    // Bytes of all that is not acknowledged.
    queued: usize,
    // Bytes of what is sent and neither acknowledged nor lost.
    flying: usize,
    window: usize,
    // Beyond this the window grows slowly.
    threshold: usize,
    // Losses of numbers below this have been answered by a smaller window.
    recovered: u64,
    rtt: Option<(Duration, Duration)>,
    path_rtt: Duration,
    backoff: u32,
    // While something flies: when it counts as lost.
    deadline: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    head: Option<Arc<[u8]>>,
    body: Option<Arc<[u8]>>,
    size: usize,
    group: u64,
    sent_at: Duration,
    // How often it was sent, up to two.
    sent: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Flying,
    Arrived,
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Item {
    /// Messages of one group have the same body.
    pub(super) group: u64,
    /// Index of the target; the caller's.
    pub(super) target: u32,
    pub(super) number: u64,
    pub(super) head: Option<Arc<[u8]>>,
    pub(super) body: Arc<[u8]>,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            base: 1,
            cursor: 1,
            queued: 0,
            flying: 0,
            window: FIRST_WINDOW,
            threshold: MAX_WINDOW,
            recovered: 1,
            rtt: None,
            path_rtt: Duration::ZERO,
            backoff: 0,
            deadline: None,
        }
    }

    /// Bytes that are not acknowledged, with what keeping each message costs.
    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    pub(super) const fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// What the links of the path say of its round trip.
    pub(super) const fn set_path_rtt(&mut self, rtt: Duration) {
        self.path_rtt = rtt;
    }

    pub(super) fn push(&mut self, group: u64, head: &[u8], body: &Arc<[u8]>) {
        let size = cost(head.len(), body.len());
        let head = (!head.is_empty()).then(|| Arc::from(head));
        let (sent_at, sent, state) = (Duration::ZERO, 0, State::Waiting);
        self.queue.push_back(Entry { head, body: Some(body.clone()), size, group, sent_at, sent, state });
        self.queued += size;
    }

    /// Takes what may leave now, about a burst of it. Returns how many messages of it were sent before.
    pub(super) fn collect(&mut self, now: Duration, target: u32, out: &mut Vec<Item>) -> u64 {
        let (mut repeated, mut burst) = (0, 0);
        let from = usize::try_from(self.cursor - self.base).unwrap_or(usize::MAX);
        let mut passed = 0;
        for (entry, number) in self.queue.range_mut(from.min(self.queue.len())..).zip(self.cursor..) {
            if entry.state == State::Waiting {
                // One message may always fly.
                if burst >= BURST || (self.flying > 0 && self.flying + entry.size > self.window) {
                    break;
                }
                if let Some(body) = &entry.body {
                    out.push(Item { group: entry.group, target, number, head: entry.head.clone(), body: body.clone() });
                }
                repeated += u64::from(entry.sent > 0);
                burst += entry.size;
                self.flying += entry.size;
                (entry.state, entry.sent_at, entry.sent) = (State::Flying, now, (entry.sent + 1).min(2));
            }
            passed += 1;
        }
        self.cursor += passed;
        if self.flying > 0 && self.deadline.is_none() {
            self.deadline = Some(now + self.timeout());
        }
        repeated
    }

    /// Takes an acknowledgement. False if it speaks of what was never sent.
    pub(super) fn acknowledge(&mut self, now: Duration, ack: &Ack) -> bool {
        let end = self.base + self.queue.len() as u64;
        if ack.below > end || ack.ranges.last().is_some_and(|range| range.end > end) {
            return false;
        }
        let (before, mut newest) = (self.flying, None);
        let mut freed = 0;
        while self.base < ack.below {
            let Some(entry) = self.queue.pop_front() else { break };
            self.base += 1;
            freed += self.settle(&entry, &mut newest);
        }
        self.cursor = self.cursor.max(self.base);
        freed += self.settle_ranges(ack, &mut newest);
        if let Some((sent_at, sent)) = newest {
            self.backoff = 0;
            if sent == 1 {
                self.sample(now.saturating_sub(sent_at));
            }
            self.grow(freed.min(before));
            self.find_losses(ack, sent_at);
        }
        if self.flying == 0 {
            self.deadline = None;
        } else if newest.is_some() {
            self.deadline = Some(now + self.timeout());
        }
        true
    }

    // Bytes that no longer fly or wait; the newest is the one sent last.
    fn settle(&mut self, entry: &Entry, newest: &mut Option<(Duration, u8)>) -> usize {
        if entry.state == State::Arrived {
            return 0;
        }
        self.queued -= entry.size;
        if entry.state == State::Flying {
            self.flying -= entry.size;
        }
        if newest.is_none_or(|(at, _)| at <= entry.sent_at) {
            *newest = Some((entry.sent_at, entry.sent));
        }
        entry.size
    }

    fn settle_ranges(&mut self, ack: &Ack, newest: &mut Option<(Duration, u8)>) -> usize {
        let mut freed = 0;
        for range in &ack.ranges {
            for number in range.start.max(self.base)..range.end {
                let Ok(index) = usize::try_from(number - self.base) else { break };
                let Some(entry) = self.queue.get_mut(index) else { break };
                if entry.state == State::Arrived {
                    continue;
                }
                let was = Entry { head: None, body: None, ..*entry };
                (entry.state, entry.head, entry.body) = (State::Arrived, None, None);
                freed += self.settle(&was, newest);
            }
        }
        freed
    }

    // What was sent clearly before something that has arrived, and has not arrived itself, is lost.
    fn find_losses(&mut self, ack: &Ack, newest: Duration) {
        let Some(last) = ack.ranges.last() else { return };
        let slack = self.rtt.map_or(FIRST_SLACK, |(smooth, _)| (smooth / 4).max(MIN_SLACK));
        let (mut first, mut number) = (None, self.base);
        for entry in &mut self.queue {
            if number >= last.start {
                break;
            }
            if entry.state == State::Flying && entry.sent_at + slack <= newest {
                entry.state = State::Waiting;
                self.flying -= entry.size;
                first = first.or(Some(number));
            }
            number += 1;
        }
        let Some(first) = first else { return };
        self.cursor = self.cursor.min(first);
        if first >= self.recovered {
            self.shrink(self.window / 2);
        }
    }

    fn shrink(&mut self, window: usize) {
        self.window = window.clamp(MIN_WINDOW, MAX_WINDOW);
        self.threshold = self.window;
        self.recovered = self.base + self.queue.len() as u64;
    }

    fn grow(&mut self, freed: usize) {
        let more = if self.window < self.threshold { freed } else { freed * STEP / self.window.max(1) };
        self.window = (self.window + more).min(MAX_WINDOW);
    }

    /// What flies when its time is over is lost. True if there was something.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.backoff = (self.backoff + 1).min(8);
        self.lose_all();
        self.shrink(self.window / 2);
        true
    }

    /// The path has changed under what flies: it is sent again.
    pub(super) fn lose_all(&mut self) {
        for entry in self.queue.iter_mut().filter(|entry| entry.state == State::Flying) {
            entry.state = State::Waiting;
        }
        (self.flying, self.deadline, self.cursor) = (0, None, self.base);
    }

    /// There is a new path: what was learned of the old one's limits does not hold.
    pub(super) fn begin_path(&mut self) {
        (self.backoff, self.threshold) = (0, MAX_WINDOW);
        self.window = self.window.max(FIRST_WINDOW);
    }

    fn sample(&mut self, rtt: Duration) {
        self.rtt = Some(match self.rtt {
            None => (rtt, rtt / 2),
            Some((smooth, variation)) => ((smooth * 7 + rtt) / 8, (variation * 3 + smooth.abs_diff(rtt)) / 4),
        });
    }

    fn timeout(&self) -> Duration {
        let measured = self.rtt.map_or(Duration::ZERO, |(smooth, variation)| smooth + variation * 4);
        let base = (measured.max(self.path_rtt * 2) + MAX_ACK_DELAY).max(MIN_TIMEOUT);
        base.saturating_mul(1 << self.backoff).min(MAX_TIMEOUT)
    }
}

/// What a message counts for in queues, bytes.
pub(super) const fn cost(head: usize, body: usize) -> usize {
    head + body + ENTRY_COST
}

/// The longest that an acknowledgement is held back.
pub(super) const MAX_ACK_DELAY: Duration = Duration::from_millis(10);
/// So many bytes leave in one go; then others have their turn, and the link may say that it is full.
const BURST: usize = 128 * 1024;
const ENTRY_COST: usize = 96;
const FIRST_WINDOW: usize = 256 * 1024;
const MIN_WINDOW: usize = 32 * 1024;
const MAX_WINDOW: usize = 4 << 20;
/// By so much the window grows in a round trip once it has met a limit.
const STEP: usize = 64 * 1024;
/// On links that keep the order only a change of path lets one message pass another.
const MIN_SLACK: Duration = Duration::from_millis(2);
const FIRST_SLACK: Duration = Duration::from_millis(20);
/// Links lose nothing, queues and dead servers do; below this a busy server looks like a dead one.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Collect,
        /// Everything below, and a range beyond it.
        Ack(u64, u64, u64),
        Wait(u64),
        Reroute,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_000usize).prop_map(Step::Push),
            3 => Just(Step::Collect),
            3 => (0..60u64, 1..9u64, 1..9u64).prop_map(|(below, gap, len)| Step::Ack(below, gap, len)),
            2 => (0..300u64).prop_map(Step::Wait),
            1 => Just(Step::Reroute),
        ]
    }

    fn assert_sound(out: &Outgoing) {
        let sum =
            |state: &[State]| out.queue.iter().filter(|e| state.contains(&e.state)).map(|e| e.size).sum::<usize>();
        assert_eq!(out.flying, sum(&[State::Flying]));
        assert_eq!(out.queued, sum(&[State::Flying, State::Waiting]));
        let passed = (out.cursor - out.base) as usize;
        assert!(out.queue.iter().take(passed).all(|entry| entry.state != State::Waiting), "one is never sent again");
        assert_eq!(out.deadline.is_some(), out.flying > 0, "whatever flies is watched");
        assert!(out.queue.iter().all(|entry| entry.body.is_some() != (entry.state == State::Arrived)));
        assert!((MIN_WINDOW..=MAX_WINDOW).contains(&out.window));
    }

    proptest! {
        #[test]
        fn whatever_is_acknowledged_and_lost_the_books_are_right(steps in proptest::collection::vec(step(), 0..120)) {
            let (mut out, mut now, mut pushed, mut items) = (Outgoing::new(), Duration::from_secs(1), 0, Vec::new());
            for step in steps {
                match step {
                    Step::Push(len) => {
                        pushed += 1;
                        out.push(pushed, &[7; 3], &vec![0; len].into());
                    }
                    Step::Collect => {
                        out.collect(now, 0, &mut items);
                    }
                    Step::Ack(below, gap, len) => {
                        let range = below + gap..below + gap + len;
                        let sent = range.end <= pushed + 1;
                        let ack = Ack { below, ranges: vec![range] };
                        prop_assert_eq!(out.acknowledge(now, &ack), sent);
                    }
                    Step::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        out.expire(now);
                    }
                    Step::Reroute => {
                        out.lose_all();
                        out.begin_path();
                    }
                }
                assert_sound(&out);
            }
            prop_assert!(items.iter().all(|item: &Item| item.group == item.number));
            // When all is acknowledged nothing is left.
            let all = Ack { below: pushed + 1, ranges: Vec::new() };
            prop_assert!(out.acknowledge(now, &all));
            assert_sound(&out);
            prop_assert_eq!((out.queued, out.queue.len(), out.deadline), (0, 0, None));
        }
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_ever_more_slowly() {
        let (mut out, mut now, mut items) = (Outgoing::new(), Duration::from_secs(1), Vec::new());
        out.push(1, &[], &vec![0; 10].into());
        let mut waits = Vec::new();
        for _ in 0..6 {
            out.collect(now, 0, &mut items);
            let deadline = out.deadline.unwrap();
            waits.push(deadline - now);
            now = deadline;
            assert!(out.expire(now));
        }
        assert!(waits[0] < Duration::from_millis(250) && waits.is_sorted() && waits[5] == MAX_TIMEOUT, "{waits:?}");
        assert_eq!(items.len(), 6);
    }
}
