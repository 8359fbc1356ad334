//! One server's part in the mesh, put together: takes one input and the time, then is drained of outputs.

use std::sync::Arc;
use std::time::Duration;

use super::event::{LinkId, MeshCounts, NodeConfig, NodeInfo, Output, PeerProof, Refused, Violation};
use crate::wire::vouch::NodeId;

/// A node. After each input, or several at once, drain [`poll`](Self::poll): packets are put together there, so what is
/// given in one go leaves in few frames. Then sleep until [`next_timeout`](Self::next_timeout).
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
}

impl Node {
    /// A node without links. `wall_ms` is the Unix clock; `seed` spreads its timers.
    pub fn new(config: NodeConfig, now: Duration, wall_ms: u64, seed: [u8; 32]) -> Self {
        let _ = (now, wall_ms, seed);
        Self { config }
    }

    /// A link has come up, both hellos are said. Of two links dialled at once the driver keeps one; here the second is
    /// refused unless the peer is a newer process, then the first is cut.
    pub fn link_up(&mut self, now: Duration, link: LinkId, peer: PeerProof) -> Result<(), Refused> {
        let _ = (now, link, peer);
        Ok(())
    }

    /// The link is gone. Unknown links are ignored.
    pub fn link_down(&mut self, now: Duration, link: LinkId) {
        let _ = (now, link);
    }

    /// A ping on the link took this long.
    pub fn round_trip(&mut self, now: Duration, link: LinkId, rtt: Duration) {
        let _ = (now, link, rtt);
    }

    /// Whether the link's queue for bulk is full. While it is, our own messages wait and those of others are dropped.
    pub fn link_full(&mut self, now: Duration, link: LinkId, full: bool) {
        let _ = (now, link, full);
    }

    /// A frame has come on the link. Frames whose first byte is [`LINK_KIND`](super::packet::LINK_KIND) or more (hello,
    /// pings) are the driver's own and never come here.
    pub fn frame(&mut self, now: Duration, link: LinkId, bytes: &[u8]) -> Result<(), Violation> {
        let _ = (now, link, bytes);
        Ok(())
    }

    /// Sends to each target its head and to all the body: once, and in order for each target. Targets that are not
    /// [`Output::Up`], and ourselves, are ignored. A head has at most [`HEAD_MAX`](super::packet::HEAD_MAX) bytes, a body
    /// [`BODY_MAX`](super::packet::BODY_MAX); longer ones are not sent.
    pub fn send(&mut self, now: Duration, targets: &[(NodeId, Vec<u8>)], body: Arc<[u8]>) {
        let _ = (now, targets, body);
    }

    /// To be called at [`next_timeout`](Self::next_timeout), or earlier.
    pub fn timeout(&mut self, now: Duration, wall_ms: u64) {
        let _ = (now, wall_ms);
    }

    /// When [`timeout`](Self::timeout) must be called.
    pub fn next_timeout(&self) -> Option<Duration> {
        None
    }

    /// The next thing to do. Call until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }

    /// Other nodes that were not [`Output::Down`] since their [`Output::Up`].
    pub fn nodes(&self) -> impl Iterator<Item = NodeInfo> + '_ {
        std::iter::empty()
    }

    /// Every known link of the mesh with its round trip, each once.
    pub fn edges(&self) -> impl Iterator<Item = (NodeId, NodeId, Duration)> + '_ {
        std::iter::empty()
    }

    /// The nodes on the way to `target`, it included; none without a path.
    pub fn path(&self, target: NodeId) -> Option<Vec<NodeId>> {
        let _ = target;
        None
    }

    /// Bytes that wait or are under way for `target`: whoever sends much keeps this well below
    /// [`queue_bytes`](NodeConfig::queue_bytes).
    pub fn queued(&self, target: NodeId) -> usize {
        let _ = target;
        0
    }

    /// Our own id.
    pub fn id(&self) -> NodeId {
        NodeId::of(&self.config.identity.public())
    }

    /// What was counted.
    pub fn counts(&self) -> MeshCounts {
        MeshCounts::default()
    }
}
