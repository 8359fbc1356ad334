//! Four nodes in a chain in memory, as fast as they go. Time it with `SECCHAT_MESH_MESSAGES=5000000` and optimisation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use secchat::crypto::identity::Identity;
use secchat::mesh::record::number_at;
use secchat::mesh::{LinkId, Node, NodeConfig, NodeId, Output, PeerProof};
use secchat::wire::name::Name;
use secchat::wire::vouch::ServerTrust;

use crate::sim::WALL;

const NODES: usize = 4;
const NOW: Duration = Duration::from_secs(1);

#[test]
fn a_chain_of_four_in_memory() {
    let messages = std::env::var("SECCHAT_MESH_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(50_000u64);
    let mut chain = Chain::new();
    let far = chain.nodes[NODES - 1].id();
    let body: Arc<[u8]> = vec![0x5a; 300].into();
    let targets = [(far, vec![1; 24])];
    let mut sent = 0;
    while chain.delivered < messages {
        while sent < messages && chain.nodes[0].queued(far) < 2 << 20 {
            // About what a busy server takes in between two looks at its mesh.
            (0..64).for_each(|_| chain.nodes[0].send(chain.now, &targets, body.clone()));
            sent += 64;
            chain.step();
        }
        chain.step();
    }
    assert_eq!(chain.nodes[0].counts().repeated, 0);
    assert!(chain.nodes[NODES - 1].counts().delivered >= messages);
}

struct Chain {
    nodes: Vec<Node>,
    frames: Vec<VecDeque<(LinkId, Arc<[u8]>)>>,
    now: Duration,
    delivered: u64,
}

impl Chain {
    fn new() -> Self {
        let identities: Vec<_> = (1..=NODES as u8).map(|n| Identity::from_seed(&[n; 32])).collect();
        let name = |at: usize| Name::parse(&format!("s{at}")).unwrap();
        let listed = (0..NODES).map(|at| (name(at), identities[at].public().fingerprint())).collect();
        let trust = ServerTrust { authorities: Vec::new(), listed };
        let instance = number_at(WALL);
        let config = |at: usize| NodeConfig {
            identity: identities[at].clone(),
            name: name(at),
            vouch: None,
            trust: trust.clone(),
            endpoints: Vec::new(),
            instance,
            queue_bytes: 8 << 20,
        };
        let nodes = (0..NODES).map(|at| Node::new(config(at), NOW, WALL, [at as u8; 32])).collect();
        let mut chain = Self { nodes, frames: vec![VecDeque::new(); NODES], now: NOW, delivered: 0 };
        for at in 1..NODES {
            for (here, there) in [(at - 1, at), (at, at - 1)] {
                let (key, name) = (identities[there].public(), name(there));
                let proof = PeerProof { key, name, vouch: None, instance, parcels: true };
                chain.nodes[here].link_up(NOW, LinkId(at as u64), proof).unwrap();
            }
        }
        let ids: Vec<NodeId> = chain.nodes.iter().map(Node::id).collect();
        while !ids.iter().all(|a| chain.nodes.iter().all(|b| b.id() == *a || b.nodes().any(|info| info.id == *a))) {
            chain.step();
        }
        chain
    }

    /// Every node takes what has come, does what is due, and is drained.
    fn step(&mut self) {
        self.now += Duration::from_micros(50);
        for at in 0..NODES {
            for (link, frame) in std::mem::take(&mut self.frames[at]) {
                self.nodes[at].frame(self.now, link, &frame).unwrap();
            }
            if self.nodes[at].next_timeout().is_some_and(|due| due <= self.now) {
                self.nodes[at].timeout(self.now, WALL);
            }
            while let Some(output) = self.nodes[at].poll() {
                match output {
                    Output::Transmit { link, frame, .. } => {
                        let there = if link.0 as usize == at { at - 1 } else { at + 1 };
                        self.frames[there].push_back((link, frame));
                    }
                    Output::Delivered { .. } => self.delivered += 1,
                    _ => {}
                }
            }
        }
    }
}
