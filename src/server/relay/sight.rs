//! Servers to which no way leads: clients are told long before the mesh voids what waits for such a server.

use super::Relay;
use crate::mesh::{NodeId, NodeInfo};
use crate::wire::frame::Away;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who is out of sight, or will be if no way is found soon.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// No way leads there since a moment ago; when that has lasted too long.
    doubted: BTreeMap<NodeId, Duration>,
    lost: BTreeSet<NodeId>,
}

impl Sight {
    pub(super) fn due(&self) -> Option<Duration> {
        self.doubted.values().min().copied()
    }

    pub(super) fn is_lost(&self, node: &NodeId) -> bool {
        self.lost.contains(node)
    }

    /// Whether it was out of sight.
    pub(super) fn forget(&mut self, node: &NodeId) -> bool {
        self.doubted.remove(node);
        self.lost.remove(node)
    }
}

impl Relay {
    /// Whether a way leads to a server has become known.
    pub(super) fn looked(&mut self, info: &NodeInfo) {
        if !info.reachable {
            if !self.sight.is_lost(&info.id) {
                self.sight.doubted.entry(info.id).or_insert(self.now + PATIENCE);
            }
        } else if self.sight.forget(&info.id) {
            self.listing.gone(self.now);
        }
    }

    /// Ends the sessions of our clients at servers that have been unreachable for too long.
    pub(super) fn lose_sight(&mut self) {
        let due: Vec<NodeId> =
            self.sight.doubted.iter().filter(|(_, due)| **due <= self.now).map(|(n, _)| *n).collect();
        for node in due {
            self.sight.doubted.remove(&node);
            self.sight.lost.insert(node);
            self.leave(node, Away::Unreachable);
            self.listing.gone(self.now);
        }
    }
}

/// Another path is found sooner; a link that broke is mostly up again by then.
const PATIENCE: Duration = Duration::from_millis(500);
