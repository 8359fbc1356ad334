//! A test tool: harms what leaves and what comes, as `--inject` says.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::channel::impair::{Impair, Spec};

/// A bad path in front of our socket, both ways alike.
#[derive(Debug)]
pub(super) struct Harm {
    out: Way,
    back: Way,
}

/// One way, and what is on it.
#[derive(Debug)]
struct Way {
    impair: Impair,
    // By the time of arrival, and in order.
    held: BTreeMap<(Duration, u64), (SocketAddr, Vec<u8>)>,
    count: u64,
}

impl Harm {
    pub(super) fn new(spec: &Spec) -> Self {
        // Each way throws its own dice.
        let way = |salt| Way::new(Spec { seed: spec.seed.wrapping_mul(2).wrapping_add(salt), ..*spec });
        Self { out: way(0), back: way(1) }
    }

    /// A datagram of ours leaves.
    pub(super) fn leaves(&mut self, now: Duration, to: SocketAddr, datagram: &[u8]) {
        self.out.offer(now, to, datagram);
    }

    /// One of ours that has come to the end of the bad path.
    pub(super) fn left(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.poll(now)
    }

    /// A datagram comes.
    pub(super) fn comes(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        self.back.offer(now, from, datagram);
    }

    /// One that has come to our end.
    pub(super) fn came(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        self.back.poll(now)
    }

    /// When the next one arrives somewhere.
    pub(super) fn next_at(&self) -> Option<Duration> {
        let first = |way: &Way| way.held.first_key_value().map(|((at, _), _)| Reverse(*at));
        first(&self.out).max(first(&self.back)).map(|Reverse(at)| at)
    }
}

impl Way {
    fn new(spec: Spec) -> Self {
        Self { impair: Impair::new(spec), held: BTreeMap::new(), count: 0 }
    }

    fn offer(&mut self, now: Duration, addr: SocketAddr, datagram: &[u8]) {
        let (held, count) = (&mut self.held, &mut self.count);
        self.impair.offer(now, datagram, &mut |due, bytes| {
            *count += 1;
            held.insert((due, *count), (addr, bytes));
        });
    }

    fn poll(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let first = self.held.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}
