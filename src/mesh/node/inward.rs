//! Data frames from a neighbour: what is for us is delivered, the rest goes on or is dropped.

use std::time::Duration;

use super::super::delivery::Epochs;
use super::super::event::{Class, DownReason, LinkId, MeshLog, Output};
use super::super::incoming::Arrival;
use super::super::packet::{Data, HOPS_AT, Target};
use super::{Node, NodeId};

impl Node {
    pub(super) fn data(&mut self, now: Duration, link: LinkId, data: &Data<'_>, bytes: &[u8]) {
        self.settle();
        let known = self.topology.said(data.origin).map(|record| record.said().instance);
        if known != Some(data.instance) {
            self.counts.refused += 1;
            if known.is_none() {
                self.log(MeshLog::ForgedOrigin(data.origin));
            }
            return;
        }
        let me = self.topology.id();
        self.forward(link, data, bytes, me);
        let ours = data.targets.iter().zip(0u8..).find(|(target, _)| target.id == me);
        if let Some((target, place)) = ours {
            self.arrive(now, link, data, target, place);
        }
    }

    /// Passes it on towards its other targets.
    fn forward(&mut self, from: LinkId, data: &Data<'_>, bytes: &[u8], me: NodeId) {
        let ways: Vec<Option<LinkId>> = data.targets.iter().map(|target| self.way(from, data, target, me)).collect();
        let mut links: Vec<LinkId> = ways.iter().copied().flatten().collect();
        links.sort_unstable();
        links.dedup();
        let others = data.targets.iter().filter(|target| target.id != me).count();
        self.counts.dropped += u64::from(ways.iter().flatten().count() < others);
        for link in &links {
            let whole = ways.iter().all(|way| *way == Some(*link));
            self.scratch.clear();
            if whole {
                self.scratch.extend_from_slice(bytes);
                if let Some(hops) = self.scratch.get_mut(HOPS_AT) {
                    *hops = data.hops.saturating_sub(1);
                }
            } else {
                let wanted: Vec<bool> = ways.iter().map(|way| *way == Some(*link)).collect();
                data.write_part(&mut self.scratch, &wanted);
            }
            let class = if data.is_ack() { Class::Control } else { Class::Bulk };
            let frame = self.scratch.as_slice().into();
            self.outputs.push_back(Output::Transmit { link: *link, frame, class });
            self.counts.forwarded += 1;
        }
    }

    /// Where it goes on; nowhere if the way leads back: the neighbour that sent it knows better soon.
    fn way(&self, from: LinkId, data: &Data<'_>, target: &Target, me: NodeId) -> Option<LinkId> {
        if target.id == me || data.hops == 0 {
            return None;
        }
        let link = self.topology.route(target.id)?.link;
        (link != from).then_some(link)
    }

    fn arrive(&mut self, now: Duration, link: LinkId, data: &Data<'_>, target: &Target, place: u8) {
        let from = data.origin;
        let room = (EARLY_BYTES_ALL / self.remotes.len().max(1)).min(EARLY_BYTES);
        let ours = target.instance == self.topology.config().instance;
        if !ours || self.remotes.get(&from).is_none_or(|remote| !remote.up) {
            self.counts.refused += 1;
            return;
        }
        if !self.is_genuine(data, target, place) {
            self.counts.forged += 1;
            let through = self.topology.peer_of(link).unwrap_or(from);
            return self.log(MeshLog::ForgedPacket { origin: from, through });
        }
        let Some(remote) = self.remotes.get_mut(&from) else { return };
        let epochs = remote.streams.judge(now, target);
        if matches!(epochs, Epochs::Anew | Epochs::AnewAndVoid) {
            self.void(from, DownReason::Reset);
        }
        let Some(remote) = self.remotes.get_mut(&from).filter(|remote| remote.up) else { return };
        if matches!(epochs, Epochs::Void | Epochs::AnewAndVoid) {
            self.counts.refused += u64::from(!data.is_ack());
            remote.mark(from, &mut self.dirty);
            return;
        }
        if !remote.streams.outgoing.acknowledge(now, &target.ack) {
            self.counts.refused += 1;
            // It keeps to what it says: the two would never agree again, so both begin anew.
            remote.streams.reset(now);
            return self.void(from, DownReason::Reset);
        }
        let incoming = &mut remote.streams.incoming;
        let hears = !self.deaf;
        for message in data.messages().filter(|_| hears) {
            for to in message.targets().filter(|to| to.target == place) {
                // The sum was checked when the frame was read.
                let number = target.base.saturating_add(to.number);
                match incoming.take(now, number, to.head, message.body, room) {
                    Arrival::Again => self.counts.duplicates += 1,
                    Arrival::Early => {}
                    Arrival::Next => {
                        let (head, body) = (to.head.to_vec(), message.body.into());
                        self.outputs.push_back(Output::Delivered { from, head, body });
                        self.counts.delivered += 1;
                        while let Some((head, body)) = incoming.follow() {
                            self.outputs.push_back(Output::Delivered { from, head, body });
                            self.counts.delivered += 1;
                        }
                    }
                }
            }
        }
        remote.mark(from, &mut self.dirty);
    }

    /// Whether its origin has said all this to us.
    fn is_genuine(&mut self, data: &Data<'_>, target: &Target, place: u8) -> bool {
        let key = self.topology.pair(data.origin).map(|pair| &pair.theirs);
        key.is_some_and(|key| data.holds(target, place, key, &mut self.scratch))
    }
}

/// Bytes of one node's messages that may wait for those before them: twice what it has under way at most ...
const EARLY_BYTES: usize = 8 << 20;
/// ... and of all nodes together; what finds no place comes again.
const EARLY_BYTES_ALL: usize = 128 << 20;
