//! Reading logs from afar: a page is ten thousand times as long as what asks for it, so pages for one server leave at a pace that the way
//! there takes, and nobody there can fill it for the others.

use super::Relay;
use crate::limits::LOG_READS;
use crate::mesh::NodeId;
use crate::server::io::{Input, SessionId};
use crate::wire::frame::ToServer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What waits, by the server that it came through.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Servers for which much waits already.
    full: BTreeSet<NodeId>,
    queues: BTreeMap<NodeId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(SessionId, ToServer)>,
    since: Duration,
    begun: usize,
}

impl Reads {
    pub(super) fn due(&self) -> Option<Duration> {
        let free = self.queues.iter().filter(|(node, queue)| !queue.waiting.is_empty() && !self.full.contains(node));
        free.map(|(_, queue)| queue.since + PAUSE).min()
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.full.remove(&node);
        self.queues.remove(&node);
    }
}

impl Relay {
    /// A guest wants a page. Whether it may: with too many that wait, it does not keep to the rules.
    pub(super) fn read(&mut self, node: NodeId, session: SessionId, frame: ToServer) -> bool {
        let queue = self.reads.queues.entry(node).or_default();
        if queue.waiting.iter().filter(|(of, _)| *of == session).count() >= LOG_READS {
            return false;
        }
        queue.waiting.push_back((session, frame));
        self.begin_reads(node);
        true
    }

    /// So much waits for a server that what can wait has to; or no longer.
    pub(super) fn filled(&mut self, node: NodeId, full: bool) {
        if full {
            self.reads.full.insert(node);
        } else {
            self.reads.full.remove(&node);
            self.begin_reads(node);
        }
    }

    pub(super) fn begin_all_reads(&mut self) {
        let waiting = self.reads.queues.iter().filter(|(_, queue)| !queue.waiting.is_empty());
        let nodes: Vec<NodeId> = waiting.map(|(node, _)| *node).collect();
        nodes.into_iter().for_each(|node| self.begin_reads(node));
    }

    fn begin_reads(&mut self, node: NodeId) {
        if self.reads.full.contains(&node) {
            return;
        }
        let Some(queue) = self.reads.queues.get_mut(&node) else { return };
        if self.now >= queue.since + PAUSE {
            (queue.since, queue.begun) = (self.now, 0);
        }
        let mut begun = Vec::new();
        while queue.begun < AT_ONCE
            && let Some((session, frame)) = queue.waiting.pop_front()
        {
            // Who has gone meanwhile does not want it any more.
            if self.home.is_here(session) {
                queue.begun += 1;
                begun.push((session, frame));
            }
        }
        for (session, frame) in begun {
            self.tell_core(Input::Frame(session, frame));
        }
    }
}

/// So many pages for one server are read at once, of half a megabyte each at most,
const AT_ONCE: usize = 8;
/// and so many again after this time: 80 MB a second, unless the mesh says that it is too much.
const PAUSE: Duration = Duration::from_millis(50);
