//! Connections that were refused and links that were cut: counted all, told in the log so that no flood of them floods it.

use crate::limits::MESH_LOG_PAUSE;
use crate::mesh::link::{HandshakeError, LinkEnd};
use crate::net::accept::source_of;
use crate::wire::mesh_hello::MeshRefusal;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mishap {
    Busy,
    Evicted,
    Tls,
    OtherProtocol,
    Slow,
    Malformed,
    Version,
    NotTrusted,
    NameTaken,
    Linked,
    Former,
    Itself,
    Violation,
    Silent,
    Overflow,
}

impl Mishap {
    const ALL: [Self; 15] = [
        Self::Busy,
        Self::Evicted,
        Self::Tls,
        Self::OtherProtocol,
        Self::Slow,
        Self::Malformed,
        Self::Version,
        Self::NotTrusted,
        Self::NameTaken,
        Self::Linked,
        Self::Former,
        Self::Itself,
        Self::Violation,
        Self::Silent,
        Self::Overflow,
    ];

    /// For programs.
    const fn word(self) -> &'static str {
        match self {
            Self::Busy => "too_many",
            Self::Evicted => "evicted",
            Self::Tls => "no_tls",
            Self::OtherProtocol => "other_protocol",
            Self::Slow => "slow",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::NotTrusted => "not_trusted",
            Self::NameTaken => "name_taken",
            Self::Linked => "linked_already",
            Self::Former => "former",
            Self::Itself => "itself",
            Self::Violation => "violation",
            Self::Silent => "silent",
            Self::Overflow => "overflow",
        }
    }

    pub(super) const fn of_refusal(refusal: MeshRefusal) -> Self {
        match refusal {
            MeshRefusal::Version => Self::Version,
            MeshRefusal::NotTrusted => Self::NotTrusted,
            MeshRefusal::NameTaken => Self::NameTaken,
            MeshRefusal::Linked => Self::Linked,
            MeshRefusal::Itself => Self::Itself,
            MeshRefusal::Former => Self::Former,
            MeshRefusal::Busy | MeshRefusal::Leaving => Self::Busy,
        }
    }

    /// Of a connection that was not agreed to; `None` for one that just ended.
    pub(super) const fn of_handshake(error: &HandshakeError) -> Option<Self> {
        Some(match error {
            HandshakeError::Io(_) | HandshakeError::TheyRefuse(_) => return None,
            HandshakeError::Tls(_) => Self::Tls,
            HandshakeError::OtherProtocol => Self::OtherProtocol,
            HandshakeError::Deadline => Self::Slow,
            HandshakeError::Malformed => Self::Malformed,
            HandshakeError::WeRefuse(_, refusal) => Self::of_refusal(*refusal),
        })
    }

    /// Of a link that was cut; `None` for one that just ended.
    pub(super) const fn of_end(end: &LinkEnd) -> Option<Self> {
        match end {
            LinkEnd::Malformed(_) => Some(Self::Malformed),
            LinkEnd::Silent | LinkEnd::Stuck => Some(Self::Silent),
            LinkEnd::Overflow => Some(Self::Overflow),
            LinkEnd::Left
            | LinkEnd::Lost
            | LinkEnd::Refused(_)
            | LinkEnd::Io(_)
            | LinkEnd::Cut(_)
            | LinkEnd::Stopping => None,
        }
    }
}

/// All of them since the start.
#[derive(Debug, Default)]
pub(super) struct Mishaps {
    counts: [AtomicU64; Mishap::ALL.len()],
    told: Mutex<HashMap<(Mishap, IpAddr), Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

impl Mishaps {
    /// Counts one. `Some` if it is to be told now, with how many of its kind and address were not told since the last time.
    pub(super) fn count(&self, mishap: Mishap, address: IpAddr) -> Option<u64> {
        if let Some(count) = self.counts.get(mishap as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let old = |told: &Told| now.duration_since(told.at) >= MESH_LOG_PAUSE;
        let source = source_of(address);
        if let Some(earlier) = told.get_mut(&(mishap, source)) {
            if !old(earlier) {
                earlier.since += 1;
                return None;
            }
            let since = std::mem::replace(earlier, Told { at: now, since: 0 }).since;
            return Some(since);
        }
        if told.len() >= SOURCES_MAX {
            told.retain(|_, told| !old(told));
        }
        // So many addresses at once are one flood.
        (told.len() < SOURCES_MAX).then(|| {
            told.insert((mishap, source), Told { at: now, since: 0 });
            0
        })
    }

    /// How many of each kind, by its word.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Mishap::ALL.iter().map(|mishap| mishap.word()).zip(counts).collect()
    }
}

/// Addresses and kinds that are told apart.
const SOURCES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_whole_and_told_once() {
        let mishaps = Mishaps::default();
        let told = (0..10_000).filter(|_| mishaps.count(Mishap::Tls, [192, 0, 2, 1].into()).is_some()).count();
        assert_eq!(told, 1);
        assert_eq!(mishaps.count(Mishap::NotTrusted, [192, 0, 2, 1].into()), Some(0), "another kind is told too");
        let many = (0..10_000u32).filter(|n| mishaps.count(Mishap::Tls, IpAddr::from(n.to_be_bytes())).is_some());
        assert!(many.count() < SOURCES_MAX);
        assert!(mishaps.counts().contains(&("no_tls", 20_000)));
    }
}
