//! What servers tell each other of bans passes here between the mesh and the core, which judges it.

use super::Relay;
use crate::mesh::NodeId;
use crate::server::io::Input;
use crate::wire::relay::Head;
use std::sync::Arc;

impl Relay {
    /// The core says something to one server, or to all.
    pub(in crate::server) fn gossip(&mut self, to: Option<NodeId>, head: &Head, body: &Arc<[u8]>) {
        let all = self.nodes.keys().copied().filter(|node| to.is_none_or(|to| to == *node));
        for node in all.collect::<Vec<_>>() {
            self.send_one(node, head, Arc::clone(body));
        }
    }

    pub(super) fn bans(&mut self, from: NodeId, known: bool, body: Arc<[u8]>) {
        if let Some(server) = self.nodes.get(&from).map(|node| node.name.clone()) {
            self.tell_core(if known {
                Input::BansKnown { from, server, body }
            } else {
                Input::Bans { from, server, body }
            });
        }
    }
}
