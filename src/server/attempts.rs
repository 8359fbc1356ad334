//! Counters of attempts in a window of time, by address or by key.

use crate::crypto::identity::PublicKey;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Counts what each source did in the present window of its own. The table is bounded: what is over is given up first, and a full
/// table counts newcomers as one.
#[derive(Debug)]
pub(super) struct Attempts<K> {
    /// At the normal level.
    normal: u32,
    limit: u32,
    window: Duration,
    counts: BTreeMap<K, (Duration, u32)>,
    others: (Duration, u32),
}

impl<K: Ord + Copy> Attempts<K> {
    pub(super) const fn new(limit: u32, window: Duration) -> Self {
        Self { normal: limit, limit, window, counts: BTreeMap::new(), others: (Duration::ZERO, 0) }
    }

    /// Only a so-manieth of the normal allowance from now on; something always stays.
    pub(super) fn tighten(&mut self, slower: u32) {
        self.limit = self.normal.checked_div(slower).unwrap_or(self.normal).max(1);
    }

    /// How much of the window's allowance is used.
    pub(super) fn used(&self, source: &K, now: Duration) -> u32 {
        match self.counts.get(source) {
            Some((start, count)) if now < *start + self.window => *count,
            None if self.counts.len() >= SOURCES_MAX && now < self.others.0 + self.window => self.others.1,
            _ => 0,
        }
    }

    /// Whether there is no allowance left.
    pub(super) fn exhausted(&self, source: &K, now: Duration) -> bool {
        self.used(source, now) >= self.limit
    }

    /// Counts one.
    pub(super) fn count(&mut self, source: K, now: Duration) {
        self.add(source, 1, now);
    }

    fn add(&mut self, source: K, cost: u32, now: Duration) {
        if self.counts.len() >= SOURCES_MAX && !self.counts.contains_key(&source) {
            self.prune(now);
        }
        let full = self.counts.len() >= SOURCES_MAX && !self.counts.contains_key(&source);
        let entry = if full { &mut self.others } else { self.counts.entry(source).or_insert((now, 0)) };
        if now >= entry.0 + self.window {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(cost);
    }

    /// Counts one, if there is allowance left for it.
    pub(super) fn take(&mut self, source: K, now: Duration) -> bool {
        let free = !self.exhausted(&source, now);
        if free {
            self.count(source, now);
        }
        free
    }

    /// Counts what something costs; whether with it most of the allowance is used, which happens once in a window.
    fn nears(&mut self, source: K, cost: u32, now: Duration) -> bool {
        let most = self.limit - self.limit / 5;
        let before = self.used(&source, now);
        self.add(source, cost, now);
        before < most && self.used(&source, now) >= most
    }

    /// Forgets the windows that are over.
    pub(super) fn prune(&mut self, now: Duration) {
        let window = self.window;
        self.counts.retain(|_, (start, _)| now < *start + window);
    }
}

/// What came of a wish to use an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is used.
    Yes,
    /// It is used, and with it four fifths of the window's allowance.
    Nearly,
    /// There is none left.
    No,
}

/// An allowance of each key and one of each source: new keys cost nothing, and one address may hide many people.
#[derive(Debug)]
pub(super) struct Allowance {
    by_key: Attempts<PublicKey>,
    by_source: Attempts<[u8; 16]>,
}

impl Allowance {
    pub(super) const fn new(of_key: u32, of_source: u32, window: Duration) -> Self {
        Self { by_key: Attempts::new(of_key, window), by_source: Attempts::new(of_source, window) }
    }

    /// Takes what something costs, if both have allowance left.
    pub(super) fn take(&mut self, key: PublicKey, ip: IpAddr, cost: u32, now: Duration) -> Taken {
        let source = source(ip);
        if self.by_key.exhausted(&key, now) || self.by_source.exhausted(&source, now) {
            return Taken::No;
        }
        let nears = self.by_key.nears(key, cost, now) | self.by_source.nears(source, cost, now);
        if nears { Taken::Nearly } else { Taken::Yes }
    }

    /// Only a so-manieth of the normal allowances from now on.
    pub(super) fn tighten(&mut self, slower: u32) {
        self.by_key.tighten(slower);
        self.by_source.tighten(slower);
    }

    /// Forgets the windows that are over.
    pub(super) fn prune(&mut self, now: Duration) {
        self.by_key.prune(now);
        self.by_source.prune(now);
    }
}

/// One source of attempts: an IPv4 address, or an IPv6 /64, which one customer has as a whole.
pub(super) fn source(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => (u128::from(v6) >> 64 << 64).to_be_bytes(),
    }
}

const SOURCES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_comes_back_after_its_window() {
        let mut attempts = Attempts::new(2, Duration::from_secs(60));
        assert!(attempts.take(1, Duration::ZERO) && attempts.take(1, Duration::from_secs(59)));
        assert!(!attempts.take(1, Duration::from_secs(59)));
        assert!(attempts.take(2, Duration::from_secs(59)));
        assert!(attempts.take(1, Duration::from_secs(60)));
    }

    #[test]
    fn newcomers_to_a_full_table_share_one_allowance() {
        let (now, mut attempts) = (Duration::from_secs(600), Attempts::new(2, Duration::from_secs(60)));
        (0..SOURCES_MAX).for_each(|source| attempts.count(source, now));
        let taken = (SOURCES_MAX..SOURCES_MAX + 100).filter(|source| attempts.take(*source, now)).count();
        assert_eq!(taken, 2);
        assert!(attempts.take(1, now), "who is in the table has an allowance of its own");
        assert!(attempts.take(SOURCES_MAX, now + Duration::from_secs(60)));
    }

    #[test]
    fn many_keys_of_one_address_share_an_allowance() {
        let (now, mut allowance) = (Duration::ZERO, Allowance::new(10, 25, Duration::from_secs(60)));
        let mut take =
            |key: u8, ip: [u8; 4]| allowance.take(PublicKey::from_bytes([key; 32]), ip.into(), 5, now) != Taken::No;
        assert!(take(1, [192, 0, 2, 1]) && take(1, [192, 0, 2, 1]) && !take(1, [192, 0, 2, 2]), "a key has so much");
        assert!(take(2, [192, 0, 2, 1]) && take(3, [192, 0, 2, 1]) && take(4, [192, 0, 2, 1]));
        assert!(!take(5, [192, 0, 2, 1]), "and so has an address");
        assert!(take(5, [192, 0, 2, 2]));
    }

    #[test]
    fn that_most_is_used_is_said_once_in_a_window_and_before_the_end() {
        let mut allowance = Allowance::new(10, 1000, Duration::from_secs(60));
        let (key, ip) = (PublicKey::from_bytes([1; 32]), IpAddr::from([192, 0, 2, 1]));
        let mut window = |start: u64| -> Vec<Taken> {
            (0..12).map(|n| allowance.take(key, ip, 1, Duration::from_secs(start + n))).collect()
        };
        let mut expected = vec![Taken::Yes; 7];
        expected.push(Taken::Nearly);
        expected.extend([Taken::Yes; 2]);
        expected.extend([Taken::No; 2]);
        let (first, second) = (window(0), window(60));
        assert_eq!((first, second), (expected.clone(), expected));
    }

    #[test]
    fn a_tightened_allowance_is_smaller_at_once_and_never_nothing() {
        let (now, mut attempts) = (Duration::ZERO, Attempts::new(20, Duration::from_secs(60)));
        attempts.tighten(10);
        assert_eq!((0..5).filter(|_| attempts.take(1, now)).count(), 2);
        attempts.tighten(u32::MAX);
        assert!(attempts.take(2, now) && !attempts.take(2, now));
        attempts.tighten(1);
        assert_eq!((0..30).filter(|_| attempts.take(1, now)).count(), 18);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let ip = |text: &str| source(text.parse().unwrap());
        assert_eq!(ip("2001:db8:1:2::1"), ip("2001:db8:1:2:ffff::9"));
        assert_ne!(ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
        assert_ne!(ip("192.0.2.2"), ip("192.0.2.1"));
    }
}
