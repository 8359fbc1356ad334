//! How fast each key may post: short bursts at once, then at a steady rate. Whoever is faster is not refused but read more slowly.

use crate::crypto::identity::PublicKey;
use crate::limits::{FLOOD_MAX, FLOOD_NOTICE, POST_BURST, POST_BURST_BYTES, POST_BYTES_PER_SECOND, POSTS_PER_SECOND};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a session has been posting at the limit of its pace.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Time at the limit, less the time away from it.
    flooded: Duration,
    /// The last post.
    last: Option<Duration>,
    told: bool,
}

/// What a session is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Nothing,
    /// If it goes on like this, it is cut.
    Notice,
    /// It was told, and went on.
    Cut,
}

impl Patience {
    /// Judges a post. A short pause does not make up for a long flood.
    pub(super) fn judge(&mut self, held: Held, now: Duration) -> Word {
        let passed = self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_sub(last));
        if !held.at_limit {
            self.flooded = self.flooded.saturating_sub(passed);
            self.told &= !self.flooded.is_zero();
            return Word::Nothing;
        }
        self.flooded += passed;
        let notice = FLOOD_MAX.saturating_sub(FLOOD_NOTICE);
        if self.told {
            return if self.flooded >= FLOOD_MAX { Word::Cut } else { Word::Nothing };
        }
        if self.flooded < notice {
            return Word::Nothing;
        }
        self.flooded = notice;
        self.told = true;
        Word::Notice
    }
}

/// What a post means for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// How long to wait before it is taken.
    pub(super) wait: Duration,
    /// More than half of the burst is used: it comes as fast as it may or faster.
    pub(super) at_limit: bool,
}

/// What each key has posted lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    debts: BTreeMap<PublicKey, Debt>,
}

/// When what a key has posted would be over at the steady rates. It may lie ahead by a burst.
#[derive(Debug, Clone, Copy, Default)]
struct Debt {
    posts: Duration,
    bytes: Duration,
}

impl Pace {
    /// Counts a post of so many bytes at a so-manieth of the normal pace.
    pub(super) fn post(&mut self, key: PublicKey, bytes: usize, slower: u32, now: Duration) -> Held {
        if self.debts.len() >= KEYS && !self.debts.contains_key(&key) {
            // What is paid says nothing. The rest are keys of the last seconds, fewer than there are connections.
            self.debts.retain(|_, debt| debt.posts.max(debt.bytes) > now);
        }
        let debt = self.debts.entry(key).or_default();
        debt.posts = debt.posts.max(now) + steady(1, POSTS_PER_SECOND) * slower;
        debt.bytes = debt.bytes.max(now) + steady(bytes, POST_BYTES_PER_SECOND) * slower;
        let bursts = [
            (debt.posts, steady(POST_BURST, POSTS_PER_SECOND)),
            (debt.bytes, steady(POST_BURST_BYTES, POST_BYTES_PER_SECOND)),
        ];
        let waits = bursts.map(|(debt, burst)| debt.saturating_sub(burst).saturating_sub(now));
        let at_limit = bursts.iter().any(|(debt, burst)| debt.saturating_sub(now) > *burst / 2);
        Held { wait: waits.into_iter().max().unwrap_or_default(), at_limit }
    }
}

fn steady(amount: usize, per_second: usize) -> Duration {
    let nanoseconds = (amount as u64).saturating_mul(1_000_000_000) / (per_second as u64);
    Duration::from_nanos(nanoseconds)
}

/// Keys that are kept before those that owe nothing are dropped.
const KEYS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: PublicKey = PublicKey::from_bytes([1; 32]);
    const BOB: PublicKey = PublicKey::from_bytes([2; 32]);

    /// How long posts of one size take that follow each other as fast as they are taken.
    fn all(count: usize, bytes: usize) -> Duration {
        let (mut pace, mut now) = (Pace::default(), Duration::from_secs(100));
        let start = now;
        for _ in 0..count {
            now += pace.post(ALICE, bytes, 1, now).wait;
        }
        now - start
    }

    #[test]
    fn a_burst_waits_for_nothing_and_a_long_script_goes_on_at_the_steady_rate() {
        assert_eq!(all(POST_BURST, 400), Duration::ZERO);
        assert_eq!(all(POST_BURST_BYTES / 16_384, 16_384), Duration::ZERO);
        let script = all(10_000, 380).as_secs_f64();
        assert!((9.0..10.1).contains(&script), "{script} s for 10,000 lines");
        let flood = all(1000, 65_536).as_secs();
        assert!((160..170).contains(&flood), "{flood} s for 64 MiB");
    }

    #[test]
    fn a_single_wait_is_far_below_a_keep_alive() {
        let (mut pace, mut now) = (Pace::default(), Duration::from_secs(100));
        for _ in 0..1000 {
            let wait = pace.post(ALICE, crate::limits::SEALED_MAX, 1, now).wait;
            assert!(wait < Duration::from_millis(500), "{wait:?}");
            now += wait;
        }
    }

    #[test]
    fn a_key_that_comes_again_has_its_debt_and_others_have_none() {
        let (mut pace, now) = (Pace::default(), Duration::from_secs(100));
        let waits: Vec<_> = (0..2000).map(|_| pace.post(ALICE, 100, 1, now).wait).collect();
        assert!(waits.windows(2).all(|w| w[0] <= w[1]) && waits[1999] >= Duration::from_millis(1700));
        assert_eq!(pace.post(BOB, 100, 1, now).wait, Duration::ZERO);
        assert!(pace.post(ALICE, 100, 1, now + Duration::from_secs(1)).wait >= Duration::from_millis(700));
        assert_eq!(pace.post(ALICE, 100, 1, now + Duration::from_secs(3)).wait, Duration::ZERO);
    }

    #[test]
    fn at_a_wary_level_bursts_and_pace_are_smaller() {
        let (mut pace, now) = (Pace::default(), Duration::from_secs(100));
        let free = (0..POST_BURST).filter(|_| pace.post(ALICE, 100, 10, now).wait.is_zero()).count();
        assert_eq!(free, POST_BURST / 10);
        let wait = pace.post(ALICE, 100, 10, now).wait;
        assert!(pace.post(ALICE, 100, 10, now + wait).wait >= Duration::from_millis(9));
    }

    /// What a flood hears that goes on as fast as it is taken, and how long that took.
    #[test]
    fn a_flood_is_told_and_then_cut_and_a_script_of_ten_thousand_lines_is_not() {
        let flood = |posts: usize, slower: u32| {
            let (mut pace, mut patience, mut now) = (Pace::default(), Patience::default(), Duration::from_secs(100));
            let mut heard = Vec::new();
            for n in 0..posts {
                let held = pace.post(ALICE, 380, slower, now);
                let word = patience.judge(held, now);
                if word != Word::Nothing {
                    heard.push((word, now.as_secs() - 100));
                }
                if word == Word::Cut {
                    break;
                }
                // The system wakes us late now and then.
                let late = if n % 500 == 0 { 50 } else { 0 };
                now += held.wait + Duration::from_millis(late);
            }
            heard
        };
        assert_eq!(flood(10_000, 1), []);
        assert_eq!(flood(100_000, 1), [(Word::Notice, 24), (Word::Cut, 30)]);
        assert_eq!(flood(10_000, 4), [(Word::Notice, 24), (Word::Cut, 30)]);
    }

    #[test]
    fn nobody_is_cut_who_was_not_told_and_a_pause_makes_up_for_as_long_a_flood() {
        let mut patience = Patience::default();
        let mut judge = |at_limit, at| patience.judge(Held { wait: Duration::ZERO, at_limit }, Duration::from_secs(at));
        assert_eq!(judge(true, 100), Word::Nothing, "what was before its first post is not its own");
        assert_eq!(judge(true, 600), Word::Notice, "however late it is");
        assert_eq!(judge(true, 605), Word::Nothing, "then there is time to stop");
        assert_eq!(judge(false, 640), Word::Nothing);
        assert_eq!(judge(true, 660), Word::Nothing);
        assert_eq!(judge(false, 661), Word::Nothing, "19 of 24 seconds are left");
        assert_eq!(judge(true, 666), Word::Notice);
        assert_eq!(judge(true, 672), Word::Cut);
    }

    #[test]
    fn keys_that_owe_nothing_are_forgotten() {
        let mut pace = Pace::default();
        for n in 0..100_000u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            pace.post(PublicKey::from_bytes(key), 100, 1, Duration::from_millis(n));
        }
        assert!(pace.debts.len() <= KEYS, "{}", pace.debts.len());
    }
}
