//! How large a datagram the path carries: probes of a few sizes, and the sign that a proven size no longer passes
//! (RFC 8899).

use std::net::SocketAddr;
use std::time::Duration;

use super::rtt::Rtt;
use crate::wire::packet::{BASE_DATAGRAM, MAX_DATAGRAM};

#[derive(Debug)]
pub(super) struct Sizes {
    // Bytes of the largest datagram that is known to pass.
    current: usize,
    // Sizes above it that are not answered yet, at most those of SIZES.
    open: Vec<Probe>,
    // Rounds in which large datagrams were lost while small ones arrived, and the first packet of the next one.
    rounds: u32,
    round_starts: u64,
    // A small datagram has arrived since the last large one did.
    small_arrived: bool,
}

#[derive(Debug)]
struct Probe {
    size: usize,
    sent: u32,
    due: Duration,
}

impl Sizes {
    pub(super) fn new() -> Self {
        Self { current: BASE_DATAGRAM, open: Vec::new(), rounds: 0, round_starts: 0, small_arrived: false }
    }

    /// Bytes of a full datagram.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The path leads to `addr` now: looks for what it carries, up to `max` bytes.
    pub(super) fn on_path(&mut self, now: Duration, addr: SocketAddr, max: usize) {
        let passes = |size: &usize| *size > self.current && *size <= max && (*size <= JUMBO || addr.ip().is_loopback());
        self.open = SIZES.into_iter().filter(passes).map(|size| Probe { size, sent: 0, due: now }).collect();
        self.rounds = 0;
        self.small_arrived = false;
    }

    /// What was proven was another path's.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }

    /// When the next probe is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.open.iter().map(|probe| probe.due).min()
    }

    /// A size to probe now.
    pub(super) fn next_probe(&mut self, now: Duration, rtt: &Rtt) -> Option<usize> {
        self.open.retain(|probe| probe.due > now || probe.sent < TRIES);
        let probe = self.open.iter_mut().find(|probe| probe.due <= now)?;
        probe.due = now + rtt.timeout(probe.sent);
        probe.sent += 1;
        Some(probe.size)
    }

    /// The peer got a probe of `size` bytes. Returns whether datagrams grow.
    pub(super) fn on_confirmed(&mut self, size: usize) -> bool {
        let probed = self.open.iter().any(|probe| probe.size == size && probe.sent > 0);
        if probed {
            self.current = size;
            self.open.retain(|probe| probe.size > size);
        }
        probed
    }

    /// A datagram of `bytes` bytes has arrived.
    pub(super) fn on_arrived(&mut self, bytes: usize) {
        if bytes > BASE_DATAGRAM {
            self.rounds = 0;
            self.small_arrived = false;
        } else {
            self.small_arrived = true;
        }
    }

    /// The datagram `packet` of `bytes` bytes is lost; `upcoming` is the next packet number. Returns whether that makes
    /// too many rounds.
    pub(super) fn on_lost(&mut self, packet: u64, bytes: usize, upcoming: u64) -> bool {
        if bytes <= BASE_DATAGRAM || !self.small_arrived || packet < self.round_starts {
            return false;
        }
        self.rounds += 1;
        self.round_starts = upcoming;
        self.small_arrived = false;
        self.rounds >= MAX_ROUNDS
    }
}

/// Ethernet's over IPv6 with room for a tunnel, jumbo frames, and what loopback takes.
const SIZES: [usize; 3] = [1_452, JUMBO, MAX_DATAGRAM];
const JUMBO: usize = 8_900;
/// Times that each size is probed.
const TRIES: u32 = 3;
/// Large datagrams that are lost one after the other while small ones arrive: at 20 % loss that happens by chance once
/// in 400,000 times.
const MAX_ROUNDS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);
    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    fn probed(sizes: &mut Sizes, now: Duration) -> Vec<usize> {
        std::iter::from_fn(|| sizes.next_probe(now, &Rtt::default())).collect()
    }

    #[test]
    fn each_size_is_tried_three_times_and_only_loopback_gets_the_largest() {
        let mut sizes = Sizes::new();
        sizes.on_path(NOW, ([192, 0, 2, 1], 9).into(), MAX_DATAGRAM);
        assert_eq!(probed(&mut sizes, NOW), [1_452, 8_900]);
        assert!(probed(&mut sizes, NOW).is_empty());
        assert!(sizes.on_confirmed(1_452) && !sizes.on_confirmed(1_452));
        let mut tries = 1;
        while let Some(due) = sizes.due() {
            tries += probed(&mut sizes, due).len();
        }
        assert_eq!((tries, sizes.current()), (3, 1_452));
        sizes.on_path(NOW, LOOPBACK, 10_000);
        assert_eq!(probed(&mut sizes, NOW), [8_900]);
        sizes.on_path(NOW, LOOPBACK, MAX_DATAGRAM);
        assert!(!sizes.on_confirmed(MAX_DATAGRAM), "it was not probed yet");
        assert_eq!(probed(&mut sizes, NOW), [8_900, MAX_DATAGRAM]);
        assert!(sizes.on_confirmed(MAX_DATAGRAM));
        assert!(!sizes.on_confirmed(8_900), "a late answer makes nothing smaller");
        assert_eq!((sizes.current(), sizes.due()), (MAX_DATAGRAM, None));
    }

    #[test]
    fn large_ones_lost_again_and_again_while_small_ones_arrive_are_a_smaller_path() {
        let mut sizes = Sizes::new();
        for packet in 0..100 {
            assert!(!sizes.on_lost(packet, 1_452, packet + 1), "nothing arrives at all");
        }
        let round = |sizes: &mut Sizes, packet| {
            sizes.on_arrived(60);
            (packet..packet + 5).any(|lost| sizes.on_lost(lost, 1_452, packet + 10))
        };
        for number in 10..10 + u64::from(MAX_ROUNDS) - 1 {
            assert!(!round(&mut sizes, number * 10));
        }
        assert!(round(&mut sizes, 1_000));
        sizes.on_arrived(1_452);
        assert!(!round(&mut sizes, 1_010));
    }
}
