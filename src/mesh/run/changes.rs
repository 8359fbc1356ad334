//! Links and servers that come and go: each change is told in the log, but of one that flutters only some and how it ends.

use crate::limits::MESH_LOG_PAUSE;
use crate::mesh::NodeId;
use std::collections::BTreeMap;
use std::time::Instant;

/// What comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Our link with a server.
    Link,
    /// A server of the mesh.
    Server,
}

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Changes {
    told: BTreeMap<(What, NodeId), Change>,
    /// There are changes that were not told.
    untold: bool,
}

#[derive(Debug)]
struct Change {
    /// Lines that may still be told at once, at this time.
    left: u32,
    at: Instant,
    /// Changes that were not told since the last that was.
    untold: u64,
}

impl Changes {
    /// Counts a change; whether it is to be told now.
    pub(super) fn tells(&mut self, what: What, node: NodeId, now: Instant) -> bool {
        if self.told.len() >= KEPT {
            self.told.retain(|_, change| change.refill(now) < BURST || change.untold > 0);
        }
        let change = self.told.entry((what, node)).or_insert(Change { left: BURST, at: now, untold: 0 });
        // Those not told yet have to be told first, with how it stands then.
        let tells = change.refill(now) > 0 && change.untold == 0;
        if tells {
            change.left -= 1;
        } else {
            change.untold += 1;
            self.untold = true;
        }
        tells
    }

    /// What has come and gone untold and may be told now, with how often.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(What, NodeId, u64)> {
        let mut due = Vec::new();
        if !self.untold {
            return due;
        }
        for ((what, node), change) in &mut self.told {
            if change.untold > 0 && change.refill(now) > 0 {
                change.left -= 1;
                due.push((*what, *node, std::mem::take(&mut change.untold)));
            }
        }
        self.untold = self.told.values().any(|change| change.untold > 0);
        due
    }
}

impl Change {
    fn refill(&mut self, now: Instant) -> u32 {
        while self.left < BURST && now.saturating_duration_since(self.at) >= MESH_LOG_PAUSE {
            self.left += 1;
            self.at += MESH_LOG_PAUSE;
        }
        if self.left == BURST {
            self.at = now;
        }
        self.left
    }
}

/// So many lines at once, and one more in each [`MESH_LOG_PAUSE`].
const BURST: u32 = 6;
/// Beyond this those that were quiet are forgotten; there is no more than that of others.
const KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NODE: NodeId = NodeId([1; 32]);

    #[test]
    fn what_changes_now_and_then_is_told_each_time() {
        let (mut changes, start) = (Changes::default(), Instant::now());
        let told = (0..100).filter(|n| changes.tells(What::Link, NODE, start + MESH_LOG_PAUSE * *n)).count();
        assert_eq!((told, changes.due(start + MESH_LOG_PAUSE * 100)), (100, Vec::new()));
    }

    #[test]
    fn what_flutters_is_told_seldom_and_how_it_ends_is_told() {
        let (mut changes, start) = (Changes::default(), Instant::now());
        let mut lines = 0;
        for n in 0..1000 {
            let now = start + Duration::from_millis(100) * n;
            lines += changes.due(now).len();
            lines += usize::from(changes.tells(What::Link, NODE, now));
        }
        assert!(lines <= 16, "{lines} lines in 100 seconds");
        let end = start + Duration::from_secs(100) + MESH_LOG_PAUSE;
        let due = changes.due(end);
        assert!(matches!(due[..], [(What::Link, NODE, untold)] if untold > 50), "{due:?}");
        assert!(changes.due(end).is_empty());
        assert!(changes.tells(What::Server, NODE, end) && changes.tells(What::Link, NodeId([2; 32]), end));
    }
}
