//! A bad path on demand: loses, repeats, reorders, damages, delays and slows datagrams, the same way for the same seed.
//! For tests: on a running client's channel by `--inject`, and in the simulated network. Pure: `now` is passed in, and
//! the dice are generators of its own, one for each impairment, so that changing one leaves the others' throws alone.
//!
//! A datagram meets in this order: the bottleneck, random loss, burst loss, corruption, delay, duplication. So what is
//! lost has used the link, and duplicates have not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

pub use super::impair_spec::{Burst, Queue, Spec, SpecError};

/// One direction of a bad path.
#[derive(Debug)]
pub struct Impair {
    spec: Spec,
    dice: [ChaCha8Rng; DICE],
    in_burst: bool,
    // When the bottleneck will have sent all that it took.
    busy_until: Duration,
    // Order is kept except by `reorder`: nothing is due before this.
    last_due: Duration,
    // When bytes that were handed out leave, to bound how many are under way.
    leaving: BinaryHeap<Reverse<(Duration, usize)>>,
    held: usize,
    counts: Counts,
}

/// What has happened to datagrams so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams offered.
    pub offered: u64,
    /// Lost to `loss` and `burst`.
    pub lost: u64,
    /// Dropped before the bottleneck, or for the cap on bytes under way.
    pub overflowed: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub corrupted: u64,
}

impl Impair {
    pub fn new(spec: Spec) -> Self {
        let dice = std::array::from_fn(|index| {
            let mut dice = ChaCha8Rng::seed_from_u64(spec.seed);
            dice.set_stream(index as u64);
            dice
        });
        Self {
            spec,
            dice,
            in_burst: false,
            busy_until: Duration::ZERO,
            last_due: Duration::ZERO,
            leaving: BinaryHeap::new(),
            held: 0,
            counts: Counts::default(),
        }
    }

    /// A datagram is sent at `now`. What comes of it is handed to `out` with the time at which it arrives: nothing, the
    /// datagram, or two of it. At most [`HELD_MAX`] bytes are under way; what is beyond is dropped.
    pub fn offer(&mut self, now: Duration, datagram: &[u8], out: &mut impl FnMut(Duration, Vec<u8>)) {
        self.counts.offered += 1;
        self.forget_arrived(now);
        let Some(sent) = self.through_bottleneck(now, datagram.len()) else {
            self.counts.overflowed += 1;
            return;
        };
        if self.chance(LOSS, self.spec.loss) || self.burst_takes_it() {
            self.counts.lost += 1;
            return;
        }
        let mut bytes = datagram.to_vec();
        if self.chance(CORRUPT, self.spec.corrupt) && self.damage(&mut bytes) {
            self.counts.corrupted += 1;
        }
        let due = self.arrival(sent);
        if self.chance(DUPLICATE, self.spec.dup) {
            self.counts.duplicated += 1;
            self.hand_out(due, bytes.clone(), out);
        }
        self.hand_out(due, bytes, out);
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn hand_out(&mut self, due: Duration, bytes: Vec<u8>, out: &mut impl FnMut(Duration, Vec<u8>)) {
        if self.held.saturating_add(bytes.len()) > HELD_MAX {
            self.counts.overflowed += 1;
            return;
        }
        self.held += bytes.len();
        self.leaving.push(Reverse((due, bytes.len())));
        out(due, bytes);
    }

    fn forget_arrived(&mut self, now: Duration) {
        while let Some(Reverse((due, bytes))) = self.leaving.peek().copied()
            && due <= now
        {
            self.held -= bytes;
            self.leaving.pop();
        }
    }

    /// When the last bit leaves the bottleneck; `None` if there is no room before it. An idle link takes any datagram.
    fn through_bottleneck(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.spec.rate else { return Some(now) };
        let time = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        let backlog = self.busy_until.saturating_sub(now);
        let full = match self.spec.queue {
            Queue::Time(most) => backlog > most,
            Queue::Bytes(most) => backlog + time(bytes) > time(most),
        };
        if full && !backlog.is_zero() {
            return None;
        }
        self.busy_until = self.busy_until.max(now) + time(bytes);
        Some(self.busy_until)
    }

    /// Gilbert's model: a chain of two states that steps once a datagram; in the bad one all is lost.
    fn burst_takes_it(&mut self) -> bool {
        let Some(Burst { loss, length }) = self.spec.burst else { return false };
        let (ends, begins) = (1.0 / length, loss / length / (1.0 - loss));
        self.in_burst ^= self.chance(BURST, if self.in_burst { ends } else { begins });
        self.in_burst
    }

    fn damage(&mut self, bytes: &mut [u8]) -> bool {
        let throw = self.dice[CORRUPT].next_u64();
        let at = (throw >> 3).checked_rem(bytes.len() as u64).and_then(|at| usize::try_from(at).ok());
        let Some(byte) = at.and_then(|at| bytes.get_mut(at)) else { return false };
        *byte ^= 1 << (throw & 7);
        true
    }

    fn arrival(&mut self, sent: Duration) -> Duration {
        let mut due = sent + self.spec.delay;
        if !self.spec.jitter.is_zero() {
            let throw = self.throw(JITTER);
            due = (due + self.spec.jitter.mul_f64(throw * 2.0)).saturating_sub(self.spec.jitter).max(sent);
        }
        due = due.max(self.last_due);
        if self.chance(REORDER, self.spec.reorder) {
            // Those that follow overtake this one.
            self.counts.reordered += 1;
            return due + self.spec.reorder_by;
        }
        self.last_due = due;
        due
    }

    fn chance(&mut self, dice: usize, probability: f64) -> bool {
        probability > 0.0 && self.throw(dice) < probability
    }

    /// Uniform in [0, 1).
    fn throw(&mut self, dice: usize) -> f64 {
        (self.dice[dice].next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// An [`Impair`] that keeps what is under way, for a driver with a socket.
#[derive(Debug)]
pub struct Line {
    impair: Impair,
    // By time of arrival, then by order of sending.
    under_way: BinaryHeap<Reverse<(Duration, u64, Vec<u8>)>>,
    serial: u64,
}

impl Line {
    pub fn new(spec: Spec) -> Self {
        Self { impair: Impair::new(spec), under_way: BinaryHeap::new(), serial: 0 }
    }

    /// A datagram goes in.
    pub fn offer(&mut self, now: Duration, datagram: &[u8]) {
        let (under_way, serial) = (&mut self.under_way, &mut self.serial);
        self.impair.offer(now, datagram, &mut |due, bytes| {
            *serial += 1;
            under_way.push(Reverse((due, *serial, bytes)));
        });
    }

    /// The next datagram that has come out by `now`.
    pub fn poll(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_at().is_none_or(|due| due > now) {
            return None;
        }
        self.under_way.pop().map(|Reverse((_, _, bytes))| bytes)
    }

    /// When the next datagram comes out.
    pub fn next_at(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse((due, _, _))| *due)
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.impair.counts()
    }
}

/// Bytes under way at most: ten gigabits a second for 50 ms.
pub const HELD_MAX: usize = 64 << 20;

// One generator each.
const LOSS: usize = 0;
const BURST: usize = 1;
const CORRUPT: usize = 2;
const JITTER: usize = 3;
const REORDER: usize = 4;
const DUPLICATE: usize = 5;
const DICE: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Sends `count` datagrams of 1,000 bytes, one each `gap`; returns arrivals (when, number sent, bytes) and counts.
    fn run(spec: &str, count: u64, gap: Duration) -> (Vec<(Duration, u64, Vec<u8>)>, Counts) {
        let mut line = Line::new(spec.parse().unwrap());
        let mut arrivals = Vec::new();
        for number in 0..count {
            let now = gap * u32::try_from(number).unwrap();
            let mut datagram = vec![0; 1_000];
            datagram[..8].copy_from_slice(&number.to_be_bytes());
            line.offer(now, &datagram);
            while let Some(due) = line.next_at().filter(|due| *due <= now) {
                arrivals.push((due, line.poll(due).unwrap()));
            }
        }
        while let Some(due) = line.next_at() {
            arrivals.push((due, line.poll(due).unwrap()));
        }
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().unwrap());
        (arrivals.into_iter().map(|(due, bytes)| (due, number(&bytes), bytes)).collect(), line.counts())
    }

    #[test]
    fn nothing_set_changes_nothing() {
        let (arrivals, counts) = run("", 100, ms(1));
        assert!(arrivals.iter().zip(0..).all(|((due, number, _), sent)| *number == sent && *due == ms(sent)));
        assert_eq!(counts, Counts { offered: 100, ..Counts::default() });
    }

    #[test]
    fn random_loss_is_as_set_and_repeats_with_its_seed() {
        let (first, counts) = run("loss=5%,seed=7", 20_000, ms(1));
        assert!((800..1_200).contains(&counts.lost), "{counts:?}");
        assert_eq!(run("loss=5%,seed=7", 20_000, ms(1)).0, first);
        assert_ne!(run("loss=5%,seed=8", 20_000, ms(1)).0, first);
    }

    #[test]
    fn one_impairment_leaves_the_dice_of_others_alone() {
        let lost = |spec| {
            let (arrivals, _) = run(spec, 5_000, ms(1));
            let arrived: std::collections::BTreeSet<_> = arrivals.iter().map(|(_, number, _)| *number).collect();
            (0..5_000).filter(|number| !arrived.contains(number)).collect::<Vec<_>>()
        };
        assert_eq!(lost("loss=3%,seed=1"), lost("loss=3%,dup=20%,reorder=25%,delay=5ms/2ms,seed=1"));
    }

    #[test]
    fn bursts_take_runs_of_the_length_set() {
        let (arrivals, counts) = run("burst=2%/8,seed=3", 100_000, ms(1));
        assert!((1_400..2_600).contains(&counts.lost), "{counts:?}");
        let runs = arrivals.windows(2).filter(|pair| pair[1].1 > pair[0].1 + 1).count();
        let mean = counts.lost as f64 / runs as f64;
        assert!((6.0..10.5).contains(&mean), "{mean}");
    }

    #[test]
    fn duplicates_come_beside_their_originals() {
        let (arrivals, counts) = run("dup=10%,delay=20ms,seed=1", 2_000, ms(1));
        assert_eq!(arrivals.len() as u64, 2_000 + counts.duplicated);
        assert!((140..260).contains(&counts.duplicated), "{counts:?}");
        let pairs = arrivals.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
        assert_eq!(pairs, counts.duplicated);
    }

    #[test]
    fn reordered_ones_are_overtaken_and_nothing_else_is() {
        let (arrivals, counts) = run("reorder=25%/5ms,seed=1", 2_000, ms(1));
        assert!((400..600).contains(&counts.reordered), "{counts:?}");
        let late = arrivals.iter().filter(|(due, number, _)| *due == ms(number + 5)).count() as u64;
        assert_eq!(late, counts.reordered);
    }

    #[test]
    fn jitter_varies_the_delay_and_keeps_order() {
        let (close, _) = run("delay=20ms/10ms,seed=1", 2_000, ms(1));
        assert!(close.windows(2).all(|pair| pair[0].1 < pair[1].1));
        let (apart, _) = run("delay=20ms/10ms,seed=1", 2_000, ms(30));
        let delays: Vec<_> = apart.iter().map(|(due, number, _)| *due - ms(*number * 30)).collect();
        assert!(delays.iter().all(|delay| (ms(10)..=ms(30)).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < ms(12)) && delays.iter().any(|delay| *delay > ms(28)));
    }

    #[test]
    fn corruption_flips_one_bit() {
        let (arrivals, counts) = run("corrupt=10%,seed=1", 2_000, ms(1));
        let mut damaged = 0;
        for ((_, _, bytes), sent) in arrivals.iter().zip(0_u64..) {
            let mut expected = vec![0; 1_000];
            expected[..8].copy_from_slice(&sent.to_be_bytes());
            let flipped: u32 = bytes.iter().zip(&expected).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert!(flipped <= 1);
            damaged += u64::from(flipped);
        }
        assert_eq!(damaged, counts.corrupted);
        assert!((140..260).contains(&damaged));
        Impair::new("corrupt=100%".parse().unwrap()).offer(ms(0), &[], &mut |_, bytes| assert!(bytes.is_empty()));
    }

    #[test]
    fn the_bottleneck_keeps_its_rate_and_drops_what_finds_no_room() {
        // 8 Mbit/s are a datagram a millisecond: twice that comes.
        let (arrivals, counts) = run("rate=8mbit,queue=20ms,delay=10ms", 2_000, Duration::from_micros(500));
        assert!(arrivals.windows(2).all(|pair| pair[1].0 - pair[0].0 >= Duration::from_micros(999)));
        assert!((960..1_000).contains(&counts.overflowed), "{counts:?}");
        let longest = arrivals.iter().map(|(due, number, _)| *due - Duration::from_micros(500 * number)).max().unwrap();
        assert!((ms(29)..ms(33)).contains(&longest), "{longest:?}");
        let (few, _) = run("rate=8mbit,queue=3kb", 100, Duration::ZERO);
        assert_eq!(few.len(), 3);
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let mut impair = Impair::new("delay=1h".parse().unwrap());
        let mut bytes = 0;
        for _ in 0..2_000 {
            impair.offer(ms(0), &[0; 60_000], &mut |_, datagram| bytes += datagram.len());
        }
        assert!(bytes <= HELD_MAX && bytes > HELD_MAX - 60_000);
        assert_eq!(impair.counts().overflowed, 2_000 - bytes as u64 / 60_000);
        impair.offer(Duration::from_secs(3_601), &[0; 60_000], &mut |_, _| bytes = 0);
        assert_eq!(bytes, 0);
    }
}
